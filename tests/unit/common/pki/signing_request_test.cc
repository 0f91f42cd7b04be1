#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/rsa.h>

#include "common/base/status.h"
#include "common/pki/authority.h"
#include "tests/unit/common/pki/chain.h"

namespace espalier::pki {
namespace {

using testing::HasSubstr;
using RequestPtr = OpenSsl<X509_REQ, X509_REQ_free>;

absl::StatusOr<std::string> Sign(const std::string& request) {
  return Authority::Load(Made().workers)->Sign(Of(Role::kWorker, "edge-1"), request);
}

std::string RequestOf(const KeyPtr& key) { return NewSigningRequest(PemOfKey(key)).value(); }

RequestPtr Decode(const std::string& pem) {
  return RequestPtr(PEM_read_bio_X509_REQ(Reader(pem).get(), nullptr, nullptr, nullptr));
}

std::string PemOf(X509_REQ& request) {
  const BioPtr bio = Writer();
  PEM_write_bio_X509_REQ(bio.get(), &request);
  return Written(*bio);
}

TEST(SigningRequestTest, KeyOfTheRequestIsInTheCertificate) {
  const std::string key = NewKey();
  const std::string request = NewSigningRequest(key).value();
  EXPECT_EQ(X509_NAME_entry_count(X509_REQ_get_subject_name(Decode(request).get())), 0);
  const auto made = Sign(request);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_EQ(Verified(*made, Made().root.certificate, X509_PURPOSE_SSL_CLIENT), "ok");
  EXPECT_EQ(X509_check_private_key(Decoded(*made).get(), ReadKey(key)->get()), 1);
  EXPECT_EQ(ReadCertificate(*made)->identity, (Identity{Role::kWorker, "edge-1"}));
}

TEST(SigningRequestTest, NamesThatTheRequestAsksForAreIgnored) {
  const KeyPtr key = ReadKey(NewKey()).value();
  const RequestPtr request = Decode(RequestOf(key));
  X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>("admin"), -1, -1, 0);
  STACK_OF(X509_EXTENSION)* extensions = nullptr;
  for (const auto& [nid, value] :
       {std::pair(NID_subject_alt_name, "URI:espalier://admin/ada,DNS:coordinator"),
        std::pair(NID_basic_constraints, "critical,CA:TRUE"),
        std::pair(NID_ext_key_usage, "serverAuth")}) {
    X509v3_add_ext(&extensions, X509V3_EXT_conf_nid(nullptr, nullptr, nid, value), -1);
  }
  X509_REQ_add_extensions(request.get(), extensions);
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  X509_REQ_sign(request.get(), key.get(), EVP_sha256());
  const auto made = Sign(PemOf(*request));
  ASSERT_TRUE(made.ok()) << made.status();
  const Certificate certificate = ReadCertificate(*made).value();
  EXPECT_EQ(certificate.subject, "CN = edge-1");
  EXPECT_EQ(certificate.identity, (Identity{Role::kWorker, "edge-1"}));
  EXPECT_TRUE(certificate.hosts.empty());
  EXPECT_FALSE(certificate.is_authority);
  EXPECT_EQ(Verified(*made, Made().root.certificate, X509_PURPOSE_SSL_CLIENT), "ok");
  EXPECT_NE(Verified(*made, Made().root.certificate, X509_PURPOSE_SSL_SERVER), "ok");
}

TEST(SigningRequestTest, SignatureOfAnotherKeyIsRefused) {
  const KeyPtr key = ReadKey(NewKey()).value();
  const KeyPtr victim = ReadKey(NewKey()).value();
  const RequestPtr request = Decode(RequestOf(key));
  X509_REQ_set_pubkey(request.get(), victim.get());
  X509_REQ_sign(request.get(), key.get(), EVP_sha256());
  const auto made = Sign(PemOf(*request));
  EXPECT_EQ(base::ReasonOf(made.status()), "SIGNING_REQUEST_INVALID");
  EXPECT_THAT(base::MessageOf(made.status()), HasSubstr("signature is wrong"));
}

TEST(SigningRequestTest, StrongKeysOfEveryKindAreSigned) {
  std::vector<KeyPtr> keys;
  keys.emplace_back(EVP_EC_gen("P-256"));
  keys.emplace_back(EVP_EC_gen("P-384"));
  keys.emplace_back(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519"));
  keys.emplace_back(EVP_RSA_gen(2048));
  for (const KeyPtr& key : keys) {
    const auto made = Sign(RequestOf(key));
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ(Verified(*made, Made().root.certificate, X509_PURPOSE_SSL_CLIENT), "ok");
  }
}

TEST(SigningRequestTest, WeakAndUnknownKeysAreRefused) {
  std::vector<std::pair<KeyPtr, std::string>> keys;
  keys.emplace_back(EVP_RSA_gen(1024), "RSA of 1024 bits");
  keys.emplace_back(EVP_RSA_gen(2040), "RSA of 2040 bits");
  keys.emplace_back(EVP_EC_gen("P-224"), "secp224r1");
  keys.emplace_back(EVP_EC_gen("secp256k1"), "secp256k1");
  keys.emplace_back(EVP_PKEY_Q_keygen(nullptr, nullptr, "ED448"), "another kind");
  for (const auto& [key, found] : keys) {
    const auto made = Sign(RequestOf(key));
    EXPECT_EQ(base::ReasonOf(made.status()), "SIGNING_REQUEST_INVALID") << found;
    EXPECT_THAT(base::MessageOf(made.status()), HasSubstr(found));
  }
}

TEST(SigningRequestTest, CurveThatARequestDescribesItselfIsRefused) {
  const KeyPtr key(EVP_EC_gen("P-256"));
  EVP_PKEY_set_utf8_string_param(key.get(), "point-format", "uncompressed");
  EVP_PKEY_set_utf8_string_param(key.get(), "encoding", "explicit");
  const auto made = Sign(RequestOf(key));
  EXPECT_EQ(base::ReasonOf(made.status()), "SIGNING_REQUEST_INVALID");
  EXPECT_THAT(base::MessageOf(made.status()), HasSubstr("describes itself"));
}

TEST(SigningRequestTest, TextsThatAreNoRequestAreRefused) {
  const std::string good = NewSigningRequest(NewKey()).value();
  std::string damaged = good;
  damaged[good.size() / 2] = damaged[good.size() / 2] == 'A' ? 'B' : 'A';
  for (const std::string& text :
       {std::string(), std::string("hello"), good.substr(0, good.size() / 2), damaged,
        std::string(20'000, '\n') + good, Made().root.certificate, NewKey()}) {
    EXPECT_EQ(base::ReasonOf(Sign(text).status()), "SIGNING_REQUEST_INVALID");
  }
  EXPECT_TRUE(Sign("a comment\n" + good + "more").ok());
}

}  // namespace
}  // namespace espalier::pki
