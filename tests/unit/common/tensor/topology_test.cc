#include "common/tensor/topology.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace espalier::tensor {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Positions = std::vector<int64_t>;

Topology Make(int64_t rows, int64_t cols, const Positions& positions) {
  return Topology::FromPositions(rows, cols, positions).value();
}

// Each position with the given probability: an independent way to random structures.
Topology RandomStructure(int64_t rows, int64_t cols, double density, uint64_t key) {
  base::Rng rng(key);
  Positions positions;
  for (int64_t i = 0; i < rows * cols; ++i) {
    if (rng.Uniform() < density) positions.push_back(i);
  }
  return Make(rows, cols, positions);
}

std::string ReasonOfPositions(int64_t rows, int64_t cols, const Positions& positions) {
  return base::ReasonOf(Topology::FromPositions(rows, cols, positions).status());
}

TEST(TopologyTest, PositionsBecomeCsrAndBack) {
  const Positions positions = {1, 3, 4, 9, 11};
  const Topology topology = Make(4, 3, positions);
  EXPECT_EQ(topology.nnz(), 5);
  EXPECT_DOUBLE_EQ(topology.density(), 5.0 / 12);
  EXPECT_THAT(topology.row_offsets(), ElementsAre(0, 1, 3, 3, 5));
  EXPECT_THAT(topology.columns(), ElementsAre(1, 0, 1, 0, 2));
  EXPECT_EQ(topology.Positions(), positions);
}

TEST(TopologyTest, CsrAndPositionsGiveEqualObjects) {
  EXPECT_EQ(Topology::FromCsr(2, 3, {0, 2, 3}, {0, 2, 1}).value(), Make(2, 3, {0, 2, 4}));
}

TEST(TopologyTest, FullHoldsEveryPosition) {
  Positions all(12);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(Topology::Full(4, 3).value(), Make(4, 3, all));
  EXPECT_DOUBLE_EQ(Topology::Full(4, 3)->density(), 1.0);
}

TEST(TopologyTest, EmptyTopologyIsValid) {
  const Topology topology = Make(3, 4, {});
  EXPECT_EQ(topology.nnz(), 0);
  EXPECT_EQ(topology.density(), 0.0);
  EXPECT_THAT(topology.Positions(), IsEmpty());
  EXPECT_EQ(Transpose(topology).topology, Make(4, 3, {}));
}

TEST(TopologyTest, UnusablePositionsAreRefused) {
  EXPECT_EQ(ReasonOfPositions(2, 2, {4}), "POSITION_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfPositions(2, 2, {-1}), "POSITION_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfPositions(2, 2, {1, 1}), "POSITIONS_NOT_ASCENDING");
  EXPECT_EQ(ReasonOfPositions(2, 2, {2, 1}), "POSITIONS_NOT_ASCENDING");
  EXPECT_EQ(ReasonOfPositions(-1, 2, {}), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfPositions(2, int64_t{1} << 31, {}), "SHAPE_OUT_OF_RANGE");
}

TEST(TopologyTest, FullOfTooManyWeightsIsRefusedBeforeAllocation) {
  EXPECT_EQ(base::ReasonOf(Topology::Full(1 << 20, 1 << 20).status()), "TOO_MANY_WEIGHTS");
}

TEST(TopologyTest, BrokenCsrIsRefused) {
  const auto reason = [](std::vector<int32_t> offsets, std::vector<int32_t> columns) {
    return base::ReasonOf(Topology::FromCsr(2, 3, std::move(offsets), std::move(columns)).status());
  };
  EXPECT_EQ(reason({0, 1, 2}, {0, 2}), "");
  EXPECT_EQ(reason({}, {}), "CSR_ROW_OFFSETS");
  EXPECT_EQ(reason({0, 2}, {0, 2}), "CSR_ROW_OFFSETS");
  EXPECT_EQ(reason({1, 1, 2}, {0, 2}), "CSR_ROW_OFFSETS");
  EXPECT_EQ(reason({0, 3, 2}, {0, 2}), "CSR_ROW_OFFSETS");
  EXPECT_EQ(reason({0, -1, 2}, {0, 2}), "CSR_ROW_OFFSETS");
  EXPECT_EQ(reason({0, 1, 3}, {0, 2}), "CSR_ROW_OFFSETS");
  EXPECT_EQ(reason({0, 2, 2}, {2, 0}), "CSR_COLUMNS");
  EXPECT_EQ(reason({0, 2, 2}, {1, 1}), "CSR_COLUMNS");
  EXPECT_EQ(reason({0, 1, 2}, {0, 3}), "CSR_COLUMNS");
  EXPECT_EQ(reason({0, 1, 2}, {-1, 1}), "CSR_COLUMNS");
}

TEST(TopologyTest, TransposeMovesEveryWeight) {
  const TransposedTopology transposed = Transpose(Make(2, 3, {0, 2, 4}));
  EXPECT_EQ(transposed.topology, Make(3, 2, {0, 3, 4}));
  EXPECT_THAT(transposed.permutation, ElementsAre(0, 2, 1));
}

class TopologyShapeTest : public ::testing::TestWithParam<std::tuple<int, int, double>> {
 protected:
  Topology Structure(uint64_t key) const {
    const auto [rows, cols, density] = GetParam();
    return RandomStructure(rows, cols, density, key);
  }
};

TEST_P(TopologyShapeTest, TransposeTwiceIsTheIdentity) {
  const Topology topology = Structure(1);
  const TransposedTopology once = Transpose(topology);
  const TransposedTopology twice = Transpose(once.topology);
  EXPECT_EQ(twice.topology, topology);
  for (int32_t i = 0; i < topology.nnz(); ++i) {
    EXPECT_EQ(once.permutation[twice.permutation[i]], i);
  }
}

// Drops every third weight and grows some inactive positions, then undoes it.
TEST_P(TopologyShapeTest, InverseDiffRestoresTheTopology) {
  const Topology topology = Structure(2);
  const Positions before = topology.Positions();
  TopologyDiff diff;
  for (int32_t i = 0; i < topology.nnz(); i += 3) diff.dropped.push_back(i);
  const std::set<int64_t> active(before.begin(), before.end());
  for (int64_t p = 0; p < topology.size(); p += 2) {
    if (!active.contains(p)) diff.grown.push_back(p);
  }
  const Topology changed = Apply(topology, diff).value();
  EXPECT_EQ(changed.nnz(), topology.nnz() + std::ssize(diff.grown) - std::ssize(diff.dropped));

  const Positions after = changed.Positions();
  TopologyDiff inverse;
  for (const int64_t position : diff.grown) {
    const auto at = std::lower_bound(after.begin(), after.end(), position);
    ASSERT_TRUE(at != after.end() && *at == position);
    inverse.dropped.push_back(static_cast<int32_t>(at - after.begin()));
  }
  for (const int32_t index : diff.dropped) inverse.grown.push_back(before[index]);
  EXPECT_EQ(Apply(changed, inverse).value(), topology);
}

TEST_P(TopologyShapeTest, SourceIndicesFindKeptWeights) {
  const Topology old = Structure(3);
  const Topology updated = Structure(4);
  const std::vector<int32_t> source = SourceIndices(old, updated);
  const Positions before = old.Positions();
  const Positions after = updated.Positions();
  ASSERT_EQ(source.size(), after.size());
  for (size_t i = 0; i < after.size(); ++i) {
    const auto at = std::lower_bound(before.begin(), before.end(), after[i]);
    const bool kept = at != before.end() && *at == after[i];
    EXPECT_EQ(source[i], kept ? at - before.begin() : -1);
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, TopologyShapeTest,
                         ::testing::Combine(::testing::Values(1, 7, 40),
                                            ::testing::Values(1, 5, 33),
                                            ::testing::Values(0.0, 0.05, 0.5, 1.0)));

TEST(TopologyTest, JustDroppedPositionMayBeGrownAgain) {
  const Topology topology = Make(2, 2, {0, 3});
  EXPECT_EQ(Apply(topology, {.dropped = {1}, .grown = {3}}).value(), topology);
}

TEST(TopologyTest, GrownPositionAlreadyKeptIsRefused) {
  const Topology topology = Make(2, 2, {0, 3});
  EXPECT_EQ(base::ReasonOf(Apply(topology, {.dropped = {1}, .grown = {0}}).status()),
            "GROWN_ALREADY_ACTIVE");
}

TEST(TopologyTest, BrokenDiffIsRefused) {
  const Topology topology = Make(2, 2, {0, 3});
  const auto reason = [&](TopologyDiff diff) {
    return base::ReasonOf(Apply(topology, diff).status());
  };
  EXPECT_EQ(reason({.dropped = {2}, .grown = {}}), "DROPPED_OUT_OF_RANGE");
  EXPECT_EQ(reason({.dropped = {-1}, .grown = {}}), "DROPPED_OUT_OF_RANGE");
  EXPECT_EQ(reason({.dropped = {1, 0}, .grown = {}}), "DROPPED_NOT_ASCENDING");
  EXPECT_EQ(reason({.dropped = {1, 1}, .grown = {}}), "DROPPED_NOT_ASCENDING");
  EXPECT_EQ(reason({.dropped = {}, .grown = {4}}), "POSITION_OUT_OF_RANGE");
  EXPECT_EQ(reason({.dropped = {}, .grown = {2, 1}}), "POSITIONS_NOT_ASCENDING");
}

}  // namespace
}  // namespace espalier::tensor
