// Gate: who makes a call, and whether he may.
//
// Every call passes it, also one on a connection that was made long ago: what has expired or was revoked
// since counts at once.
//
// Memory:    what was read of the certificates of up to 4,096 callers.
// Threading: thread-safe.
// Errors:    Unauthenticated CREDENTIALS_MISSING, TOKEN_WITHOUT_TLS, TOKEN_UNKNOWN, TOKEN_EXPIRED,
//            CERTIFICATE_EXPIRED, CERTIFICATE_REVOKED, CERTIFICATE_WITHOUT_ROLE; PermissionDenied
//            ROLE_NOT_ALLOWED.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/pki/certificate.h"
#include "server/access/caller.h"
#include "server/access/registry.h"

namespace espalier::server::access {

class Gate {
 public:
  // Whether an authority has revoked a certificate, by its own list.
  using IsRevoked = std::function<bool(const pki::Certificate&)>;

  // Open: nobody is asked who he is.
  Gate(const base::Clock& clock, const Registry& registry) : clock_(clock), registry_(registry) {}
  // `is_revoked` is thread-safe. `registry` is borrowed.
  Gate(const base::Clock& clock, const Registry& registry, IsRevoked is_revoked)
      : clock_(clock), registry_(registry), is_revoked_(std::move(is_revoked)) {}

  bool is_open() const { return !is_revoked_; }
  // For a call of this name, "GetJob".
  absl::StatusOr<Caller> Admit(const Credentials& credentials, std::string_view call) const;
  // Who somebody is, whatever he may do. Not where the gate is open.
  absl::StatusOr<Caller> Identify(const Credentials& credentials) const;
  // Whether somebody who was admitted would be still.
  absl::Status StillGood(const Caller& caller) const;

 private:
  absl::StatusOr<Caller> OfCertificate(const std::string& pem) const;
  using Chain = std::shared_ptr<const std::vector<pki::Certificate>>;
  absl::StatusOr<Chain> Read(const std::string& pem) const;
  absl::Status Check(const std::vector<pki::Certificate>& chain) const;

  const base::Clock& clock_;
  const Registry& registry_;
  const IsRevoked is_revoked_;
  mutable base::Mutex mutex_;
  mutable std::unordered_map<std::string, Chain> chains_ ABSL_GUARDED_BY(mutex_);  // by their texts
};

}  // namespace espalier::server::access
