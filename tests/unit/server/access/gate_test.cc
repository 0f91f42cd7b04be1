// Real certificates and tokens against the gate.
#include "server/access/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "common/base/status.h"
#include "common/pki/authority.h"
#include "common/pki/key.h"
#include "server/access/open_calls.h"
#include "tests/support/fake_clock.h"
#include "tests/support/manual_executor.h"
#include "tests/support/seeded_entropy.h"

namespace espalier::server::access {
namespace {

constexpr absl::Duration kDay = absl::Hours(24);

class GateTest : public testing::Test {
 protected:
  std::string Certificate(pki::Role role, const std::string& name) {
    return Issued(root_, role, name);
  }
  std::string Issued(const pki::Authority& authority, pki::Role role, const std::string& name) {
    pki::Subject subject;
    subject.identity.role = role;
    subject.identity.name = name;
    subject.now = clock_.Wall();
    subject.lifetime = kDay;
    return authority.Issue(subject, pki::NewKey()).value();
  }
  static Credentials With(const std::string& certificates, const std::string& token = "") {
    return {.peer = "10.0.0.1:5",
            .tls = true,
            .certificates = certificates,
            .authorization = token.empty() ? "" : "Bearer " + token};
  }
  std::string Token(v1::AccessRole role) {
    v1::Token token;
    token.set_kind(v1::Token::KIND_USER);
    token.set_user("tom");
    token.set_role(role);
    return registry_->CreateToken(token, kDay, "ada").value().secret;
  }
  std::string Reason(const Credentials& credentials, const char* call = "ListJobs") {
    return base::ReasonOf(gate_.Admit(credentials, call).status());
  }

  test::FakeClock clock_;
  test::SeededEntropy entropy_{1};
  test::ManualExecutor core_;
  jobs::Journal journal_{core_, clock_};
  std::shared_ptr<Registry> registry_ = std::make_shared<Registry>(clock_, entropy_, journal_);
  std::set<std::string> revoked_;
  const Gate gate_{clock_, *registry_, [this](const pki::Certificate& certificate) {
                     return revoked_.contains(certificate.serial);
                   }};
  const pki::AuthorityFiles files_ = pki::NewRoot(clock_.Wall(), 100 * kDay);
  const pki::Authority root_ = pki::Authority::Load(files_).value();
};

TEST_F(GateTest, ACertificateSaysWhoCalls) {
  const auto caller = gate_.Admit(With(Certificate(pki::Role::kSubmitter, "bob")), "CreateJob");
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->name, "bob");
  EXPECT_EQ(caller->role, pki::Role::kSubmitter);
  EXPECT_EQ(caller->peer, "10.0.0.1:5");
  EXPECT_TRUE(caller->MaySee("bob"));
  EXPECT_FALSE(caller->MaySee("eve"));
  EXPECT_FALSE(caller->MaySee(""));
  EXPECT_EQ(Reason(With(Certificate(pki::Role::kViewer, "vic")), "CreateJob"), "ROLE_NOT_ALLOWED");
}

TEST_F(GateTest, ATokenCountsBeforeTheCertificateOfWhoeverSendsIt) {
  // As a page does that has a certificate of its own.
  const auto caller = gate_.Admit(
      With(Certificate(pki::Role::kAdmin, "page"), Token(v1::ACCESS_ROLE_VIEWER)), "ListJobs");
  ASSERT_TRUE(caller.ok());
  EXPECT_EQ(caller->name, "tom");
  EXPECT_EQ(caller->role, pki::Role::kViewer);
}

TEST_F(GateTest, WithoutAnythingNobodyIsLetInButToJoin) {
  EXPECT_EQ(Reason(With("")), "CREDENTIALS_MISSING");
  EXPECT_EQ(Reason(With(""), "WhoAmI"), "CREDENTIALS_MISSING");
  EXPECT_EQ(Reason(With(""), "NoSuchCall"), "CREDENTIALS_MISSING");
  EXPECT_EQ(Reason(With(""), "Join"), "");
}

TEST_F(GateTest, NothingCountsThatCameInPlainText) {
  Credentials plain = With(Certificate(pki::Role::kAdmin, "ada"));
  plain.tls = false;
  EXPECT_EQ(Reason(plain), "CREDENTIALS_MISSING");
  plain = With("", Token(v1::ACCESS_ROLE_ADMIN));
  plain.tls = false;
  EXPECT_EQ(Reason(plain), "TOKEN_WITHOUT_TLS");
}

TEST_F(GateTest, AuthorizationOfAnotherFormIsRefused) {
  Credentials credentials = With(Certificate(pki::Role::kAdmin, "ada"));
  for (const char* text : {"Basic YTpi", "Bearer", "Bearer ", "Bearer x", "\x01"}) {
    credentials.authorization = text;
    EXPECT_EQ(Reason(credentials), "TOKEN_UNKNOWN") << text;
  }
}

TEST_F(GateTest, CertificatesWithoutARoleAreRefusedWithTheirName) {
  // Another authority's, of a company for instance, which has no such line.
  const auto refused = gate_.Admit(With(files_.certificate), "ListJobs");
  EXPECT_EQ(base::ReasonOf(refused.status()), "CERTIFICATE_WITHOUT_ROLE");
  EXPECT_THAT(base::MessageOf(refused.status()), testing::HasSubstr("CN = Espalier"));
  EXPECT_FALSE(gate_.Admit(With("-----BEGIN nothing"), "ListJobs").ok());
}

TEST_F(GateTest, WhatEndsOrIsRevokedLaterIsRefusedOnTheSameConnection) {
  const std::string worker = Certificate(pki::Role::kWorker, "w1");
  const std::string other = Certificate(pki::Role::kWorker, "w2");
  const auto caller = gate_.Admit(With(worker), "Session");
  ASSERT_TRUE(caller.ok());
  EXPECT_TRUE(gate_.StillGood(*caller).ok());
  revoked_.insert(caller->credential);
  EXPECT_EQ(Reason(With(worker), "Fetch"), "CERTIFICATE_REVOKED");
  EXPECT_EQ(base::ReasonOf(gate_.StillGood(*caller)), "CERTIFICATE_REVOKED");
  EXPECT_EQ(Reason(With(other), "Fetch"), "");
  clock_.Advance(kDay);
  EXPECT_EQ(Reason(With(other), "Fetch"), "CERTIFICATE_EXPIRED");
}

TEST_F(GateTest, AnAuthorityThatWasRevokedTakesItsCertificatesWithIt) {
  const auto files = pki::NewWorkerAuthority(files_, clock_.Wall(), 50 * kDay).value();
  const auto workers = pki::Authority::Load(files).value();
  const std::string worker = Issued(workers, pki::Role::kWorker, "w1");
  EXPECT_EQ(Reason(With(worker), "Fetch"), "");
  revoked_.insert(pki::ReadCertificate(files.certificate)->serial);
  EXPECT_EQ(Reason(With(worker), "Fetch"), "CERTIFICATE_REVOKED");
}

TEST_F(GateTest, OpenCallsEndWhenTheirCallersAreKnownNoMore) {
  OpenCalls open;
  std::vector<std::string> ended;
  const auto add = [&](const Credentials& credentials, const char* call, const std::string& name) {
    return open.Add(gate_.Admit(credentials, call).value(),
                    [&ended, name](const absl::Status& why) {
                      ended.push_back(name + " " + base::ReasonOf(why));
                    });
  };
  const std::string worker = Certificate(pki::Role::kWorker, "w1");
  add(With(worker), "Session", "w1");
  add(With(Certificate(pki::Role::kWorker, "w2")), "Session", "w2");
  add(With("", Token(v1::ACCESS_ROLE_VIEWER)), "WatchJob", "tom");
  const uint64_t gone = add(With(worker), "Session", "gone");
  open.Remove(gone);
  open.Remove(0);
  open.Check(gate_);
  EXPECT_TRUE(ended.empty());
  EXPECT_EQ(open.CertificateOf("w1")->identity->name, "w1");
  EXPECT_FALSE(open.CertificateOf("w3").has_value());
  revoked_.insert(open.CertificateOf("w1")->serial);
  ASSERT_TRUE(registry_->RevokeToken(registry_->Tokens().front().name()).ok());
  open.Check(gate_);
  open.Check(gate_);
  EXPECT_THAT(ended, testing::UnorderedElementsAre("w1 CERTIFICATE_REVOKED", "tom TOKEN_UNKNOWN"));
  clock_.Advance(kDay);
  open.Check(gate_);
  EXPECT_EQ(ended.back(), "w2 CERTIFICATE_EXPIRED");
}

TEST_F(GateTest, AnOpenGateAsksNobody) {
  const Gate open(clock_, *registry_);
  const auto caller = open.Admit({}, "RevokeToken");
  ASSERT_TRUE(caller.ok());
  EXPECT_TRUE(caller->is_open());
  EXPECT_TRUE(caller->MaySee("anybody"));
}

}  // namespace
}  // namespace espalier::server::access
