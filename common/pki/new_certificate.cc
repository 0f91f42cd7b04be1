#include "common/pki/new_certificate.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_split.h"
#include "common/base/check.h"
#include "common/base/entropy.h"
#include "common/base/names.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::pki {
namespace {

constexpr size_t kMostHosts = 100;

GENERAL_NAME* NameOfType(int type, ASN1_STRING* value) {
  GENERAL_NAME* name = GENERAL_NAME_new();
  ESPALIER_CHECK(name != nullptr && value != nullptr, "there is memory");
  GENERAL_NAME_set0_value(name, type, value);
  return name;
}

ASN1_STRING* StringOf(int type, std::string_view text) {
  ASN1_STRING* string = ASN1_STRING_type_new(type);
  ESPALIER_CHECK(
      string != nullptr && ASN1_STRING_set(string, text.data(), static_cast<int>(text.size())) == 1,
      "there is memory");
  return string;
}

bool IsLabel(std::string_view label) {
  constexpr size_t kLongest = 63;
  // Underscores are in names of containers.
  return !label.empty() && label.size() <= kLongest && label.front() != '-' &&
         label.back() != '-' && std::ranges::all_of(label, [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '_';
         });
}

// With "*" for the first of at least three labels, since a whole top-level domain is nobody's.
bool IsHostName(std::string_view host) {
  constexpr size_t kLongest = 253;
  constexpr size_t kLeastOfWildcard = 3;
  if (host.empty() || host.size() > kLongest) return false;
  const std::vector<std::string> labels =
      absl::StrSplit(absl::string_view(host.data(), host.size()), '.');
  // An address that lacks or misspells a number is not a name.
  if (std::ranges::all_of(labels.back(), [](unsigned char c) { return absl::ascii_isdigit(c); })) {
    return false;
  }
  const bool wildcard = labels.front() == "*" && labels.size() >= kLeastOfWildcard;
  return std::all_of(labels.begin() + (wildcard ? 1 : 0), labels.end(), IsLabel);
}

void Permit(STACK_OF(GENERAL_SUBTREE) * &trees, GENERAL_NAME* name) {
  if (trees == nullptr) trees = sk_GENERAL_SUBTREE_new_null();
  GENERAL_SUBTREE* tree = GENERAL_SUBTREE_new();
  ESPALIER_CHECK(trees != nullptr && tree != nullptr, "there is memory");
  GENERAL_NAME_free(tree->base);
  tree->base = name;
  ESPALIER_CHECK(sk_GENERAL_SUBTREE_push(trees, tree) > 0, "there is memory");
}

}  // namespace

absl::StatusOr<NamesPtr> AlternativeNames(const Identity& identity,
                                          const std::vector<std::string>& hosts) {
  const Quiet quiet;
  if (!base::IsValidId(identity.name)) {
    constexpr size_t kShown = 80;
    return base::InvalidArgument(
        "IDENTITY_INVALID",
        fmt::format("expected a name of lower-case letters, digits and '-', which begins with a "
                    "letter and has at most 63 characters, found '{}'; choose another",
                    base::PrintablePrefix(identity.name, kShown)));
  }
  if (hosts.size() > kMostHosts) {
    return base::InvalidArgument(
        "HOST_INVALID", fmt::format("expected at most {} hosts of a certificate, found {}; use a "
                                    "wildcard such as *.example.org",
                                    kMostHosts, hosts.size()));
  }
  NamesPtr names(GENERAL_NAMES_new());
  ESPALIER_CHECK(names != nullptr, "there is memory");
  const auto add = [&names](int type, ASN1_STRING* value) {
    ESPALIER_CHECK(sk_GENERAL_NAME_push(names.get(), NameOfType(type, value)) > 0,
                   "there is memory");
  };
  add(GEN_URI, StringOf(V_ASN1_IA5STRING, UriOf(identity)));
  for (const std::string& host : hosts) {
    const bool text = host.find('\0') == std::string::npos;
    if (ASN1_OCTET_STRING* address = text ? a2i_IPADDRESS(host.c_str()) : nullptr) {
      add(GEN_IPADD, address);
    } else if (IsHostName(host)) {
      add(GEN_DNS, StringOf(V_ASN1_IA5STRING, host));
    } else {
      constexpr size_t kShown = 260;
      return base::InvalidArgument(
          "HOST_INVALID",
          fmt::format("expected a host name, *.DOMAIN, an IPv4 address or an IPv6 address without "
                      "brackets, found '{}'; leave out https:// and the port",
                      base::PrintablePrefix(host, kShown)));
    }
  }
  return names;
}

void SetTime(ASN1_TIME* field, absl::Time time) {
  constexpr int64_t kEndOf9999 = 253'402'300'799;
  const int64_t seconds = std::clamp<int64_t>(absl::ToUnixSeconds(time), 0, kEndOf9999);
  ESPALIER_CHECK(ASN1_TIME_set(field, static_cast<time_t>(seconds)) != nullptr, "there is memory");
}

void AddAuthorityKey(X509_CRL& list, X509& issuer) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, &issuer, nullptr, nullptr, &list, 0);
  const OpenSsl<X509_EXTENSION, X509_EXTENSION_free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, NID_authority_key_identifier, "keyid:always"));
  ESPALIER_CHECK(extension != nullptr && X509_CRL_add_ext(&list, extension.get(), -1) == 1,
                 "the issuer has a key identifier");
}

NewCertificate::NewCertificate(const std::string& common_name, EVP_PKEY& key, absl::Time not_before,
                               absl::Time not_after)
    : certificate_(X509_new()), issuer_(certificate_.get()) {
  constexpr size_t kSerialBytes = 16;
  constexpr unsigned char kPositive = 0x7f;
  X509* certificate = certificate_.get();
  ESPALIER_CHECK(certificate != nullptr, "there is memory");
  std::string serial = base::SystemEntropy().Bytes(kSerialBytes);
  serial[0] = static_cast<char>(static_cast<unsigned char>(serial[0]) & kPositive);
  const OpenSsl<BIGNUM, BN_free> number(
      BN_bin2bn(reinterpret_cast<const unsigned char*>(serial.data()), kSerialBytes, nullptr));
  X509_NAME* name = X509_get_subject_name(certificate);
  const auto* text = reinterpret_cast<const unsigned char*>(common_name.data());
  const bool made =
      X509_set_version(certificate, X509_VERSION_3) == 1 && number != nullptr &&
      BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr &&
      X509_NAME_add_entry_by_NID(name, NID_commonName, MBSTRING_UTF8, text,
                                 static_cast<int>(common_name.size()), -1, 0) == 1 &&
      X509_set_pubkey(certificate, &key) == 1;
  ESPALIER_CHECK(made, "there is memory, and a name is short");
  SetTime(X509_getm_notBefore(certificate), not_before);
  SetTime(X509_getm_notAfter(certificate), not_after);
}

void NewCertificate::SetIssuer(X509* issuer) {
  if (issuer != nullptr) issuer_ = issuer;
  ESPALIER_CHECK(X509_set_issuer_name(certificate_.get(), X509_get_subject_name(issuer_)) == 1,
                 "there is memory");
}

void NewCertificate::Extend(int nid, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer_, certificate_.get(), nullptr, nullptr, 0);
  const OpenSsl<X509_EXTENSION, X509_EXTENSION_free> extension(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value));
  ESPALIER_CHECK(extension != nullptr && X509_add_ext(certificate_.get(), extension.get(), -1) == 1,
                 "the value is one of the extension");
}

void NewCertificate::SetNames(GENERAL_NAMES& names) {
  ESPALIER_CHECK(X509_add1_ext_i2d(certificate_.get(), NID_subject_alt_name, &names, 0, 0) == 1,
                 "there is memory");
}

void NewCertificate::ConstrainToWorkers() {
  // An address with a mask of zeros is every address; an empty name is every name.
  constexpr size_t kIpv4AddressAndMask = 8;
  constexpr size_t kIpv6AddressAndMask = 32;
  const OpenSsl<NAME_CONSTRAINTS, NAME_CONSTRAINTS_free> constraints(NAME_CONSTRAINTS_new());
  ESPALIER_CHECK(constraints != nullptr, "there is memory");
  Permit(constraints->permittedSubtrees,
         NameOfType(GEN_URI, StringOf(V_ASN1_IA5STRING, NameOf(Role::kWorker))));
  // An empty name would not exclude every address of mail, so that a domain that never exists is the only one that is
  // permitted. Names of directories are not constrained: the subject is one.
  Permit(constraints->permittedSubtrees,
         NameOfType(GEN_EMAIL, StringOf(V_ASN1_IA5STRING, "invalid")));
  Permit(constraints->excludedSubtrees, NameOfType(GEN_DNS, StringOf(V_ASN1_IA5STRING, "")));
  for (const size_t bytes : {kIpv4AddressAndMask, kIpv6AddressAndMask}) {
    Permit(constraints->excludedSubtrees,
           NameOfType(GEN_IPADD, StringOf(V_ASN1_OCTET_STRING, std::string(bytes, '\0'))));
  }
  ESPALIER_CHECK(
      X509_add1_ext_i2d(certificate_.get(), NID_name_constraints, constraints.get(), 1, 0) == 1,
      "there is memory");
}

std::string NewCertificate::Sign(EVP_PKEY& key) {
  ESPALIER_CHECK(X509_sign(certificate_.get(), &key, DigestFor(key)) > 0, "the key signs");
  return PemOf(*certificate_);
}

}  // namespace espalier::pki
