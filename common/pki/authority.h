// Authority: makes certificates and lists of those that are revoked.
//
// There are two of them in a cluster. The root signs the certificates of coordinators and users, and the
// authority for workers, whose name constraint (a URI of host "worker", no host names) and extended key
// usage (clients alone) keep it from making any other. A coordinator has the latter, and not the former.
//
// Threading: thread-safe once it is made. Serial numbers are 127 random bits.
// Errors:    InvalidArgument, in whose texts nothing of a key is:
//   TLS_FILE_UNREADABLE      a text is not what it should be, or its certificate not one of an authority
//   TLS_KEY_ENCRYPTED        a key needs a passphrase
//   TLS_KEY_MISMATCH         the key is not the certificate's
//   TLS_CERT_OUT_OF_DATE     the authority has ended
//   SIGNING_REQUEST_INVALID  a request cannot be read, has a weak key, or is not signed by it
//   IDENTITY_INVALID         the name is not as base::IsValidId() has it
//   HOST_INVALID             a host is neither a name, *.DOMAIN nor an address, or there are more than 100
//   SERIAL_INVALID           a serial number is not 1 to 40 hexadecimal digits
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/pki/certificate.h"
#include "common/pki/identity.h"

namespace espalier::pki {

// Of a certificate that is to be made. It begins five minutes before `now`, since clocks differ.
struct Subject {
  Identity identity;
  std::vector<std::string> hosts = {};  // host names and addresses; with any it may serve
  absl::Time now;
  absl::Duration lifetime;  // from `now`; cut to the authority's end
};

// An authority's certificate (PEM, with those between it and the root behind it) and key (PEM).
struct AuthorityFiles {
  std::string certificate;
  std::string key;
};

AuthorityFiles NewRoot(absl::Time now, absl::Duration lifetime);
absl::StatusOr<AuthorityFiles> NewWorkerAuthority(const AuthorityFiles& root, absl::Time now,
                                                  absl::Duration lifetime);
// The same with its name and key, for longer: what it signed stays valid. `workers` may have ended.
absl::StatusOr<AuthorityFiles> RenewWorkerAuthority(const AuthorityFiles& root,
                                                    const AuthorityFiles& workers, absl::Time now,
                                                    absl::Duration lifetime);

class Authority {
 public:
  static absl::StatusOr<Authority> Load(const AuthorityFiles& files);
  ~Authority();
  Authority(Authority&&) noexcept;
  Authority& operator=(Authority&&) noexcept;

  // For the public key of `key`, a private key in PEM. The result has certificates between it and the
  // root behind it.
  absl::StatusOr<std::string> Issue(const Subject& subject, std::string_view key) const;
  // For the key that signed a request; nothing else of the request is used. It must be P-256, P-384,
  // Ed25519, or RSA of 2,048 to 4,096 bits.
  absl::StatusOr<std::string> Sign(const Subject& subject, std::string_view signing_request) const;
  // A list (PEM) of this authority's certificates that are revoked: `serials` as Certificate has them.
  absl::StatusOr<std::string> Revoke(const std::vector<std::string>& serials, absl::Time now,
                                     absl::Duration lifetime) const;
  absl::Time not_after() const;

 private:
  struct State;
  explicit Authority(std::unique_ptr<State> state);

  std::unique_ptr<State> state_;
};

}  // namespace espalier::pki
