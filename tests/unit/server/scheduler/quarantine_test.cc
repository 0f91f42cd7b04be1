#include "server/scheduler/quarantine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/fake_clock.h"

namespace espalier::server::scheduler {
namespace {

class QuarantineTest : public testing::Test {
 protected:
  // Another result of the worker is refused.
  bool Strike(const std::string& worker) {
    return quarantine_.Strike(worker, "update-" + std::to_string(next_++), "NON_FINITE").begins;
  }
  // So many sessions end, `apart` from each other, and the worker registers after each.
  bool Flap(const std::string& worker, int times, absl::Duration apart, bool is_its_own = true) {
    bool begins = false;
    for (int i = 0; i < times; ++i) {
      clock_.Advance(apart);
      quarantine_.SessionEnded(worker);
      begins = quarantine_.Registers(worker, [=](absl::Duration) { return is_its_own; }) || begins;
    }
    return begins;
  }
  absl::Duration Left(const std::string& worker) const {
    const auto term = quarantine_.Find(worker);
    return term.has_value() ? term->until - clock_.Elapsed() : absl::ZeroDuration();
  }

  test::FakeClock clock_;
  Quarantine quarantine_{clock_};

 private:
  int next_ = 0;
};

TEST_F(QuarantineTest, ThreeStrikesBeginAQuarantineOfAMinuteThatEndsByItself) {
  EXPECT_FALSE(Strike("w"));
  EXPECT_FALSE(Strike("w"));
  EXPECT_FALSE(quarantine_.Find("w").has_value());
  EXPECT_TRUE(Strike("w"));
  EXPECT_EQ(Left("w"), absl::Minutes(1));
  EXPECT_THAT(quarantine_.Find("w")->why, testing::HasSubstr("NON_FINITE"));
  EXPECT_FALSE(quarantine_.Find("another").has_value());
  clock_.Advance(absl::Minutes(1));
  EXPECT_FALSE(quarantine_.Find("w").has_value());
}

TEST_F(QuarantineTest, TheSameResultAgainIsNoFurtherStrike) {
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(quarantine_.Strike("w", "one", "SHAPE_MISMATCH").counted, i == 0);
  }
  EXPECT_FALSE(quarantine_.Find("w").has_value());
  // Without an id nobody knows whether it is the same.
  EXPECT_FALSE(quarantine_.Strike("w", "", "INVALID_UPDATE_ID").begins);
  EXPECT_TRUE(quarantine_.Strike("w", "", "INVALID_UPDATE_ID").begins);
}

TEST_F(QuarantineTest, StrikesThatAreLongAgoDoNotCount) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_FALSE(Strike("w"));
    clock_.Advance(absl::Minutes(31));
  }
}

TEST_F(QuarantineTest, EachFurtherQuarantineIsTwiceAsLongUpToAnHour) {
  for (const int minutes : {1, 2, 4, 8, 16, 32, 60, 60}) {
    while (!Strike("w")) {
    }
    EXPECT_EQ(Left("w"), absl::Minutes(minutes));
    clock_.Advance(absl::Minutes(minutes));
    EXPECT_EQ(Left("w"), absl::ZeroDuration());
  }
}

TEST_F(QuarantineTest, AllIsForgottenAfterAGoodTimeFromTheEndOfTheQuarantine) {
  for (int i = 0; i < 6; ++i) Strike("w");
  EXPECT_EQ(Left("w"), absl::Minutes(2));
  clock_.Advance(absl::Hours(6));
  Strike("w");
  Strike("w");
  Strike("w");
  EXPECT_EQ(Left("w"), absl::Minutes(4)) << "the good time had not passed";
  clock_.Advance(absl::Hours(6) + absl::Minutes(5));
  for (int i = 0; i < 3; ++i) Strike("w");
  EXPECT_EQ(Left("w"), absl::Minutes(1));
}

TEST_F(QuarantineTest, AnOperatorEndsItAndTheNextOneIsShortAgain) {
  for (int i = 0; i < 6; ++i) Strike("w");
  quarantine_.Forget("w");
  EXPECT_FALSE(quarantine_.Find("w").has_value());
  for (int i = 0; i < 3; ++i) Strike("w");
  EXPECT_EQ(Left("w"), absl::Minutes(1));
}

TEST_F(QuarantineTest, TheSixthShortLifeWithinTwoMinutesIsFlapping) {
  EXPECT_FALSE(Flap("w", 5, absl::Seconds(20)));
  EXPECT_TRUE(Flap("w", 1, absl::Seconds(10)));
  EXPECT_EQ(Left("w"), absl::Minutes(1));
  EXPECT_THAT(quarantine_.Find("w")->why, testing::HasSubstr("came and went 6 times"));
  // Who goes on so stays out for longer each time.
  EXPECT_TRUE(Flap("w", 6, absl::Seconds(1)));
  EXPECT_EQ(Left("w"), absl::Minutes(2));
}

TEST_F(QuarantineTest, LivesThatAreLongEnoughOrUsefulOrEndWithOthersAreNotFlapping) {
  EXPECT_FALSE(Flap("slow", 100, absl::Seconds(25)));
  EXPECT_FALSE(Flap("partition", 100, absl::Seconds(1), /*is_its_own=*/false));
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Flap("useful", 4, absl::Seconds(1)));
    quarantine_.GoodResult("useful");
  }
}

TEST_F(QuarantineTest, GoodResultsTakeNoStrikesBack) {
  Strike("w");
  Strike("w");
  quarantine_.GoodResult("w");
  EXPECT_TRUE(Strike("w"));
}

TEST_F(QuarantineTest, AsManyIdsAsOneLikesTakeBoundedMemoryAndThoseInQuarantineStay) {
  for (int i = 0; i < 3; ++i) Strike("w");
  for (size_t i = 0; i < 2 * Quarantine::kMost; ++i) {
    quarantine_.SessionEnded("stranger-" + std::to_string(i));
  }
  EXPECT_TRUE(quarantine_.Find("w").has_value());
}

}  // namespace
}  // namespace espalier::server::scheduler
