// Revocations: which certificates their authorities have revoked.
//
// Threading: immutable once it is made.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/pki/certificate.h"

namespace espalier::pki {

class Revocations {
 public:
  // Nothing is revoked.
  Revocations() = default;
  // `lists` has any number of lists (PEM), `authorities` the certificates (PEM) that may have signed them.
  // Errors: InvalidArgument CRL_INVALID: what is no list, or signed by none of them. A list whose time of
  // renewal has passed is used on: it still says what is revoked.
  static absl::StatusOr<Revocations> Parse(std::string_view lists, std::string_view authorities);

  bool Contains(const Certificate& certificate) const;
  size_t size() const { return revoked_.size(); }
  // When the first of the lists should be renewed; the infinite future where there is none.
  absl::Time next_update() const { return next_update_; }

 private:
  std::set<std::pair<std::string, std::string>> revoked_;  // key of the authority, serial number
  absl::Time next_update_ = absl::InfiniteFuture();
};

}  // namespace espalier::pki
