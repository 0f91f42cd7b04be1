// What the sources of this folder share of OpenSSL: owners of its objects, PEM blocks, texts of its values.
//
// Threading: pure functions. A Quiet belongs to its thread.
#pragma once

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace espalier::pki {

// Owns an object of OpenSSL.
template <typename T, auto Free>
struct OpenSslDeleter {
  void operator()(T* object) const { Free(object); }
};
template <typename T, auto Free>
using OpenSsl = std::unique_ptr<T, OpenSslDeleter<T, Free>>;

using BioPtr = OpenSsl<BIO, BIO_free_all>;
using KeyPtr = OpenSsl<EVP_PKEY, EVP_PKEY_free>;
using CertificatePtr = OpenSsl<X509, X509_free>;
using NamesPtr = OpenSsl<GENERAL_NAMES, GENERAL_NAMES_free>;
using IntegerPtr = OpenSsl<ASN1_INTEGER, ASN1_INTEGER_free>;

// Removes the errors that calls leave in the thread's queue, in which TLS would find them later.
class Quiet {
 public:
  Quiet() { ERR_set_mark(); }
  ~Quiet() { ERR_pop_to_mark(); }
  Quiet(const Quiet&) = delete;
  Quiet& operator=(const Quiet&) = delete;
};

// Bundles of all public authorities take 250 KiB.
inline constexpr size_t kMaxPemBytes = 4 * 1024 * 1024;

// Reads from `text`, which has to outlive it and has at most 16 MiB.
BioPtr Reader(std::string_view text);
BioPtr Writer();
// What was written to a Writer().
std::string Written(BIO& bio);

// "-----BEGIN TYPE-----" and what follows, decoded.
struct PemBlock {
  std::string type;
  std::string bytes;
};
// The blocks of a text. `damaged`, where it is not null, becomes true when one cannot be read; those behind it
// are not looked for then.
std::vector<PemBlock> BlocksOf(std::string_view pem, bool* damaged = nullptr);
bool IsCertificate(const PemBlock& block);
// Null where the bytes are not a certificate, or more than one.
CertificatePtr DecodeCertificate(const std::string& bytes);
std::string PemOf(X509& certificate);

// Whether `text` has `part` in it.
inline bool Has(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

// InvalidArgument TLS_FILE_UNREADABLE: what was expected, and what kind of thing `text` is instead.
absl::Status Unreadable(std::string_view expected, std::string_view text);
// The first certificate of a PEM text.
absl::StatusOr<CertificatePtr> FirstCertificate(std::string_view pem, std::string_view expected);
// A private key that is not encrypted.
absl::StatusOr<KeyPtr> ReadKey(std::string_view pem);

// What signatures by this key begin with: null where it has a hash of its own, as Ed25519.
const EVP_MD* DigestFor(const EVP_PKEY& key);

// "CN = ca, O = Example", printable and of at most 200 bytes.
std::string NameOf(const X509_NAME* name);
// In lower-case hexadecimal.
std::string HexOf(std::string_view bytes);
std::string HexOf(const ASN1_OCTET_STRING* bytes);
// Of a serial number: without leading zeros.
std::string SerialOf(const ASN1_INTEGER* number);
// The infinite past where it is not a time.
absl::Time TimeOf(const ASN1_TIME* time);
std::string_view TextOf(const ASN1_STRING* text);

}  // namespace espalier::pki
