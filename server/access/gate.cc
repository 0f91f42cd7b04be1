#include "server/access/gate.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "common/base/status.h"
#include "server/access/permissions.h"

namespace espalier::server::access {
namespace {

constexpr size_t kMaxChains = 4096;
constexpr absl::string_view kBearer = "Bearer ";

absl::Status Unknown(std::string_view reason, const std::string& message) {
  return base::MakeError(absl::StatusCode::kUnauthenticated, reason, message);
}

std::string DateOf(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", time, absl::UTCTimeZone());
}

absl::Status Missing() {
  return Unknown("CREDENTIALS_MISSING",
                 "expected a client certificate or a token with the call, found neither; give "
                 "--tls-dir (or a certificate and its key), or a token's file");
}

}  // namespace

absl::StatusOr<Caller> Gate::Admit(const Credentials& credentials, std::string_view call) const {
  if (is_open()) {
    Caller everybody;
    everybody.peer = credentials.peer;
    return everybody;
  }
  const Permission* permission = PermissionOf(call);
  absl::StatusOr<Caller> caller = Identify(credentials);
  if (!caller.ok() && permission != nullptr && permission->anybody) {
    Caller somebody{.source = Caller::Source::kToken, .role = pki::Role::kViewer};
    somebody.peer = credentials.peer;
    return somebody;
  }
  ESPALIER_RETURN_IF_ERROR(caller.status());
  ESPALIER_RETURN_IF_ERROR(Allow(*caller, call));
  return caller;
}

absl::StatusOr<Caller> Gate::Identify(const Credentials& credentials) const {
  absl::StatusOr<Caller> caller = Missing();
  if (!credentials.authorization.empty()) {
    if (!credentials.tls) {
      return Unknown("TOKEN_WITHOUT_TLS",
                     "expected a token inside TLS alone, found one that everybody on the way could "
                     "read; revoke it, make another one, and use TLS");
    }
    if (!absl::StartsWithIgnoreCase(credentials.authorization, kBearer)) {
      return Unknown("TOKEN_UNKNOWN",
                     "expected 'authorization: Bearer TOKEN', found another form of it");
    }
    caller = registry_.FindUser(std::string(absl::StripAsciiWhitespace(
        absl::ClippedSubstr(credentials.authorization, kBearer.size()))));
  } else if (credentials.tls && !credentials.certificates.empty()) {
    caller = OfCertificate(credentials.certificates);
  }
  if (caller.ok()) caller->peer = credentials.peer;
  return caller;
}

absl::StatusOr<Gate::Chain> Gate::Read(const std::string& pem) const {
  {
    const base::MutexLock lock(mutex_);
    const auto at = chains_.find(pem);
    if (at != chains_.end()) return at->second;
  }
  std::vector<pki::Certificate> chain;
  for (const std::string& one : pki::SplitCertificates(pem)) {
    ESPALIER_ASSIGN_OR_RETURN(chain.emplace_back(), pki::ReadCertificate(one));
  }
  if (chain.empty()) return Missing();
  auto read = std::make_shared<const std::vector<pki::Certificate>>(std::move(chain));
  const base::MutexLock lock(mutex_);
  if (chains_.size() >= kMaxChains) chains_.clear();
  chains_[pem] = read;
  return read;
}

absl::Status Gate::Check(const std::vector<pki::Certificate>& chain) const {
  const absl::Time now = clock_.Wall();
  for (const pki::Certificate& certificate : chain) {
    if (now >= certificate.not_after) {
      return Unknown("CERTIFICATE_EXPIRED",
                     "expected a client certificate that is valid now (" + DateOf(now) +
                         "), found that " + certificate.subject + " expired on " +
                         DateOf(certificate.not_after) + "; renew it and connect again");
    }
    if (is_revoked_(certificate) || registry_.IsRevoked(certificate.serial)) {
      return Unknown("CERTIFICATE_REVOKED",
                     "expected a client certificate that its authority stands by, found that " +
                         certificate.subject + " (serial number " + certificate.serial +
                         ") was revoked; ask for another one");
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Caller> Gate::OfCertificate(const std::string& pem) const {
  ESPALIER_ASSIGN_OR_RETURN(const Chain chain, Read(pem));
  ESPALIER_RETURN_IF_ERROR(Check(*chain));
  const pki::Certificate& certificate = chain->front();
  if (!certificate.identity.has_value()) {
    return Unknown("CERTIFICATE_WITHOUT_ROLE",
                   "expected one URI espalier://ROLE/NAME among the subject alternative names of "
                   "the certificate " +
                       certificate.subject +
                       ", found none that says who it is for; make one with `espalier cert issue`");
  }
  return Caller{.source = Caller::Source::kCertificate,
                .role = certificate.identity->role,
                .name = certificate.identity->name,
                .credential = certificate.serial,
                .expires = certificate.not_after,
                .certificates = chain};
}

absl::Status Gate::StillGood(const Caller& caller) const {
  switch (caller.source) {
    case Caller::Source::kOpen:
      return absl::OkStatus();
    case Caller::Source::kToken:
      return registry_.CheckToken(caller.credential);
    case Caller::Source::kCertificate:
      return Check(*caller.certificates);
  }
  return absl::OkStatus();
}

}  // namespace espalier::server::access
