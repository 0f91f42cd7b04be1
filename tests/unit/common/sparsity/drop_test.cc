#include "common/sparsity/drop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/rng.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Values = std::vector<float>;

// Few distinct magnitudes, so that ties are everywhere.
Values TiedValues(size_t count, uint64_t key) {
  base::Rng rng(key);
  Values values(count);
  for (float& value : values) value = (static_cast<float>(rng.Below(9)) - 4) / 8;
  return values;
}

TEST(DropTest, SmallestMagnitudesGo) {
  EXPECT_THAT(DropSmallestMagnitude(Values{.9f, .1f, -.5f, .05f}, 2), ElementsAre(1, 3));
}

TEST(DropTest, TiesDropTheLowerIndexFirst) {
  EXPECT_THAT(DropSmallestMagnitude(Values{.5f, -.5f, .5f, .1f}, 2), ElementsAre(0, 3));
  EXPECT_THAT(DropSmallestMagnitude(Values{-0.0f, 0.0f, 0.0f}, 2), ElementsAre(0, 1));
}

TEST(DropTest, NoneAndAll) {
  const Values values = {1, 2, 3};
  EXPECT_THAT(DropSmallestMagnitude(values, 0), IsEmpty());
  EXPECT_THAT(DropSmallestMagnitude(values, 3), ElementsAre(0, 1, 2));
  EXPECT_THAT(DropSmallestMagnitude({}, 0), IsEmpty());
}

TEST(DropTest, SelectionEqualsAFullStableSort) {
  const Values values = TiedValues(5000, 3);
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return std::abs(values[a]) < std::abs(values[b]); });
  for (const int count : {1, 2, 999, 2500, 4999, 5000}) {
    std::vector<int32_t> expected(order.begin(), order.begin() + count);
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(DropSmallestMagnitude(values, count), expected) << count;
  }
}

TEST(DropTest, SetRemovalGivesTheGoldenValues) {
  const Values values = {-1,   -.8f, -.6f, -.4f, -.2f, -.1f, .05f,
                         .15f, .3f,  .5f,  .7f,  .9f,  1.1f, 1.3f};
  EXPECT_THAT(DropSetSigned(values, 0.3), ElementsAre(5, 6, 7));
}

TEST(DropTest, SetRemovalTreatsSignsSeparately) {
  // The negatives are all smaller than the positives, yet half of each goes.
  EXPECT_THAT(DropSetSigned(Values{5, -.1f, 6, -.2f, 7, 8, -.3f, -.4f}, 0.5),
              ElementsAre(0, 1, 2, 3));
}

TEST(DropTest, SetRemovalTakesExactZerosFirstAsPositives) {
  EXPECT_THAT(DropSetSigned(Values{.1f, -0.0f, -.1f, 0, .2f}, 0.5), ElementsAre(1, 3));
}

TEST(DropTest, SetRemovalCountsTheFloorOfEachSign) {
  const Values values = TiedValues(1000, 5);
  const auto negatives =
      std::count_if(values.begin(), values.end(), [](float value) { return value < 0; });
  for (const double zeta : {0.0, 0.3, 1.0}) {
    const auto dropped = DropSetSigned(values, zeta);
    const auto dropped_negatives =
        std::count_if(dropped.begin(), dropped.end(), [&](int32_t i) { return values[i] < 0; });
    EXPECT_EQ(dropped_negatives, std::floor(zeta * static_cast<double>(negatives)));
    EXPECT_EQ(std::ssize(dropped) - dropped_negatives,
              std::floor(zeta * static_cast<double>(1000 - negatives)));
    EXPECT_TRUE(std::is_sorted(dropped.begin(), dropped.end()));
  }
}

TEST(DropTest, SetRemovalOfOneSignOnly) {
  EXPECT_THAT(DropSetSigned(Values{-3, -1, -2}, 0.4), ElementsAre(1));
  EXPECT_THAT(DropSetSigned({}, 0.3), IsEmpty());
}

TEST(DropTest, RandomDropIsASubsetThatTheKeyDetermines) {
  const auto dropped = DropRandom(1000, 300, 7);
  EXPECT_EQ(dropped.size(), 300u);
  EXPECT_TRUE(std::is_sorted(dropped.begin(), dropped.end()));
  EXPECT_EQ(std::adjacent_find(dropped.begin(), dropped.end()), dropped.end());
  EXPECT_GE(dropped.front(), 0);
  EXPECT_LT(dropped.back(), 1000);
  EXPECT_EQ(dropped, DropRandom(1000, 300, 7));
  EXPECT_NE(dropped, DropRandom(1000, 300, 8));
}

}  // namespace
}  // namespace espalier::sparsity
