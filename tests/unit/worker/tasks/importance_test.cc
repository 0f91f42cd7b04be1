#include "worker/tasks/network/additions/importance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace espalier::worker::tasks {
namespace {

using ::testing::ElementsAre;

void Add(Importance& importance, float a, float b) {
  importance.sums()[0] += a;
  importance.sums()[1] += b;
  importance.EndMinibatch();
}

TEST(ImportanceTest, OneGroupIsTheSquareOfTheSum) {
  Importance importance(2, 0);
  Add(importance, 1, -2);
  Add(importance, 2, 2);
  EXPECT_THAT(importance.Take(), ElementsAre(9, 0));
}

TEST(ImportanceTest, SquaresOfGroupsAreAddedAndTheLastMayBeShorter) {
  Importance importance(2, 2);
  Add(importance, 1, -2);
  Add(importance, 2, 2);
  Add(importance, 1, 1);
  Add(importance, 1, 1);
  Add(importance, -3, 0);
  EXPECT_THAT(importance.Take(), ElementsAre(9 + 4 + 9, 0 + 4 + 0));
}

TEST(ImportanceTest, FewerMinibatchesThanAGroupAreOne) {
  Importance importance(2, 5);
  Add(importance, 1, -2);
  EXPECT_THAT(importance.Take(), ElementsAre(1, 4));
}

}  // namespace
}  // namespace espalier::worker::tasks
