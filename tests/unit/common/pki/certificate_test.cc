#include "common/pki/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/pki/identity.h"
#include "common/pki/new_certificate.h"
#include "tests/unit/common/pki/chain.h"

namespace espalier::pki {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A certificate that signs itself, with these names as OpenSSL's configuration has them.
std::string Named(const std::string& names, const std::string& common_name = "a") {
  const KeyPtr key = ReadKey(NewKey()).value();
  NewCertificate made(common_name, *key, Now(), Now() + kYear);
  made.SetIssuer(nullptr);
  if (!names.empty()) made.Extend(NID_subject_alt_name, names.c_str());
  return made.Sign(*key);
}

// One with this URI, whatever its bytes.
std::string WithUri(std::string_view uri) {
  const KeyPtr key = ReadKey(NewKey()).value();
  NewCertificate made("a", *key, Now(), Now() + kYear);
  made.SetIssuer(nullptr);
  const NamesPtr names(GENERAL_NAMES_new());
  ASN1_IA5STRING* text = ASN1_IA5STRING_new();
  ASN1_STRING_set(text, uri.data(), static_cast<int>(uri.size()));
  GENERAL_NAME* name = GENERAL_NAME_new();
  GENERAL_NAME_set0_value(name, GEN_URI, text);
  sk_GENERAL_NAME_push(names.get(), name);
  made.SetNames(*names);
  return made.Sign(*key);
}

std::optional<Identity> IdentityIn(const std::string& pem) {
  return ReadCertificate(pem).value().identity;
}

TEST(IdentityTest, UrisAreReadAsTheyAreWritten) {
  for (const Role role : kRoles) {
    const Identity identity{role, "edge-1"};
    EXPECT_EQ(ParseUri(UriOf(identity)), identity);
    EXPECT_EQ(RoleNamed(NameOf(role)), role);
  }
  EXPECT_EQ(UriOf({Role::kAdmin, "ada"}), "espalier://admin/ada");
  EXPECT_EQ(RoleNamed("root"), std::nullopt);
}

TEST(IdentityTest, OtherUrisSayNobody) {
  for (const std::string_view uri :
       {"", "espalier://", "espalier://admin", "espalier://admin/", "espalier://root/a",
        "espalier://admin/a/", "espalier://admin/a/b", "espalier://admin/a?b", "espalier://admin/A",
        "ESPALIER://admin/a", "espalier://Admin/a", "espalier:admin/a", "espalier:///admin/a",
        "espalier://admin:1/a", "espalier://x@admin/a", "https://admin/a", " espalier://admin/a",
        "espalier://admin/a ", "espalier://admin/%61"}) {
    EXPECT_EQ(ParseUri(uri), std::nullopt) << uri;
  }
  EXPECT_EQ(ParseUri(std::string_view("espalier://admin/a\0", 19)), std::nullopt);
}

TEST(CertificateTest, OneUriAmongOtherNamesSaysWho) {
  const std::string pem = Named(
      "DNS:a.example,URI:https://example.org/a,URI:espalier://viewer/"
      "vera,IP:10.0.0.1,IP:2001:db8:0:0::1,"
      "email:a@b");
  EXPECT_EQ(IdentityIn(pem), (Identity{Role::kViewer, "vera"}));
  EXPECT_THAT(ReadCertificate(pem)->hosts, ElementsAre("a.example", "10.0.0.1", "2001:db8::1"));
}

TEST(CertificateTest, CertificatesThatLeaveOpenWhoSayNobody) {
  EXPECT_EQ(IdentityIn(Named("")), std::nullopt);
  EXPECT_EQ(IdentityIn(Named("DNS:espalier.example", "espalier://admin/ada")), std::nullopt);
  EXPECT_EQ(IdentityIn(Named("URI:espalier://viewer/a,URI:espalier://admin/a")), std::nullopt);
  EXPECT_EQ(IdentityIn(Named("URI:espalier://viewer/a,URI:espalier://viewer/a")), std::nullopt);
  EXPECT_EQ(IdentityIn(Named("URI:espalier://viewer/a,URI:espalier://root/a")), std::nullopt);
  EXPECT_EQ(IdentityIn(Named("URI:espalier://viewer/a,URI:ESPALIER:other")), std::nullopt);
  EXPECT_EQ(IdentityIn(WithUri(std::string_view("espalier://admin/a\0b", 20))), std::nullopt);
  EXPECT_EQ(IdentityIn(WithUri("espalier://admin/a\n")), std::nullopt);
  EXPECT_EQ(IdentityIn(WithUri("espalier://admin/a")), (Identity{Role::kAdmin, "a"}));
}

TEST(CertificateTest, NamesOfOthersCannotSteerATerminal) {
  const Certificate certificate = ReadCertificate(Named("", "a\x1b[31m\nb")).value();
  EXPECT_EQ(certificate.subject.find('\x1b'), std::string::npos);
  EXPECT_EQ(certificate.subject.find('\n'), std::string::npos);
}

TEST(CertificateTest, SerialsHaveNoLeadingZeros) {
  for (int i = 0; i < 20; ++i) {
    const std::string serial = ReadCertificate(Named("")).value().serial;
    EXPECT_NE(serial[0], '0');
    EXPECT_LE(serial.size(), 32u);
    EXPECT_EQ(serial.find_first_not_of("0123456789abcdef"), std::string::npos);
  }
}

TEST(CertificateTest, TextsThatAreNoCertificateAreRefusedByKind) {
  const std::string pem = Named("");
  std::string damaged = pem;
  damaged[pem.size() / 2] = '!';
  const BioPtr der = Writer();
  i2d_X509_bio(der.get(), Decoded(pem).get());
  const std::vector<std::pair<std::string, std::string>> texts = {
      {"", "nothing"},
      {"hello", "no PEM text"},
      {Written(*der), "DER; convert"},
      {NewKey(), "a private key"},
      {NewSigningRequest(NewKey()).value(), "a signing request"},
      {Authority::Load(Made().root)->Revoke({}, Now(), kYear).value(), "a list of revoked"},
      {damaged, "a damaged one"},
      {pem.substr(0, pem.size() - 40), "a damaged one"},
      {std::string(5'000'000, ' ') + pem, "more than 4 MiB"}};
  for (const auto& [text, found] : texts) {
    const auto read = ReadCertificate(text);
    EXPECT_EQ(base::ReasonOf(read.status()), "TLS_FILE_UNREADABLE") << found;
    EXPECT_THAT(base::MessageOf(read.status()), HasSubstr(found));
    EXPECT_FALSE(FingerprintOf(text).ok());
    EXPECT_TRUE(SplitCertificates(text).empty());
  }
  EXPECT_EQ(ERR_peek_error(), 0u);
}

TEST(CertificateTest, ChainsAreSplitInTheirOrder) {
  const std::string a = Named("", "first");
  const std::string b = Named("", "second");
  const auto parts = SplitCertificates("text\n" + a + NewKey() + "between\n" + b);
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_EQ(parts[0], a);
  EXPECT_EQ(parts[1], b);
  EXPECT_EQ(ReadCertificate(a + b)->subject, "CN = first");
  EXPECT_EQ(FingerprintOf(a + b).value(), FingerprintOf(a).value());
  EXPECT_NE(FingerprintOf(a).value(), FingerprintOf(b).value());
  EXPECT_EQ(FingerprintOf(a)->size(), 64u);
}

}  // namespace
}  // namespace espalier::pki
