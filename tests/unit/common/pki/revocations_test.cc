#include "common/pki/revocations.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/common/pki/chain.h"

namespace espalier::pki {
namespace {

using testing::HasSubstr;

std::string ListOf(const AuthorityFiles& files, const std::vector<std::string>& serials,
                   absl::Duration lifetime = absl::Hours(24)) {
  return Authority::Load(files)->Revoke(serials, Now(), lifetime).value();
}

std::string Trusted() { return Made().root.certificate + Made().workers.certificate; }

Certificate Read(const AuthorityFiles& files, const Subject& subject) {
  return ReadCertificate(Issued(files, subject)).value();
}

TEST(RevocationsTest, NothingIsRevokedByNoList) {
  EXPECT_FALSE(Revocations().Contains(Certificate{}));
  const auto empty = Revocations::Parse(" \n", Trusted());
  ASSERT_TRUE(empty.ok()) << empty.status();
  EXPECT_EQ(empty->size(), 0u);
  EXPECT_EQ(empty->next_update(), absl::InfiniteFuture());
}

TEST(RevocationsTest, SerialsCountForTheirAuthorityAlone) {
  const Certificate ada = Read(Made().root, Of(Role::kAdmin, "ada"));
  const Certificate edge = Read(Made().workers, Of(Role::kWorker, "edge-1"));
  const std::string lists =
      ListOf(Made().root, {ada.serial}) + ListOf(Made().workers, {edge.serial}, absl::Hours(2));
  const Revocations revocations = Revocations::Parse(lists, Trusted()).value();
  EXPECT_EQ(revocations.size(), 2u);
  EXPECT_EQ(revocations.next_update(), Now() + absl::Hours(2));
  EXPECT_TRUE(revocations.Contains(ada));
  EXPECT_TRUE(revocations.Contains(edge));
  Certificate other = ada;
  other.issuer_key = edge.issuer_key;
  EXPECT_FALSE(revocations.Contains(other));
  other = ada;
  other.serial += "0";
  EXPECT_FALSE(revocations.Contains(other));
}

TEST(RevocationsTest, CertificateWithoutAKeyIdentifierIsFoundByItsIssuersName) {
  Certificate ada = Read(Made().root, Of(Role::kAdmin, "ada"));
  const Revocations revocations =
      Revocations::Parse(ListOf(Made().root, {ada.serial}), Trusted()).value();
  ada.issuer_key = "";
  EXPECT_TRUE(revocations.Contains(ada));
  ada.issuer = "CN = other";
  EXPECT_FALSE(revocations.Contains(ada));
}

TEST(RevocationsTest, ListOnceOrTwiceIsTheSame) {
  const std::string list = ListOf(Made().root, {"abc"});
  EXPECT_EQ(Revocations::Parse(list + list, Trusted())->size(), 1u);
}

TEST(RevocationsTest, WhatIsSaidOfAnAuthorityItsRootSays) {
  const Certificate workers = ReadCertificate(Made().workers.certificate).value();
  const std::string list = ListOf(Made().root, {workers.serial});
  EXPECT_TRUE(Revocations::Parse(list, Trusted())->Contains(workers));
}

TEST(RevocationsTest, ListsThatNobodyTrustedSignedAreRefused) {
  const AuthorityFiles other = NewRoot(Now(), kYear);
  const auto parsed = Revocations::Parse(ListOf(Made().root, {}) + ListOf(other, {}), Trusted());
  EXPECT_EQ(base::ReasonOf(parsed.status()), "CRL_INVALID");
  EXPECT_THAT(base::MessageOf(parsed.status()),
              HasSubstr(ReadCertificate(other.certificate)->subject));
  EXPECT_EQ(base::ReasonOf(Revocations::Parse(ListOf(Made().root, {}), "").status()),
            "CRL_INVALID");
}

TEST(RevocationsTest, ForgedAndDamagedListsAreRefused) {
  const std::string list = ListOf(Made().root, {"abc"});
  const OpenSsl<X509_CRL, X509_CRL_free> forged(
      PEM_read_bio_X509_CRL(Reader(list).get(), nullptr, nullptr, nullptr));
  X509_CRL_sign(forged.get(), ReadKey(NewKey())->get(), EVP_sha256());
  const BioPtr bio = Writer();
  PEM_write_bio_X509_CRL(bio.get(), forged.get());
  std::string damaged = list;
  damaged[list.size() / 2] = '!';
  for (const std::string& text :
       {Written(*bio), damaged, list + list.substr(0, list.size() / 2), std::string("hello"),
        list + Made().root.certificate, std::string(17 * 1024 * 1024, ' ')}) {
    EXPECT_EQ(base::ReasonOf(Revocations::Parse(text, Trusted()).status()), "CRL_INVALID");
  }
}

TEST(RevocationsTest, ListsAboutChangesOrOthersAreRefused) {
  const KeyPtr key = ReadKey(Made().root.key).value();
  for (const auto& [nid, critical] : {std::pair(NID_delta_crl, 1), std::pair(NID_delta_crl, 0),
                                      std::pair(NID_hold_instruction_code, 1)}) {
    const OpenSsl<X509_CRL, X509_CRL_free> list(
        PEM_read_bio_X509_CRL(Reader(ListOf(Made().root, {})).get(), nullptr, nullptr, nullptr));
    const IntegerPtr number(ASN1_INTEGER_new());
    ASN1_INTEGER_set(number.get(), 1);
    if (nid == NID_delta_crl) {
      X509_CRL_add1_ext_i2d(list.get(), nid, number.get(), critical, 0);
    } else {
      const OpenSsl<ASN1_OBJECT, ASN1_OBJECT_free> code(OBJ_txt2obj("1.2.3", 1));
      X509_CRL_add1_ext_i2d(list.get(), nid, code.get(), critical, 0);
    }
    X509_CRL_sign(list.get(), key.get(), EVP_sha256());
    const BioPtr bio = Writer();
    PEM_write_bio_X509_CRL(bio.get(), list.get());
    const auto parsed = Revocations::Parse(Written(*bio), Trusted());
    EXPECT_EQ(base::ReasonOf(parsed.status()), "CRL_INVALID") << nid;
    EXPECT_THAT(base::MessageOf(parsed.status()), HasSubstr("full list"));
  }
}

}  // namespace
}  // namespace espalier::pki
