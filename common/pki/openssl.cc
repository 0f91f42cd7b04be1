#include "common/pki/openssl.h"

#include <openssl/pem.h>

#include <algorithm>

#include "absl/strings/escaping.h"
#include "common/base/check.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::pki {
namespace {

// What a text that is not as expected seems to be, and what helps.
std::string KindOf(std::string_view text) {
  constexpr char kSequence = 0x30;  // DER begins with it
  if (text.empty()) return "nothing";
  if (text.size() > kMaxPemBytes) return "more than 4 MiB";
  if (!Has(text, "-----BEGIN ")) {
    return text[0] == kSequence ? "DER; convert it with openssl x509 (or pkey, req) -inform der"
                                : "no PEM text (-----BEGIN …)";
  }
  if (Has(text, "PRIVATE KEY-----")) return "a private key";
  if (Has(text, "CERTIFICATE REQUEST-----")) return "a signing request";
  if (Has(text, "-----BEGIN X509 CRL")) return "a list of revoked certificates";
  if (Has(text, "CERTIFICATE-----")) return "a certificate, perhaps a damaged one";
  return "another kind of PEM text, or a damaged one";
}

// Without it OpenSSL would ask the terminal.
int RefusePassphrase(char*, int, int, void*) { return -1; }

}  // namespace

BioPtr Reader(std::string_view text) {
  constexpr size_t kMostBytes = 16 * 1024 * 1024;
  ESPALIER_CHECK(text.size() <= kMostBytes, "callers limit what they read");
  BioPtr bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  ESPALIER_CHECK(bio != nullptr, "there is memory");
  return bio;
}

BioPtr Writer() {
  BioPtr bio(BIO_new(BIO_s_mem()));
  ESPALIER_CHECK(bio != nullptr, "there is memory");
  return bio;
}

std::string Written(BIO& bio) {
  char* text = nullptr;
  const long size = BIO_get_mem_data(&bio, &text);
  return {text, static_cast<size_t>(std::max(size, 0L))};
}

std::vector<PemBlock> BlocksOf(std::string_view pem, bool* damaged) {
  const Quiet quiet;
  const BioPtr bio = Reader(pem);
  std::vector<PemBlock> blocks;
  while (true) {
    char* type = nullptr;
    char* header = nullptr;
    unsigned char* bytes = nullptr;
    long size = 0;
    if (PEM_read_bio(bio.get(), &type, &header, &bytes, &size) != 1) break;
    blocks.push_back(
        {type, std::string(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size))});
    OPENSSL_free(type);
    OPENSSL_free(header);
    OPENSSL_free(bytes);
  }
  if (damaged != nullptr) {
    *damaged = ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE;
  }
  return blocks;
}

bool IsCertificate(const PemBlock& block) {
  return block.type == PEM_STRING_X509 || block.type == PEM_STRING_X509_OLD;
}

CertificatePtr DecodeCertificate(const std::string& bytes) {
  const Quiet quiet;
  const auto* begin = reinterpret_cast<const unsigned char*>(bytes.data());
  const unsigned char* next = begin;
  CertificatePtr certificate(d2i_X509(nullptr, &next, static_cast<long>(bytes.size())));
  if (next != begin + bytes.size()) certificate = nullptr;
  return certificate;
}

std::string PemOf(X509& certificate) {
  const BioPtr bio = Writer();
  ESPALIER_CHECK(PEM_write_bio_X509(bio.get(), &certificate) == 1, "a certificate can be written");
  return Written(*bio);
}

absl::Status Unreadable(std::string_view expected, std::string_view text) {
  return base::InvalidArgument("TLS_FILE_UNREADABLE",
                               fmt::format("expected {}, found {}", expected, KindOf(text)));
}

absl::StatusOr<CertificatePtr> FirstCertificate(std::string_view pem, std::string_view expected) {
  if (pem.size() > kMaxPemBytes) return Unreadable(expected, pem);
  const std::vector<PemBlock> blocks = BlocksOf(pem);
  const auto block = std::ranges::find_if(blocks, IsCertificate);
  if (block == blocks.end()) return Unreadable(expected, pem);
  CertificatePtr certificate = DecodeCertificate(block->bytes);
  if (certificate == nullptr) return Unreadable(expected, pem);
  return certificate;
}

absl::StatusOr<KeyPtr> ReadKey(std::string_view pem) {
  constexpr std::string_view kExpected = "a private key (PEM)";
  if (pem.size() > kMaxPemBytes) return Unreadable(kExpected, pem);
  const Quiet quiet;
  KeyPtr key(PEM_read_bio_PrivateKey(Reader(pem).get(), nullptr, RefusePassphrase, nullptr));
  if (key != nullptr) return key;
  if (Has(pem, "ENCRYPTED")) {
    return base::InvalidArgument("TLS_KEY_ENCRYPTED",
                                 "expected a private key without a passphrase, found an encrypted "
                                 "one; name the file with its passphrase");
  }
  if (Has(pem, "PRIVATE KEY-----")) {
    return base::InvalidArgument("TLS_FILE_UNREADABLE",
                                 fmt::format("expected {}, found one that cannot be read; openssl "
                                             "pkey -in FILE -noout says why",
                                             kExpected));
  }
  return Unreadable(kExpected, pem);
}

const EVP_MD* DigestFor(const EVP_PKEY& key) {
  return EVP_PKEY_is_a(&key, "ED25519") == 1 || EVP_PKEY_is_a(&key, "ED448") == 1 ? nullptr
                                                                                  : EVP_sha256();
}

std::string NameOf(const X509_NAME* name) {
  constexpr size_t kMaxBytes = 200;
  const BioPtr bio = Writer();
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB);
  return base::PrintablePrefix(Written(*bio), kMaxBytes);
}

std::string HexOf(std::string_view bytes) {
  return absl::BytesToHexString(absl::string_view(bytes.data(), bytes.size()));
}

std::string HexOf(const ASN1_OCTET_STRING* bytes) {
  return bytes == nullptr ? "" : HexOf(TextOf(bytes));
}

std::string SerialOf(const ASN1_INTEGER* number) {
  std::string hex = HexOf(TextOf(number));
  hex.erase(0, std::min(hex.find_first_not_of('0'), hex.size()));
  if (hex.empty()) hex = "0";
  return ASN1_STRING_type(number) == V_ASN1_NEG_INTEGER ? "-" + hex : hex;
}

absl::Time TimeOf(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return absl::InfinitePast();
  return absl::FromTM(parts, absl::UTCTimeZone());
}

std::string_view TextOf(const ASN1_STRING* text) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(text)),
          static_cast<size_t>(ASN1_STRING_length(text))};
}

}  // namespace espalier::pki
