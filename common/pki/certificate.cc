#include "common/pki/certificate.h"

#include <arpa/inet.h>

#include <algorithm>

#include "absl/strings/match.h"
#include "common/base/check.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/pki/openssl.h"

namespace espalier::pki {
namespace {

constexpr std::string_view kExpected = "a certificate (PEM)";

// Of whom a certificate says that it is: another URI with this scheme would leave that open.
bool IsOurs(std::string_view uri) {
  return absl::StartsWithIgnoreCase(absl::string_view(uri.data(), uri.size()), "espalier:");
}

std::string AddressOf(const ASN1_OCTET_STRING* address) {
  constexpr int kIpv4Bytes = 4;
  constexpr int kIpv6Bytes = 16;
  const int bytes = ASN1_STRING_length(address);
  if (bytes != kIpv4Bytes && bytes != kIpv6Bytes) return "";
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(bytes == kIpv4Bytes ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text,
            sizeof(text));
  return text;
}

void ReadNames(X509& x509, Certificate& certificate) {
  const NamesPtr names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(&x509, NID_subject_alt_name, nullptr, nullptr)));
  int ours = 0;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_URI) {
      const std::string_view uri = TextOf(name->d.uniformResourceIdentifier);
      if (!IsOurs(uri)) continue;
      ++ours;
      certificate.identity = ParseUri(uri);
    } else if (name->type == GEN_DNS) {
      certificate.hosts.push_back(base::Printable(TextOf(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      std::string address = AddressOf(name->d.iPAddress);
      if (!address.empty()) certificate.hosts.push_back(std::move(address));
    }
  }
  if (ours != 1) certificate.identity.reset();
}

}  // namespace

absl::StatusOr<Certificate> ReadCertificate(std::string_view pem) {
  const Quiet quiet;
  ESPALIER_ASSIGN_OR_RETURN(const CertificatePtr x509, FirstCertificate(pem, kExpected));
  Certificate certificate;
  certificate.subject = NameOf(X509_get_subject_name(x509.get()));
  certificate.issuer = NameOf(X509_get_issuer_name(x509.get()));
  certificate.issuer_key = HexOf(X509_get0_authority_key_id(x509.get()));
  certificate.serial = SerialOf(X509_get0_serialNumber(x509.get()));
  certificate.not_before = TimeOf(X509_get0_notBefore(x509.get()));
  certificate.not_after = TimeOf(X509_get0_notAfter(x509.get()));
  certificate.is_authority = (X509_get_extension_flags(x509.get()) & EXFLAG_CA) != 0;
  ReadNames(*x509, certificate);
  return certificate;
}

std::vector<std::string> SplitCertificates(std::string_view pem) {
  std::vector<std::string> certificates;
  if (pem.size() > kMaxPemBytes) return certificates;
  for (const PemBlock& block : BlocksOf(pem)) {
    if (!IsCertificate(block)) continue;
    const CertificatePtr certificate = DecodeCertificate(block.bytes);
    if (certificate != nullptr) certificates.push_back(PemOf(*certificate));
  }
  return certificates;
}

absl::StatusOr<std::string> FingerprintOf(std::string_view pem) {
  const Quiet quiet;
  ESPALIER_ASSIGN_OR_RETURN(const CertificatePtr x509, FirstCertificate(pem, kExpected));
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  ESPALIER_CHECK(X509_digest(x509.get(), EVP_sha256(), digest, &size) == 1, "SHA-256 is there");
  return HexOf(std::string_view(reinterpret_cast<const char*>(digest), size));
}

}  // namespace espalier::pki
