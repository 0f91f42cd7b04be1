#include "common/sparsity/complement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "common/base/rng.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Positions = std::vector<int64_t>;

TEST(ComplementTest, RanksSkipActivePositions) {
  const Positions active = {0, 1, 4, 6};
  EXPECT_THAT(RankToPosition(active, Positions{0, 1, 2, 3, 4}), ElementsAre(2, 3, 5, 7, 8));
  EXPECT_THAT(RankToPosition(active, Positions{2}), ElementsAre(5));
}

TEST(ComplementTest, WithoutActivePositionsRanksArePositions) {
  EXPECT_THAT(RankToPosition({}, Positions{0, 5, 9}), ElementsAre(0, 5, 9));
  EXPECT_THAT(RankToPosition(Positions{3}, {}), IsEmpty());
}

TEST(ComplementTest, PositionToRankUndoesRankToPosition) {
  for (const double density : {0.0, 0.03, 0.5, 0.97, 1.0}) {
    base::Rng rng(11);
    Positions active;
    for (int64_t i = 0; i < 1000; ++i) {
      if (rng.Uniform() < density) active.push_back(i);
    }
    Positions ranks(1000 - active.size());
    std::iota(ranks.begin(), ranks.end(), 0);
    const Positions positions = RankToPosition(active, ranks);
    EXPECT_EQ(positions, Complement(active, 1000));
    EXPECT_EQ(PositionToRank(active, positions), ranks);
    for (const int64_t position : positions) {
      EXPECT_FALSE(std::binary_search(active.begin(), active.end(), position));
    }
  }
}

TEST(ComplementTest, KeptPositionsLeaveOutTheDropped) {
  const Positions active = {0, 2, 3, 7, 8};
  const auto topology = tensor::Topology::FromPositions(3, 3, active).value();
  EXPECT_EQ(KeptPositions(topology, {}), active);
  EXPECT_THAT(KeptPositions(topology, std::vector<int32_t>{0, 3}), ElementsAre(2, 3, 8));
  EXPECT_THAT(KeptPositions(topology, std::vector<int32_t>{0, 1, 2, 3, 4}), IsEmpty());
}

}  // namespace
}  // namespace espalier::sparsity
