// PEM files for TLS: read and checked before gRPC sees them, which says little of what is wrong
// with one and asks the terminal for the passphrase of an encrypted key.
//
// Errors: InvalidArgument, each naming the file:
//   TLS_FILE_UNREADABLE   missing, without permission, too large, or not what it should be
//   TLS_KEY_ENCRYPTED     the key needs a passphrase, or another one
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

// Bundles of all public authorities take 250 KiB.
inline constexpr size_t kMaxPemBytes = 4 * 1024 * 1024;

// The text of a file, in which there is something in PEM. `expected` says what, for the error.
absl::StatusOr<std::string> ReadPem(const std::string& path, const std::string& expected,
                                    size_t max_bytes = kMaxPemBytes);
// The text of a file of certificates that are trusted.
absl::StatusOr<std::string> ReadAuthorities(const std::string& path);

// The texts of a certificate (with those between it and the authority, if any) and of its key, which
// is decrypted with the passphrase in `passphrase_path` where it is encrypted.
struct KeyPair {
  std::string certificate;
  std::string key;

  bool operator==(const KeyPair&) const = default;
};
absl::StatusOr<KeyPair> ReadKeyPair(const std::string& certificate_path,
                                    const std::string& key_path,
                                    const std::string& passphrase_path = "");

// A secret that is alone in a file, such as a token or a passphrase: its first line without the spaces
// around it. Errors: SECRET_UNREADABLE, which says nothing of what is in the file.
absl::StatusOr<std::string> ReadSecret(const std::string& path, const std::string& what);

// Takes what a folder of certificates has (ADR 24) for each path that is empty: ca.pem, cert.pem and
// key.pem, or worker.pem, which has certificate and key of a worker that joined. Files that are not
// there leave their paths empty.
void FillFromFolder(const std::string& folder, std::string& authority, std::string& certificate,
                    std::string& key);
// The path of a file in a folder; "" where there is none of that name.
std::string PathIn(const std::string& folder, const char* name);

// "CN = ca, O = Example", printable.
std::string NameOf(const X509_NAME* name);
// "2026-03-01 12:00:00 UTC"
std::string DateOf(const ASN1_TIME* time);
// The host names and addresses that a certificate is for: "localhost, 127.0.0.1".
std::string HostsOf(X509* certificate);

}  // namespace espalier::rpc
