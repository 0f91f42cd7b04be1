#include "server/api/deadlines.h"

#include <gtest/gtest.h>

#include <memory>

#include "tests/support/fake_clock.h"

namespace espalier::server::api {
namespace {

class DeadlinesTest : public ::testing::Test {
 protected:
  void Pass(absl::Duration time) {
    clock_.Advance(time);
    all_.Expire();
  }

  test::FakeClock clock_;
  Deadlines all_{clock_};
  int passed_ = 0;
  Deadline deadline_{all_, [this] { ++passed_; }};
};

TEST_F(DeadlinesTest, PassesOnceAndNotBefore) {
  Pass(absl::Hours(1));
  EXPECT_EQ(passed_, 0);
  deadline_.Within(absl::Seconds(10));
  Pass(absl::Seconds(9));
  EXPECT_EQ(passed_, 0);
  Pass(absl::Seconds(1));
  EXPECT_EQ(passed_, 1);
  Pass(absl::Hours(1));
  EXPECT_EQ(passed_, 1);
}

TEST_F(DeadlinesTest, ProgressMovesIt) {
  for (int i = 0; i < 5; ++i) {
    deadline_.Within(absl::Seconds(10));
    Pass(absl::Seconds(9));
  }
  EXPECT_EQ(passed_, 0);
  deadline_.Clear();
  Pass(absl::Hours(1));
  EXPECT_EQ(passed_, 0);
}

TEST_F(DeadlinesTest, MayBeSetAgainAndDestroyedWhenItPasses) {
  auto other = std::make_unique<Deadline>(all_, [] {});
  Deadline again(all_, [&] {
    again.Within(absl::Seconds(1));
    other.reset();
    ++passed_;
  });
  again.Within(absl::Seconds(1));
  Pass(absl::Seconds(1));
  Pass(absl::Seconds(1));
  EXPECT_EQ(passed_, 2);
}

}  // namespace
}  // namespace espalier::server::api
