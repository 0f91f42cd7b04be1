#include "common/pki/authority.h"

#include <openssl/core_names.h>
#include <openssl/pem.h>

#include <algorithm>
#include <set>

#include "common/base/check.h"
#include "common/base/entropy.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/pki/key.h"
#include "common/pki/new_certificate.h"
#include "common/pki/openssl.h"
#include "fmt/format.h"

namespace espalier::pki {

struct Authority::State {
  CertificatePtr certificate;
  KeyPtr key;
  // PEM: itself, unless it is the root, and those between it and the root.
  std::string chain;
  absl::Time not_after;

  absl::StatusOr<std::string> Make(const Subject& subject, EVP_PKEY& public_key) const;
};

namespace {

using RequestPtr = OpenSsl<X509_REQ, X509_REQ_free>;
using ListPtr = OpenSsl<X509_CRL, X509_CRL_free>;

constexpr char kSignsCertificates[] = "critical,keyCertSign,cRLSign";

// Two authorities of a name would be mistaken for each other.
std::string WithSuffix(const std::string& name) {
  constexpr size_t kBytes = 4;
  return name + " " + HexOf(base::SystemEntropy().Bytes(kBytes));
}

absl::Status RequestInvalid(const std::string& expected, const std::string& found) {
  return base::InvalidArgument(
      "SIGNING_REQUEST_INVALID",
      fmt::format("expected {}, found {}; make another key and request", expected, found));
}

// Before the signature is looked at, which with a large key would take long.
absl::Status CheckKey(EVP_PKEY& key) {
  constexpr int kLeastRsaBits = 2048;
  constexpr int kMostRsaBits = 4096;
  constexpr char kExpected[] =
      "a signing request with a key of P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits";
  if (EVP_PKEY_is_a(&key, "ED25519") == 1) return absl::OkStatus();
  if (EVP_PKEY_is_a(&key, "RSA") == 1) {
    const int bits = EVP_PKEY_get_bits(&key);
    if (bits >= kLeastRsaBits && bits <= kMostRsaBits) return absl::OkStatus();
    return RequestInvalid(kExpected, fmt::format("RSA of {} bits", bits));
  }
  if (EVP_PKEY_is_a(&key, "EC") == 1) {
    constexpr size_t kLongestName = 80;
    char name[kLongestName] = "";
    size_t size = 0;
    int is_explicit = 0;
    EVP_PKEY_get_group_name(&key, name, sizeof(name), &size);
    EVP_PKEY_get_int_param(&key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit);
    const std::string_view curve(name);
    if (is_explicit == 0 && (curve == "prime256v1" || curve == "secp384r1")) {
      return absl::OkStatus();
    }
    return RequestInvalid(kExpected, is_explicit != 0 ? "a curve that it describes itself"
                                                      : fmt::format("the curve {}", curve));
  }
  return RequestInvalid(kExpected, "a key of another kind");
}

absl::StatusOr<RequestPtr> ReadRequest(std::string_view pem) {
  constexpr size_t kMostBytes = 16 * 1024;
  constexpr char kExpected[] = "a signing request (PEM, PKCS#10) of at most 16 KiB";
  if (pem.size() > kMostBytes)
    return RequestInvalid(kExpected, fmt::format("{} bytes", pem.size()));
  for (const PemBlock& block : BlocksOf(pem)) {
    if (block.type != PEM_STRING_X509_REQ && block.type != PEM_STRING_X509_REQ_OLD) continue;
    const auto* next = reinterpret_cast<const unsigned char*>(block.bytes.data());
    RequestPtr request(d2i_X509_REQ(nullptr, &next, static_cast<long>(block.bytes.size())));
    if (request == nullptr) break;
    return request;
  }
  return RequestInvalid(kExpected, "a text that is none, or a damaged one");
}

absl::StatusOr<IntegerPtr> ParseSerial(const std::string& hex) {
  constexpr size_t kMostDigits = 40;  // 20 bytes, as RFC 5280 has it
  BIGNUM* parsed = nullptr;
  const bool whole = !hex.empty() && hex.size() <= kMostDigits && hex.front() != '-' &&
                     BN_hex2bn(&parsed, hex.c_str()) == static_cast<int>(hex.size());
  const OpenSsl<BIGNUM, BN_free> number(parsed);
  if (!whole) {
    constexpr size_t kShown = 60;
    return base::InvalidArgument(
        "SERIAL_INVALID",
        fmt::format("expected a serial number of 1 to {} hexadecimal digits, found '{}'; `openssl "
                    "x509 -serial -noout -in FILE` shows one",
                    kMostDigits, base::PrintablePrefix(hex, kShown)));
  }
  IntegerPtr serial(BN_to_ASN1_INTEGER(number.get(), nullptr));
  ESPALIER_CHECK(serial != nullptr, "there is memory");
  return serial;
}

// The certificates of a text without roots, which everybody has who trusts them.
std::string WithoutRoots(const std::string& pem) {
  std::string chain;
  for (const PemBlock& block : BlocksOf(pem)) {
    const CertificatePtr certificate =
        IsCertificate(block) ? DecodeCertificate(block.bytes) : nullptr;
    if (certificate == nullptr || (X509_get_extension_flags(certificate.get()) & EXFLAG_SS) != 0) {
      continue;
    }
    chain += PemOf(*certificate);
  }
  return chain;
}

void AddRevoked(X509_CRL& list, ASN1_INTEGER& serial, ASN1_TIME& date) {
  // The list takes it.
  X509_REVOKED* revoked = X509_REVOKED_new();
  const bool added = revoked != nullptr && X509_REVOKED_set_serialNumber(revoked, &serial) == 1 &&
                     X509_REVOKED_set_revocationDate(revoked, &date) == 1 &&
                     X509_CRL_add0_revoked(&list, revoked) == 1;
  ESPALIER_CHECK(added, "there is memory");
}

absl::StatusOr<AuthorityFiles> WorkerAuthority(const AuthorityFiles& root, const std::string& name,
                                               const std::string& key, absl::Time now,
                                               absl::Duration lifetime) {
  const Quiet quiet;
  ESPALIER_ASSIGN_OR_RETURN(const Authority issuer, Authority::Load(root));
  ESPALIER_ASSIGN_OR_RETURN(const CertificatePtr above, FirstCertificate(root.certificate, ""));
  ESPALIER_ASSIGN_OR_RETURN(const KeyPtr root_key, ReadKey(root.key));
  ESPALIER_ASSIGN_OR_RETURN(const KeyPtr own_key, ReadKey(key));
  NewCertificate workers(name, *own_key, now - kClockSkew,
                         std::min(now + lifetime, issuer.not_after()));
  workers.SetIssuer(above.get());
  workers.Extend(NID_basic_constraints, "critical,CA:TRUE,pathlen:0");
  workers.Extend(NID_key_usage, kSignsCertificates);
  workers.Extend(NID_ext_key_usage, "clientAuth");
  workers.Extend(NID_subject_key_identifier, "hash");
  workers.Extend(NID_authority_key_identifier, "keyid:always");
  workers.ConstrainToWorkers();
  return AuthorityFiles{workers.Sign(*root_key) + WithoutRoots(root.certificate), key};
}

}  // namespace

AuthorityFiles NewRoot(absl::Time now, absl::Duration lifetime) {
  const Quiet quiet;
  AuthorityFiles files{"", NewKey()};
  const KeyPtr key = ReadKey(files.key).value();
  NewCertificate root(WithSuffix("Espalier root"), *key, now - kClockSkew, now + lifetime);
  root.SetIssuer(nullptr);
  root.Extend(NID_basic_constraints, "critical,CA:TRUE,pathlen:1");
  root.Extend(NID_key_usage, kSignsCertificates);
  root.Extend(NID_subject_key_identifier, "hash");
  root.Extend(NID_authority_key_identifier, "keyid:always");
  files.certificate = root.Sign(*key);
  return files;
}

absl::StatusOr<AuthorityFiles> NewWorkerAuthority(const AuthorityFiles& root, absl::Time now,
                                                  absl::Duration lifetime) {
  return WorkerAuthority(root, WithSuffix("Espalier workers"), NewKey(), now, lifetime);
}

absl::StatusOr<AuthorityFiles> RenewWorkerAuthority(const AuthorityFiles& root,
                                                    const AuthorityFiles& workers, absl::Time now,
                                                    absl::Duration lifetime) {
  const Quiet quiet;
  ESPALIER_RETURN_IF_ERROR(Authority::Load(workers).status());
  ESPALIER_ASSIGN_OR_RETURN(const CertificatePtr former, FirstCertificate(workers.certificate, ""));
  const X509_NAME* name = X509_get_subject_name(former.get());
  const int index = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
  if (index < 0) {
    return base::InvalidArgument(
        "TLS_FILE_UNREADABLE",
        "expected an authority for workers with a name, found one without; make another");
  }
  const std::string_view text = TextOf(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, index)));
  return WorkerAuthority(root, std::string(text), workers.key, now, lifetime);
}

Authority::Authority(std::unique_ptr<State> state) : state_(std::move(state)) {}
Authority::~Authority() = default;
Authority::Authority(Authority&&) noexcept = default;
Authority& Authority::operator=(Authority&&) noexcept = default;

absl::Time Authority::not_after() const { return state_->not_after; }

absl::StatusOr<Authority> Authority::Load(const AuthorityFiles& files) {
  constexpr char kExpected[] = "the certificate of an authority (PEM)";
  const Quiet quiet;
  auto state = std::make_unique<State>();
  ESPALIER_ASSIGN_OR_RETURN(state->certificate, FirstCertificate(files.certificate, kExpected));
  ESPALIER_ASSIGN_OR_RETURN(state->key, ReadKey(files.key));
  X509* certificate = state->certificate.get();
  const std::string name = NameOf(X509_get_subject_name(certificate));
  // Without key usage it may do everything.
  const bool signs = (X509_get_extension_flags(certificate) & EXFLAG_CA) != 0 &&
                     (X509_get_key_usage(certificate) & KU_KEY_CERT_SIGN) != 0;
  if (!signs || X509_get0_subject_key_id(certificate) == nullptr) {
    return base::InvalidArgument(
        "TLS_FILE_UNREADABLE",
        fmt::format("expected {}, found that of {}, which {}; name the authority's own", kExpected,
                    name, signs ? "has no subject key identifier" : "may not sign certificates"));
  }
  if (X509_check_private_key(certificate, state->key.get()) != 1) {
    return base::InvalidArgument(
        "TLS_KEY_MISMATCH",
        fmt::format("expected the private key of the certificate {}, found a key that does not "
                    "belong to it; name the two files that were made together",
                    name));
  }
  state->chain = WithoutRoots(files.certificate);
  state->not_after = TimeOf(X509_get0_notAfter(certificate));
  return Authority(std::move(state));
}

absl::StatusOr<std::string> Authority::State::Make(const Subject& subject,
                                                   EVP_PKEY& public_key) const {
  ESPALIER_ASSIGN_OR_RETURN(const NamesPtr names,
                            AlternativeNames(subject.identity, subject.hosts));
  const absl::Time end = std::min(subject.now + subject.lifetime, not_after);
  if (end <= subject.now) {
    return base::InvalidArgument(
        "TLS_CERT_OUT_OF_DATE",
        fmt::format("expected an authority and a lifetime that go beyond now ({}), found an end at "
                    "{}; renew the authority, or check this machine's clock",
                    absl::FormatTime(subject.now, absl::UTCTimeZone()),
                    absl::FormatTime(end, absl::UTCTimeZone())));
  }
  NewCertificate made(subject.identity.name, public_key, subject.now - kClockSkew, end);
  made.SetIssuer(certificate.get());
  made.Extend(NID_basic_constraints, "critical,CA:FALSE");
  made.Extend(NID_key_usage, "critical,digitalSignature");
  made.Extend(NID_ext_key_usage, subject.hosts.empty() ? "clientAuth" : "serverAuth,clientAuth");
  made.Extend(NID_subject_key_identifier, "hash");
  made.Extend(NID_authority_key_identifier, "keyid:always");
  made.SetNames(*names);
  return made.Sign(*key) + chain;
}

absl::StatusOr<std::string> Authority::Issue(const Subject& subject, std::string_view key) const {
  const Quiet quiet;
  ESPALIER_ASSIGN_OR_RETURN(const KeyPtr pair, ReadKey(key));
  return state_->Make(subject, *pair);
}

absl::StatusOr<std::string> Authority::Sign(const Subject& subject,
                                            std::string_view signing_request) const {
  const Quiet quiet;
  ESPALIER_ASSIGN_OR_RETURN(const RequestPtr request, ReadRequest(signing_request));
  EVP_PKEY* key = X509_REQ_get0_pubkey(request.get());
  if (key == nullptr) return RequestInvalid("a signing request with a key", "one that has none");
  ESPALIER_RETURN_IF_ERROR(CheckKey(*key));
  if (X509_REQ_verify(request.get(), key) != 1) {
    return RequestInvalid("a signing request that its own key signed",
                          "one whose signature is wrong");
  }
  return state_->Make(subject, *key);
}

absl::StatusOr<std::string> Authority::Revoke(const std::vector<std::string>& serials,
                                              absl::Time now, absl::Duration lifetime) const {
  const Quiet quiet;
  const ListPtr list(X509_CRL_new());
  const OpenSsl<ASN1_TIME, ASN1_TIME_free> date(ASN1_TIME_new());
  // Rises from list to list, whoever makes them.
  const IntegerPtr number(ASN1_INTEGER_new());
  const bool begun =
      list != nullptr && date != nullptr && number != nullptr &&
      X509_CRL_set_version(list.get(), X509_CRL_VERSION_2) == 1 &&
      X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(state_->certificate.get())) == 1 &&
      ASN1_INTEGER_set_int64(number.get(), absl::ToUnixMicros(now)) == 1 &&
      X509_CRL_add1_ext_i2d(list.get(), NID_crl_number, number.get(), 0, 0) == 1;
  ESPALIER_CHECK(begun, "there is memory");
  AddAuthorityKey(*list, *state_->certificate);
  SetTime(date.get(), now - kClockSkew);
  ESPALIER_CHECK(X509_CRL_set1_lastUpdate(list.get(), date.get()) == 1, "there is memory");
  SetTime(date.get(), now + lifetime);
  ESPALIER_CHECK(X509_CRL_set1_nextUpdate(list.get(), date.get()) == 1, "there is memory");
  SetTime(date.get(), now);
  std::set<std::string> listed;
  for (const std::string& hex : serials) {
    ESPALIER_ASSIGN_OR_RETURN(const IntegerPtr serial, ParseSerial(hex));
    if (listed.insert(SerialOf(serial.get())).second) AddRevoked(*list, *serial, *date);
  }
  X509_CRL_sort(list.get());
  ESPALIER_CHECK(X509_CRL_sign(list.get(), state_->key.get(), DigestFor(*state_->key)) > 0,
                 "the key signs");
  const BioPtr bio = Writer();
  ESPALIER_CHECK(PEM_write_bio_X509_CRL(bio.get(), list.get()) == 1, "a list can be written");
  return Written(*bio);
}

}  // namespace espalier::pki
