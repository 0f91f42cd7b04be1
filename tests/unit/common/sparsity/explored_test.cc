#include "common/sparsity/explored.h"

#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::sparsity {
namespace {

using tensor::ModelLayout;
using tensor::ModelTopology;
using tensor::Topology;

std::shared_ptr<const Topology> Sparse(int64_t rows, int64_t cols, std::vector<int64_t> positions) {
  return std::make_shared<const Topology>(Topology::FromPositions(rows, cols, positions).value());
}

class ExploredTest : public ::testing::Test {
 protected:
  ModelTopology Model(std::shared_ptr<const Topology> first,
                      std::shared_ptr<const Topology> second) const {
    return ModelTopology::Create(layout_, {std::move(first), nullptr, std::move(second)}).value();
  }

  // 13 + 7 sparsifiable weights: neither tensor begins or ends on a byte.
  std::shared_ptr<const ModelLayout> layout_ = std::make_shared<const ModelLayout>(
      ModelLayout{{"a", {1, 13}, 1, 13, true}, {"b", {2}, 2, 1, false}, {"c", {7, 1}, 7, 1, true}});
  Explored explored_ = Explored::Create(layout_).value();
};

TEST_F(ExploredTest, FractionCountsTheUnionOfTopologies) {
  EXPECT_EQ(explored_.Fraction(), 0.0);
  explored_.Mark(Model(Sparse(1, 13, {0, 12}), Sparse(7, 1, {0})));
  EXPECT_DOUBLE_EQ(explored_.Fraction(), 3.0 / 20);
  explored_.Mark(Model(Sparse(1, 13, {0, 5}), Sparse(7, 1, {6})));
  EXPECT_DOUBLE_EQ(explored_.Fraction(), 5.0 / 20);
}

TEST_F(ExploredTest, DenseTensorIsExploredCompletely) {
  explored_.Mark(Model(Sparse(1, 13, {}), nullptr));
  EXPECT_DOUBLE_EQ(explored_.Fraction(), 7.0 / 20);
  explored_.Mark(Model(nullptr, nullptr));
  EXPECT_DOUBLE_EQ(explored_.Fraction(), 1.0);
}

TEST_F(ExploredTest, SavedBitsRestoreTheState) {
  explored_.Mark(Model(Sparse(1, 13, {1, 7, 8}), Sparse(7, 1, {3})));
  Explored other = Explored::Create(layout_).value();
  ASSERT_TRUE(other.Load(explored_.Save()).ok());
  EXPECT_EQ(other.Fraction(), explored_.Fraction());
  EXPECT_EQ(other.Save(), explored_.Save());
}

TEST_F(ExploredTest, BytesOfAnotherModelAreRefused) {
  EXPECT_EQ(base::ReasonOf(explored_.Load("xx")), "EXPLORED_SIZE");
  EXPECT_EQ(explored_.Fraction(), 0.0);
}

TEST_F(ExploredTest, BitsPastTheEndDoNotCount) {
  ASSERT_TRUE(explored_.Load("\xFF\xFF\xFF").ok());
  EXPECT_DOUBLE_EQ(explored_.Fraction(), 1.0);
}

TEST_F(ExploredTest, ModelAboveTheLimitIsRefusedWithoutAllocation) {
  EXPECT_EQ(base::ReasonOf(Explored::Create(layout_, 2).status()), "EXPLORED_TOO_LARGE");
  EXPECT_TRUE(Explored::Create(layout_, 3).ok());
}

}  // namespace
}  // namespace espalier::sparsity
