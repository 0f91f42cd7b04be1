// Register: which certificates were issued from a folder, and which are revoked. It is a text of one JSON object a line
// (authority/issued.jsonl), to which lines are only added.
//
// Threading: not thread-safe.
// Errors:    FailedPrecondition CERT_REGISTER_DAMAGED with the number of the line.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/pki/identity.h"

namespace espalier::cli::cert {

enum class Signer { kRoot, kWorkers };

struct Issued {
  pki::Identity identity;
  std::vector<std::string> hosts;
  std::string serial;  // as pki::Certificate has it
  Signer signer = Signer::kRoot;
  int days = 0;  // that were asked for; a renewal asks for as many
  absl::Time not_after;
};

class Register {
 public:
  static absl::StatusOr<Register> Parse(std::string_view text);

  void AddIssued(const Issued& issued, absl::Time now);
  // Nothing changes when it is revoked already.
  void AddRevoked(Signer signer, const std::string& serial, absl::Time now);

  // In the order in which they were issued.
  const std::vector<Issued>& issued() const { return issued_; }
  // Null where there is none of that name.
  const Issued* Newest(std::string_view name) const;
  bool IsRevoked(Signer signer, const std::string& serial) const {
    return revoked_.contains({signer, serial});
  }
  std::vector<std::string> Revoked(Signer signer) const;
  const std::string& text() const { return text_; }

 private:
  absl::Status ParseLine(std::string_view text, int number);

  std::vector<Issued> issued_;
  std::set<std::pair<Signer, std::string>> revoked_;
  std::string text_;
};

}  // namespace espalier::cli::cert
