#include "worker/recommender/interactions.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/worker/recommender/fixtures.h"

namespace espalier::worker::recommender {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(InteractionsTest, RowsAreTheItemsOfUsers) {
  const auto set = Interactions::Create(9, {0, 2, 2, 5}, {1, 8, 0, 3, 4}).value();
  EXPECT_EQ(set.users(), 3);
  EXPECT_EQ(set.items(), 9);
  EXPECT_EQ(set.size(), 5);
  EXPECT_THAT(set.Of(0), ElementsAre(1, 8));
  EXPECT_THAT(set.Of(1), IsEmpty());
  EXPECT_TRUE(set.Contains(2, 3));
  EXPECT_FALSE(set.Contains(2, 2));
  EXPECT_EQ(set.UserOf(0), 0);
  EXPECT_EQ(set.UserOf(1), 0);
  EXPECT_EQ(set.UserOf(2), 2);
  EXPECT_EQ(Interactions().users(), 0);
}

TEST(InteractionsTest, MistakesNameTheUser) {
  const auto error = [](std::vector<int64_t> offsets, std::vector<int32_t> items) {
    return Interactions::Create(9, std::move(offsets), std::move(items)).status();
  };
  EXPECT_EQ(base::ReasonOf(error({0, 3}, {1, 2})), "INTERACTIONS_SHAPE");
  EXPECT_EQ(base::ReasonOf(error({0, 2, 1, 2}, {1, 2})), "INTERACTIONS_SHAPE");
  EXPECT_EQ(base::ReasonOf(error({}, {})), "INTERACTIONS_SHAPE");
  EXPECT_EQ(base::ReasonOf(error({0, 1, 2}, {1, 9})), "ITEM_OUT_OF_RANGE");
  EXPECT_EQ(base::ReasonOf(error({0, 1, 2}, {1, -1})), "ITEM_OUT_OF_RANGE");
  EXPECT_EQ(base::ReasonOf(error({0, 2}, {5, 3})), "INTERACTIONS_ORDER");
  const auto twice = error({0, 1, 3}, {1, 5, 5});
  EXPECT_EQ(base::ReasonOf(twice), "DUPLICATE_INTERACTION");
  EXPECT_THAT(base::MessageOf(twice), HasSubstr("user 1: item 5 occurs twice"));
}

TEST(DrawNegativesTest, AreDistinctItemsThatTheUserHasNowhere) {
  const auto train = SmallInteractions(3);
  const auto test = SmallInteractions(4);
  const Interactions negatives = DrawNegatives(*train, *test, 30, 7);
  for (int64_t user = 0; user < kUsers; ++user) {
    ASSERT_EQ(negatives.CountOf(user), 30);
    for (const int32_t item : negatives.Of(user)) {
      EXPECT_FALSE(train->Contains(user, item));
      EXPECT_FALSE(test->Contains(user, item));
    }
  }
  EXPECT_EQ(negatives, DrawNegatives(*train, *test, 30, 7));
  EXPECT_NE(negatives, DrawNegatives(*train, *test, 30, 8));
}

TEST(DrawNegativesTest, AreAllThatIsLeftWhereFewAreLeft) {
  const auto train = Interactions::Create(5, {0, 2}, {0, 4}).value();
  const auto test = Interactions::Create(5, {0, 1}, {2}).value();
  EXPECT_THAT(DrawNegatives(train, test, 100, 1).Of(0), ElementsAre(1, 3));
}

}  // namespace
}  // namespace espalier::worker::recommender
