#include "common/sparsity/n_of_m.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<int64_t> Dropped(const std::vector<float>& row, NOfM pattern) {
  pattern.cols = static_cast<int64_t>(row.size());
  std::vector<int64_t> columns;
  ForEachDropped(row, pattern, [&](int64_t column) { columns.push_back(column); });
  std::ranges::sort(columns);
  return columns;
}

// Ties: ascending order of (|w|, index) is 3, 0, 1, 2.
TEST(NOfMTest, OfEqualMagnitudesTheLowerIndexGoesFirst) {
  EXPECT_THAT(Dropped({.5F, -.5F, .5F, .1F}, {.kept = 2, .group = 4}), ElementsAre(0, 3));
  EXPECT_THAT(Dropped({0, 0, 0, 0}, {.kept = 1, .group = 4}), ElementsAre(0, 1, 2));
}

TEST(NOfMTest, GroupsAreConsecutiveAndTheLastOneMayBeShort) {
  const std::vector<float> row = {4, 3, 2, 1, 1, 2, 3, 4, 5, -6};
  // Of two members at the end ⌈2 · 2 / 4⌉ = 1 stays.
  EXPECT_THAT(Dropped(row, {.kept = 2, .group = 4}), ElementsAre(2, 3, 4, 5, 8));
  EXPECT_THAT(Dropped(row, {.kept = 1, .group = 8}), ElementsAre(0, 1, 2, 3, 4, 5, 6, 8))
      << "a tie";
  EXPECT_THAT(Dropped(row, {.kept = 4, .group = 4}), IsEmpty());
  EXPECT_EQ((NOfM{.kept = 2, .group = 4, .step = 1, .cols = 10}.KeptInRow()), 5);
  EXPECT_EQ((NOfM{.kept = 1, .group = 8, .step = 1, .cols = 10}.KeptInRow()), 2);
}

// 4 input channels, 2 kernel positions: columns are channel · 2 + position.
TEST(NOfMTest, OfConvolutionsGroupsRunAlongInputChannels) {
  const std::vector<float> row = {9, 1, 8, 2, 7, 3, 6, 4};
  const NOfM pattern{.kept = 2, .group = 4, .step = 2};
  EXPECT_THAT(Dropped(row, pattern), ElementsAre(1, 3, 4, 6));
  const NOfM sized{.kept = 2, .group = 4, .step = 2, .cols = 8};
  EXPECT_EQ(sized.groups(), 2);
  for (int64_t column = 0; column < 8; ++column) EXPECT_EQ(sized.GroupOf(column), column % 2);
}

TEST(NOfMTest, EveryColumnIsInTheGroupThatHasIt) {
  for (const int64_t step : {1, 3, 9}) {
    for (const int64_t channels : {1, 3, 4, 7, 16}) {
      const NOfM pattern{.kept = 1, .group = 4, .step = step, .cols = channels * step};
      std::vector<int> seen(static_cast<size_t>(pattern.cols), 0);
      int64_t kept = 0;
      for (int64_t g = 0; g < pattern.groups(); ++g) {
        kept += pattern.KeptOf(g);
        for (int64_t k = 0; k < pattern.SizeOf(g); ++k) {
          const int64_t column = pattern.FirstOf(g) + k * step;
          ASSERT_LT(column, pattern.cols);
          EXPECT_EQ(pattern.GroupOf(column), g);
          ++seen[static_cast<size_t>(column)];
        }
      }
      EXPECT_EQ(kept, pattern.KeptInRow());
      EXPECT_TRUE(std::ranges::all_of(seen, [](int count) { return count == 1; }));
    }
  }
}

}  // namespace
}  // namespace espalier::sparsity
