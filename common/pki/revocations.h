// Revocations: which certificates their authorities have revoked.
//
// Threading: immutable once it is made.
#pragma once

#include <compare>
#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/pki/certificate.h"

namespace espalier::pki {

class Revocations {
 public:
  // Nothing is revoked.
  Revocations() = default;
  // `lists` has any number of lists (PEM), `authorities` the certificates (PEM) that may have signed them.
  // Errors: InvalidArgument CRL_INVALID: what is no list, a list of changes alone or of other authorities'
  // certificates, more than 16 MiB, or signed by none of them. A list whose time of renewal has passed is
  // used on: it still says what is revoked.
  static absl::StatusOr<Revocations> Parse(std::string_view lists, std::string_view authorities);

  // Of a chain, ask for each certificate.
  bool Contains(const Certificate& certificate) const;
  size_t size() const { return revoked_.size(); }
  // When the first of the lists should be renewed; the infinite future where there is none.
  absl::Time next_update() const { return next_update_; }

 private:
  struct Revoked {
    std::string serial;
    std::string issuer_key;  // "" where the authority has no key identifier
    std::string issuer;

    auto operator<=>(const Revoked&) const = default;
  };

  std::set<Revoked> revoked_;
  absl::Time next_update_ = absl::InfiniteFuture();
};

}  // namespace espalier::pki
