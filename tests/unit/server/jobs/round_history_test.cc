#include "server/jobs/listing/round_history.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace espalier::server::jobs {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Le;

// Rounds of which every `every`-th is evaluated; the best one so far is at the indices in `best`.
class Rounds {
 public:
  Rounds(size_t count, size_t every, const std::set<size_t>& best) {
    for (size_t i = 0; i < count; ++i) {
      log_->Append({});  // what else happens in between
      v1::JobEvent event;
      v1::RoundSummary& summary = *event.mutable_round_committed()->mutable_summary();
      summary.set_round(static_cast<int32_t>(i) + 1);
      if (every > 0 && (i + 1) % every == 0) summary.set_test_accuracy(0.5);
      const v1::RoundSummary copy = summary;
      log_->Append(std::move(event));
      history_.Note(copy, best.contains(i));
    }
  }
  std::vector<size_t> Choose(size_t most) const {
    return history_.Choose(history_.size(), history_.best(), most);
  }
  const RoundHistory& history() const { return history_; }

 private:
  std::shared_ptr<events::EventLog> log_ = std::make_shared<events::EventLog>();
  RoundHistory history_{log_};
};

TEST(RoundHistoryTest, EveryRoundIsThereByItsIndex) {
  const Rounds rounds(100, 1, {0, 60});
  ASSERT_EQ(rounds.history().size(), 100U);
  for (size_t i = 0; i < 100; ++i) {
    EXPECT_EQ(rounds.history().At(i).round(), static_cast<int32_t>(i) + 1);
  }
  EXPECT_EQ(rounds.history().best(), 60U);
}

TEST(RoundHistoryTest, AllAreChosenWhereTheyFit) {
  const Rounds rounds(5, 1, {2});
  for (const size_t most : {0U, 5U, 6U}) {
    EXPECT_THAT(rounds.Choose(most), ElementsAre(0, 1, 2, 3, 4));
  }
  EXPECT_THAT(Rounds(0, 1, {}).Choose(3), IsEmpty());
}

TEST(RoundHistoryTest, FewPlacesGoToTheLastTheBestAndTheFirst) {
  const Rounds rounds(100, 10, {69});
  EXPECT_THAT(rounds.Choose(1), ElementsAre(99));
  EXPECT_THAT(rounds.Choose(2), ElementsAre(69, 99));
  EXPECT_THAT(rounds.Choose(3), ElementsAre(0, 69, 99));
  EXPECT_THAT(Rounds(100, 0, {}).Choose(2), ElementsAre(0, 99));
}

TEST(RoundHistoryTest, EvaluatedRoundsComeBeforeOthers) {
  const Rounds rounds(100, 10, {69});
  // 9, 19, … 99, of which 69 and 99 have their places already, and the first.
  EXPECT_THAT(rounds.Choose(11), ElementsAre(0, 9, 19, 29, 39, 49, 59, 69, 79, 89, 99));
  // Four of the eight: the indices 1, 3, 5 and 7.
  EXPECT_THAT(rounds.Choose(7), ElementsAre(0, 19, 39, 59, 69, 89, 99));
}

TEST(RoundHistoryTest, OthersAreEvenlySpaced) {
  EXPECT_THAT(Rounds(12, 0, {}).Choose(7), ElementsAre(0, 2, 4, 6, 8, 10, 11));
  const std::vector<size_t> chosen = Rounds(10'000, 0, {}).Choose(500);
  ASSERT_EQ(chosen.size(), 500U);
  std::vector<size_t> gaps;
  for (size_t i = 1; i < chosen.size(); ++i) gaps.push_back(chosen[i] - chosen[i - 1]);
  EXPECT_THAT(gaps, Each(Le(21U)));
}

TEST(RoundHistoryTest, AsManyAsAreAskedForHoweverManyAreEvaluated) {
  for (const size_t every : {0U, 1U, 2U, 7U, 50U}) {
    const Rounds rounds(200, every, {every});
    for (size_t most = 1; most <= 200; ++most) {
      const std::vector<size_t> chosen = rounds.Choose(most);
      ASSERT_EQ(chosen.size(), most);
      ASSERT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
      ASSERT_EQ(chosen.back(), 199U);
    }
  }
}

TEST(RoundHistoryTest, LaterRoundsDoNotChangeWhatIsChosenOfTheFirst) {
  const std::vector<size_t> before = Rounds(50, 5, {9}).Choose(20);
  const Rounds after(80, 5, {9, 74});
  EXPECT_EQ(after.history().Choose(50, 9, 20), before);
}

}  // namespace
}  // namespace espalier::server::jobs
