#include "common/sparsity/random_topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Positions = std::vector<int64_t>;

// The header's definition, word for word.
Positions DrawByDefinition(uint64_t key, int64_t count, int64_t universe) {
  base::Rng rng(key);
  const bool complement = count > universe / 2;
  const int64_t drawn = complement ? universe - count : count;
  std::set<int64_t> chosen;
  while (static_cast<int64_t>(chosen.size()) < drawn) {
    chosen.insert(static_cast<int64_t>(rng.Below(universe)));
  }
  if (!complement) return Positions(chosen.begin(), chosen.end());
  Positions rest;
  for (int64_t i = 0; i < universe; ++i) {
    if (!chosen.contains(i)) rest.push_back(i);
  }
  return rest;
}

TEST(DrawPositionsTest, FollowsItsDefinition) {
  for (const int64_t universe : {1, 2, 3, 10, 1000, 40000}) {
    for (const double share : {0.0, 0.01, 0.3, 0.5, 0.51, 0.9, 1.0}) {
      const auto count = static_cast<int64_t>(share * static_cast<double>(universe));
      for (uint64_t key = 0; key < 5; ++key) {
        EXPECT_EQ(DrawPositions(key, count, universe), DrawByDefinition(key, count, universe))
            << count << " of " << universe << " with key " << key;
      }
    }
  }
}

TEST(DrawPositionsTest, FollowsItsDefinitionInALargeUniverse) {
  const int64_t universe = (int64_t{1} << 52) + 3;
  EXPECT_EQ(DrawPositions(9, 20000, universe), DrawByDefinition(9, 20000, universe));
}

// Seeds are broadcast instead of positions, so these numbers must never change.
TEST(DrawPositionsTest, DrawsTheSameOnEveryMachine) {
  EXPECT_THAT(DrawPositions(1, 8, 1000), ElementsAre(47, 57, 91, 328, 384, 448, 617, 886));
  EXPECT_THAT(DrawPositions(0xFEDCBA9876543210, 4, int64_t{1} << 40),
              ElementsAre(511907084061, 548586357580, 914616041012, 1014316712477));
}

TEST(DrawPositionsTest, NoneAndAll) {
  EXPECT_THAT(DrawPositions(1, 0, 0), IsEmpty());
  EXPECT_THAT(DrawPositions(1, 0, 5), IsEmpty());
  EXPECT_THAT(DrawPositions(1, 5, 5), ElementsAre(0, 1, 2, 3, 4));
}

TEST(DrawPositionsTest, MillionPositionsAreDistinctAndAscending) {
  const Positions drawn = DrawPositions(3, 1250000, 25000000);
  ASSERT_EQ(drawn.size(), 1250000u);
  EXPECT_TRUE(std::is_sorted(drawn.begin(), drawn.end(), std::less_equal<>()));
  EXPECT_GE(drawn.front(), 0);
  EXPECT_LT(drawn.back(), 25000000);
}

// Chi-square over all subsets of one size: every one must be equally likely.
class UniformityTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(UniformityTest, EverySubsetIsEquallyLikely) {
  const int64_t count = GetParam();
  constexpr int64_t kUniverse = 6;
  std::map<Positions, int> seen;
  constexpr int kDraws = 60000;
  for (uint64_t i = 0; i < kDraws; ++i) {
    ++seen[DrawPositions(base::StreamKey(42, "uniformity", {i}), count, kUniverse)];
  }
  const std::map<int64_t, size_t> subsets = {{1, 6}, {2, 15}, {3, 20}, {4, 15}, {5, 6}};
  ASSERT_EQ(seen.size(), subsets.at(count));
  const double expected = static_cast<double>(kDraws) / static_cast<double>(seen.size());
  double chi_square = 0;
  for (const auto& [subset, times] : seen) {
    chi_square += (times - expected) * (times - expected) / expected;
  }
  // The 0.999 quantile of chi-square with 19 degrees of freedom is 43.8, with fewer it is less.
  EXPECT_LT(chi_square, 43.8);
}

INSTANTIATE_TEST_SUITE_P(Counts, UniformityTest, ::testing::Values(1, 2, 3, 4, 5));

TEST(DrawPositionsTest, PositionsSpreadEvenlyAtHalfDensity) {
  // Many rounds of replacements happen here; each tenth must still get its share.
  std::vector<int> tenths(10);
  for (const int64_t position : DrawPositions(5, 50000, 100000)) ++tenths[position / 10000];
  for (const int count : tenths) EXPECT_NEAR(count, 5000, 250);
}

TEST(RandomTopologyTest, HasExactlyTheCount) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{30, 1}, {1, 30}, {12, 11}}) {
    for (const int64_t count : {int64_t{0}, int64_t{1}, rows * cols / 2, rows * cols}) {
      const tensor::Topology topology = RandomTopology(rows, cols, count, 7).value();
      EXPECT_EQ(topology.nnz(), count);
      EXPECT_EQ(topology.Positions(), DrawPositions(7, count, rows * cols));
    }
  }
}

TEST(RandomTopologyTest, ImpossibleCountsAndShapesAreRefused) {
  const auto reason = [](int64_t rows, int64_t cols, int64_t count) {
    return base::ReasonOf(RandomTopology(rows, cols, count, 1).status());
  };
  EXPECT_EQ(reason(3, 4, 13), "COUNT_OUT_OF_RANGE");
  EXPECT_EQ(reason(3, 4, -1), "COUNT_OUT_OF_RANGE");
  EXPECT_EQ(reason(-3, 4, 0), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(reason(3, int64_t{1} << 40, 0), "SHAPE_OUT_OF_RANGE");
}

}  // namespace
}  // namespace espalier::sparsity
