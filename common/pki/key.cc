#include "common/pki/key.h"

#include <openssl/pem.h>
#include <openssl/pkcs12.h>

#include <cstring>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/pki/openssl.h"
#include "fmt/format.h"

namespace espalier::pki {
namespace {

constexpr size_t kLongestPassphrase = 1000;

absl::Status CheckPassphrase(std::string_view passphrase) {
  if (!passphrase.empty() && passphrase.size() <= kLongestPassphrase) return absl::OkStatus();
  return base::InvalidArgument(
      "PASSPHRASE_INVALID",
      fmt::format("expected a passphrase of 1 to {} bytes, found one of {}; choose another",
                  kLongestPassphrase, passphrase.size()));
}

std::string PlainPem(const EVP_PKEY& key) {
  const BioPtr bio = Writer();
  ESPALIER_CHECK(
      PEM_write_bio_PKCS8PrivateKey(bio.get(), &key, nullptr, nullptr, 0, nullptr, nullptr) == 1,
      "a key can be written");
  return Written(*bio);
}

int GivePassphrase(char* buffer, int size, int, void* given) {
  const auto& passphrase = *static_cast<const std::string_view*>(given);
  if (static_cast<size_t>(size) < passphrase.size()) return -1;
  std::memcpy(buffer, passphrase.data(), passphrase.size());
  return static_cast<int>(passphrase.size());
}

}  // namespace

std::string NewKey() {
  const Quiet quiet;
  const KeyPtr key(EVP_EC_gen("P-256"));
  ESPALIER_CHECK(key != nullptr, "OpenSSL makes P-256 keys");
  return PlainPem(*key);
}

absl::StatusOr<std::string> EncryptKey(std::string_view key, std::string_view passphrase) {
  // What OWASP recommends with SHA-256; a fifth of a second.
  constexpr int kIterations = 600'000;
  constexpr int kSaltBytes = 16;
  ESPALIER_RETURN_IF_ERROR(CheckPassphrase(passphrase));
  const Quiet quiet;
  ESPALIER_ASSIGN_OR_RETURN(const KeyPtr plain, ReadKey(key));
  const OpenSsl<PKCS8_PRIV_KEY_INFO, PKCS8_PRIV_KEY_INFO_free> info(EVP_PKEY2PKCS8(plain.get()));
  ESPALIER_CHECK(info != nullptr, "a key that was read can be written");
  // Without a salt it makes a random one.
  X509_ALGOR* scheme = PKCS5_pbe2_set_iv(EVP_aes_256_cbc(), kIterations, nullptr, kSaltBytes,
                                         nullptr, NID_hmacWithSHA256);
  ESPALIER_CHECK(scheme != nullptr, "OpenSSL has PBKDF2 and AES");
  const OpenSsl<X509_SIG, X509_SIG_free> encrypted(
      PKCS8_set0_pbe(passphrase.data(), static_cast<int>(passphrase.size()), info.get(), scheme));
  if (encrypted == nullptr) X509_ALGOR_free(scheme);
  ESPALIER_CHECK(encrypted != nullptr, "a key can be encrypted");
  const BioPtr bio = Writer();
  ESPALIER_CHECK(PEM_write_bio_PKCS8(bio.get(), encrypted.get()) == 1, "a key can be written");
  return Written(*bio);
}

bool IsEncrypted(std::string_view key) {
  return Has(key, "-----BEGIN ENCRYPTED PRIVATE KEY-----") ||
         (Has(key, "PRIVATE KEY-----") && Has(key, "Proc-Type: 4,ENCRYPTED"));
}

absl::StatusOr<std::string> DecryptKey(std::string_view key, std::string_view passphrase) {
  ESPALIER_RETURN_IF_ERROR(CheckPassphrase(passphrase));
  if (key.size() > kMaxPemBytes) return Unreadable("a private key (PEM)", key);
  const Quiet quiet;
  const KeyPtr plain(
      PEM_read_bio_PrivateKey(Reader(key).get(), nullptr, GivePassphrase, &passphrase));
  if (plain != nullptr) return PlainPem(*plain);
  if (IsEncrypted(key)) {
    return base::InvalidArgument("TLS_KEY_ENCRYPTED",
                                 "expected the passphrase of an encrypted key, found one that does "
                                 "not open it; look for another, or for a damaged key");
  }
  return ReadKey(key).status();
}

absl::StatusOr<std::string> NewSigningRequest(std::string_view key) {
  const Quiet quiet;
  ESPALIER_ASSIGN_OR_RETURN(const KeyPtr pair, ReadKey(key));
  const OpenSsl<X509_REQ, X509_REQ_free> request(X509_REQ_new());
  const bool made = request != nullptr && X509_REQ_set_version(request.get(), 0) == 1 &&
                    X509_REQ_set_pubkey(request.get(), pair.get()) == 1 &&
                    X509_REQ_sign(request.get(), pair.get(), DigestFor(*pair)) > 0;
  if (!made) {
    return base::InvalidArgument("TLS_FILE_UNREADABLE",
                                 "expected a private key that signs, found one of another kind; "
                                 "make one of the curve P-256");
  }
  const BioPtr bio = Writer();
  ESPALIER_CHECK(PEM_write_bio_X509_REQ(bio.get(), request.get()) == 1, "a request can be written");
  return Written(*bio);
}

}  // namespace espalier::pki
