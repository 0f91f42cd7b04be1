#include "server/access/registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "tests/support/fake_clock.h"
#include "tests/support/manual_executor.h"
#include "tests/support/seeded_entropy.h"

namespace espalier::server::access {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr absl::Duration kDay = absl::Hours(24);

v1::Token JoinToken(const std::string& id, bool any_suffix, int uses) {
  v1::Token token;
  token.set_kind(v1::Token::KIND_JOIN);
  token.set_worker_id(id);
  token.set_any_suffix(any_suffix);
  token.set_uses_left(uses);
  return token;
}

v1::Token UserToken(const std::string& user, v1::AccessRole role) {
  v1::Token token;
  token.set_kind(v1::Token::KIND_USER);
  token.set_user(user);
  token.set_role(role);
  return token;
}

class RegistryTest : public testing::Test {
 protected:
  // What the next process finds: what this one's journal was given.
  void Restart() {
    std::map<std::string, std::string> records = Written();
    registry_ = std::make_shared<Registry>(clock_, entropy_, journal_);
    EXPECT_TRUE(registry_->Restore(records).ok());
  }
  std::map<std::string, std::string> Written() {
    for (const auto& write : registry_->TakeChange().write.access) {
      if (write.record.has_value()) {
        written_[write.name] = *write.record;
      } else {
        written_.erase(write.name);
      }
    }
    return written_;
  }
  std::string Secret(const v1::Token& token, absl::Duration life = kDay) {
    return registry_->CreateToken(token, life, "ada").value().secret;
  }
  pki::Certificate Certificate(const std::string& serial) const {
    pki::Certificate certificate;
    certificate.serial = serial;
    certificate.not_after = clock_.Wall() + kDay;
    return certificate;
  }
  static std::string Reason(const absl::Status& status) { return base::ReasonOf(status); }

  test::FakeClock clock_;
  test::SeededEntropy entropy_{1};
  test::ManualExecutor core_;
  jobs::Journal journal_{core_, clock_};
  std::shared_ptr<Registry> registry_ = std::make_shared<Registry>(clock_, entropy_, journal_);
  std::map<std::string, std::string> written_;
};

TEST_F(RegistryTest, TokenOfAUserStandsForTheUserUntilItEndsAlsoAfterARestart) {
  const std::string secret = Secret(UserToken("bob", v1::ACCESS_ROLE_SUBMITTER));
  Restart();
  const auto caller = registry_->FindUser(secret);
  ASSERT_TRUE(caller.ok()) << caller.status();
  EXPECT_EQ(caller->name, "bob");
  EXPECT_EQ(caller->role, pki::Role::kSubmitter);
  EXPECT_EQ(caller->expires, clock_.Wall() + kDay);
  clock_.Advance(kDay);
  EXPECT_EQ(Reason(registry_->FindUser(secret).status()), "TOKEN_EXPIRED");
  EXPECT_TRUE(registry_->Tokens().empty());
}

TEST_F(RegistryTest, NothingThatIsKeptOrShownHasTheSecretInIt) {
  const std::string secret = Secret(UserToken("bob", v1::ACCESS_ROLE_ADMIN));
  const std::string random = secret.substr(secret.rfind('-') + 1);
  EXPECT_EQ(random.size(), 64U);
  for (const auto& [name, record] : Written()) EXPECT_THAT(record, Not(HasSubstr(random)));
  for (const auto& token : registry_->Tokens()) {
    EXPECT_THAT(token.SerializeAsString(), Not(HasSubstr(random)));
  }
}

TEST_F(RegistryTest, OtherTextsAreNoToken) {
  const std::string secret = Secret(UserToken("bob", v1::ACCESS_ROLE_ADMIN));
  std::string changed = secret;
  changed.back() = changed.back() == '0' ? '1' : '0';
  for (const std::string& text : {std::string(), std::string("x"), std::string("espalier-user-"),
                                  changed, secret + "0", secret.substr(0, secret.size() - 1),
                                  std::string(5000, 'a'), std::string("espalier-user-\0", 15)}) {
    EXPECT_EQ(Reason(registry_->FindUser(text).status()), "TOKEN_UNKNOWN") << text;
    EXPECT_EQ(Reason(registry_->Join(text, "").status()), "TOKEN_UNKNOWN") << text;
  }
}

TEST_F(RegistryTest, ATokenForOneThingIsNoneForAnother) {
  const std::string join = Secret(JoinToken("w1", false, 1));
  const std::string user = Secret(UserToken("bob", v1::ACCESS_ROLE_ADMIN));
  EXPECT_THAT(base::MessageOf(registry_->FindUser(join).status()), HasSubstr("found a join token"));
  EXPECT_THAT(base::MessageOf(registry_->Join(user, "").status()),
              HasSubstr("found a user's token"));
}

TEST_F(RegistryTest, RevokedTokensAreWorthlessAlsoAfterARestart) {
  const std::string secret = Secret(UserToken("bob", v1::ACCESS_ROLE_ADMIN));
  const std::string name = registry_->Tokens().front().name();
  EXPECT_TRUE(registry_->CheckToken(name).ok());
  EXPECT_TRUE(registry_->RevokeToken(name).ok());
  EXPECT_EQ(Reason(registry_->FindUser(secret).status()), "TOKEN_UNKNOWN");
  EXPECT_EQ(Reason(registry_->CheckToken(name)), "TOKEN_UNKNOWN");
  EXPECT_EQ(Reason(registry_->RevokeToken(name)), "TOKEN_NOT_FOUND");
  Restart();
  EXPECT_EQ(Reason(registry_->FindUser(secret).status()), "TOKEN_UNKNOWN");
}

TEST_F(RegistryTest, TokensThatMakeNoSenseAreRefused) {
  const auto refused = [&](const v1::Token& token, absl::Duration life = kDay) {
    return Reason(registry_->CreateToken(token, life, "ada").status());
  };
  EXPECT_EQ(refused(v1::Token()), "INVALID_TOKEN");
  EXPECT_EQ(refused(UserToken("", v1::ACCESS_ROLE_ADMIN)), "INVALID_TOKEN");
  EXPECT_EQ(refused(UserToken("Ada L", v1::ACCESS_ROLE_ADMIN)), "INVALID_TOKEN");
  EXPECT_EQ(refused(UserToken("ada", v1::ACCESS_ROLE_WORKER)), "INVALID_TOKEN");
  EXPECT_EQ(refused(UserToken("ada", v1::ACCESS_ROLE_UNSPECIFIED)), "INVALID_TOKEN");
  EXPECT_EQ(refused(JoinToken("w1", false, 0)), "INVALID_TOKEN");
  EXPECT_EQ(refused(JoinToken("w1", false, 1 << 30)), "INVALID_TOKEN");
  EXPECT_EQ(refused(JoinToken("", false, 1)), "INVALID_TOKEN");
  EXPECT_EQ(refused(JoinToken("a/../b", true, 1)), "INVALID_TOKEN");
  EXPECT_EQ(refused(UserToken("ada", v1::ACCESS_ROLE_ADMIN), absl::ZeroDuration()),
            "INVALID_TOKEN");
  EXPECT_EQ(refused(UserToken("ada", v1::ACCESS_ROLE_ADMIN), kDay * 400), "INVALID_TOKEN");
  EXPECT_EQ(refused(UserToken("ada", v1::ACCESS_ROLE_ADMIN), absl::InfiniteDuration()),
            "INVALID_TOKEN");
}

TEST_F(RegistryTest, AJoinTokenIsGoodForAsManyWorkersAsItSays) {
  const std::string secret = Secret(JoinToken("edge", true, 2));
  const auto first = registry_->Join(secret, "");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(*first, StartsWith("edge-"));
  Restart();
  EXPECT_EQ(registry_->Join(secret, "edge-7").value(), "edge-7");
  EXPECT_EQ(Reason(registry_->Join(secret, "").status()), "TOKEN_USED_UP");
}

TEST_F(RegistryTest, AJoinTokenIsForItsIdsAlone) {
  const std::string one = Secret(JoinToken("w1", false, 9));
  EXPECT_EQ(registry_->Join(one, "").value(), "w1");
  EXPECT_EQ(registry_->Join(one, "w1").value(), "w1");
  EXPECT_EQ(Reason(registry_->Join(one, "w2").status()), "WORKER_ID_NOT_ALLOWED");
  const std::string many = Secret(JoinToken("edge", true, 9));
  for (const char* wanted : {"w1", "edge", "edgy-1", "edge-", "edge-A", "edge-1/2"}) {
    EXPECT_EQ(Reason(registry_->Join(many, wanted).status()), "WORKER_ID_NOT_ALLOWED") << wanted;
  }
}

TEST_F(RegistryTest, WorkersThatShareATokenCannotTakeEachOthersNames) {
  const std::string secret = Secret(JoinToken("edge", true, 9));
  EXPECT_EQ(registry_->Join(secret, "edge-1").value(), "edge-1");
  registry_->NoteCertificate("edge-1", Certificate("a1"));
  EXPECT_EQ(Reason(registry_->Join(secret, "edge-1").status()), "WORKER_ID_TAKEN");
  // Nobody has it any more.
  clock_.Advance(2 * kDay);
  const std::string later = Secret(JoinToken("edge", true, 9));
  EXPECT_TRUE(registry_->Join(later, "edge-1").ok());
}

TEST_F(RegistryTest, WhoJoinsAgainUnderItsOwnTokenReplacesWhoHadTheName) {
  const std::string secret = Secret(JoinToken("w1", false, 2));
  ASSERT_TRUE(registry_->Join(secret, "").ok());
  registry_->NoteCertificate("w1", Certificate("a1"));
  EXPECT_FALSE(registry_->IsRevoked("a1"));
  ASSERT_TRUE(registry_->Join(secret, "").ok());
  EXPECT_TRUE(registry_->IsRevoked("a1"));
}

TEST_F(RegistryTest, RevokingAWorkerRevokesAllItHasAndOnlyThatAlsoAfterARestart) {
  registry_->NoteCertificate("w1", Certificate("a1"));
  registry_->NoteCertificate("w1", Certificate("a2"));
  registry_->NoteCertificate("w2", Certificate("b1"));
  const pki::Certificate by_hand = Certificate("c1");
  ASSERT_TRUE(registry_->RevokeWorker("w1", &by_hand).ok());
  Restart();
  for (const char* serial : {"a1", "a2", "c1"}) EXPECT_TRUE(registry_->IsRevoked(serial));
  EXPECT_FALSE(registry_->IsRevoked("b1"));
  EXPECT_EQ(Reason(registry_->RevokeWorker("w3", nullptr)), "WORKER_NOT_FOUND");
}

TEST_F(RegistryTest, WhatHasEndedIsForgottenInTheStoreToo) {
  (void)Secret(UserToken("bob", v1::ACCESS_ROLE_ADMIN));
  registry_->NoteCertificate("w1", Certificate("a1"));
  EXPECT_EQ(Written().size(), 2U);
  clock_.Advance(2 * kDay);
  (void)Secret(UserToken("eve", v1::ACCESS_ROLE_ADMIN));
  EXPECT_EQ(Written().size(), 1U);
}

TEST_F(RegistryTest, RecordsThatAreNoneAreFoundAndThoseOfLaterVersionsLeft) {
  EXPECT_EQ(Reason(registry_->Restore({{"tokens/a", "\xff\xff"}})), "STORE_CORRUPT");
  EXPECT_TRUE(registry_->Restore({{"something-new/a", "\xff\xff"}}).ok());
}

}  // namespace
}  // namespace espalier::server::access
