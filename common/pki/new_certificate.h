// NewCertificate: puts the fields and extensions of a certificate together that Authority signs.
//
// Threading: not thread-safe. OpenSSL's failures in here are those of memory or of this code, and end the process.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/pki/identity.h"
#include "common/pki/openssl.h"

namespace espalier::pki {

// Clocks differ: what is made now is valid for others a little earlier.
inline constexpr absl::Duration kClockSkew = absl::Minutes(5);

// The names of a subject: its URI and its hosts. Errors: InvalidArgument IDENTITY_INVALID, HOST_INVALID.
absl::StatusOr<NamesPtr> AlternativeNames(const Identity& identity,
                                          const std::vector<std::string>& hosts);

// Sets `time`, cut to seconds and to the years that a certificate can say.
void SetTime(ASN1_TIME* field, absl::Time time);

// A list or certificate is `issuer`'s: its authority key identifier.
void AddAuthorityKey(X509_CRL& list, X509& issuer);

class NewCertificate {
 public:
  // A serial number of 127 random bits. The subject is "CN = `common_name`".
  NewCertificate(const std::string& common_name, EVP_PKEY& key, absl::Time not_before,
                 absl::Time not_after);

  // Null: it signs itself. Comes before extensions, of which some look at the issuer.
  void SetIssuer(X509* issuer);
  // A value as OpenSSL's configuration files have it.
  void Extend(int nid, const char* value);
  void SetNames(GENERAL_NAMES& names);
  // Clients whose URI is of the host "worker", and nobody else.
  void ConstrainToWorkers();
  // As PEM.
  std::string Sign(EVP_PKEY& key);

 private:
  CertificatePtr certificate_;
  X509* issuer_;
};

}  // namespace espalier::pki
