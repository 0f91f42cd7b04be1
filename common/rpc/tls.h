// PEM files for TLS: read and checked before gRPC sees them, which says little of what is wrong
// with one and asks the terminal for the passphrase of an encrypted key.
//
// Errors: InvalidArgument, each naming the file:
//   TLS_FILE_UNREADABLE   missing, without permission, too large, or not what it should be
//   TLS_KEY_ENCRYPTED     the key needs a passphrase
//   TLS_KEY_MISMATCH      the key does not belong to the certificate
//   TLS_CERT_OUT_OF_DATE  the certificate has expired, or is not valid yet
// Threading: pure functions of the files and the wall clock.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace espalier::rpc {

// Owns an object of OpenSSL.
template <typename T, auto Free>
struct OpenSslDeleter {
  void operator()(T* object) const { Free(object); }
};
template <typename T, auto Free>
using OpenSsl = std::unique_ptr<T, OpenSslDeleter<T, Free>>;

// The text of a file of certificates that are trusted.
absl::StatusOr<std::string> ReadAuthorities(const std::string& path);

// The texts of a certificate (with those between it and the authority, if any) and of its key.
struct KeyPair {
  std::string certificate;
  std::string key;
};
absl::StatusOr<KeyPair> ReadKeyPair(const std::string& certificate_path,
                                    const std::string& key_path);

// "CN = ca, O = Example", printable.
std::string NameOf(const X509_NAME* name);
// "2026-03-01 12:00:00 UTC"
std::string DateOf(const ASN1_TIME* time);
// The host names and addresses that a certificate is for: "localhost, 127.0.0.1".
std::string HostsOf(X509* certificate);

}  // namespace espalier::rpc
