#include "common/tensor/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::tensor {
namespace {

using ::testing::ElementsAre;

using Topologies = std::vector<std::shared_ptr<const Topology>>;

std::shared_ptr<const Topology> Sparse(int64_t rows, int64_t cols, std::vector<int64_t> positions) {
  return std::make_shared<const Topology>(Topology::FromPositions(rows, cols, positions).value());
}

// A 2 × 3 sparsifiable weight and a dense bias of 2.
ModelLayout SmallLayout() { return {{"weight", {2, 3}, 2, 3, true}, {"bias", {2}, 2, 1, false}}; }

absl::StatusOr<ModelTopology> Create(ModelLayout layout, Topologies topologies) {
  return ModelTopology::Create(std::make_shared<const ModelLayout>(std::move(layout)),
                               std::move(topologies));
}

std::shared_ptr<const ModelTopology> Small(std::shared_ptr<const Topology> weight) {
  return std::make_shared<const ModelTopology>(
      Create(SmallLayout(), {std::move(weight), nullptr}).value());
}

TEST(ModelTopologyTest, OffsetsAndSizesCountStoredValues) {
  const auto model = Small(Sparse(2, 3, {0, 4, 5}));
  EXPECT_TRUE(model->is_sparse(0));
  EXPECT_FALSE(model->is_sparse(1));
  EXPECT_EQ(model->stored(0), 3);
  EXPECT_EQ(model->stored(1), 2);
  EXPECT_EQ(model->offset(1), 3);
  EXPECT_EQ(model->total_stored(), 5);
  EXPECT_EQ(model->total_size(), 8);
  EXPECT_EQ(model->sparsifiable_size(), 6);
  EXPECT_EQ(model->sparsifiable_stored(), 3);
}

TEST(ModelTopologyTest, DenseSparsifiableTensorStoresEverything) {
  const auto model = Small(nullptr);
  EXPECT_EQ(model->total_stored(), 8);
  EXPECT_EQ(model->sparsifiable_stored(), 6);
}

TEST(ModelTopologyTest, StructureOfADenseTensorIsAllItsPositions) {
  const auto sparse = Small(Sparse(2, 3, {0, 4, 5}));
  EXPECT_EQ(sparse->Structure(0).value(), sparse->shared_topology(0));
  EXPECT_THAT(Small(nullptr)->Structure(0).value()->Positions(), ElementsAre(0, 1, 2, 3, 4, 5));
}

// Computed apart from this code, over the little-endian encoding that model.cc describes.
TEST(ModelTopologyTest, HashIsTheDocumentedDigest) {
  EXPECT_EQ(Small(Sparse(2, 3, {0, 4, 5}))->hash(),
            "f45591c10756c0b71faf87341fef5aa83e5bd4f72c6d82af09f600b87ffd9a35");
}

TEST(ModelTopologyTest, EqualStructuresHaveEqualHashes) {
  EXPECT_EQ(Small(Sparse(2, 3, {0, 4}))->hash(), Small(Sparse(2, 3, {0, 4}))->hash());
}

TEST(ModelTopologyTest, HashTellsNamesShapesAndStructuresApart) {
  ModelLayout renamed = SmallLayout();
  renamed[0].name = "other";
  ModelLayout reshaped = SmallLayout();
  reshaped[0].shape = {2, 3, 1};
  const auto full = std::make_shared<const Topology>(Topology::Full(2, 3).value());
  const std::vector<std::string> hashes = {
      Small(Sparse(2, 3, {0, 4}))->hash(),
      Small(Sparse(2, 3, {0, 5}))->hash(),
      Small(Sparse(2, 3, {0, 1}))->hash(),
      Small(nullptr)->hash(),
      Small(full)->hash(),
      Create(renamed, {Sparse(2, 3, {0, 4}), nullptr})->hash(),
      Create(reshaped, {Sparse(2, 3, {0, 4}), nullptr})->hash(),
  };
  for (size_t i = 0; i < hashes.size(); ++i) {
    for (size_t j = 0; j < i; ++j) EXPECT_NE(hashes[i], hashes[j]) << i << " and " << j;
  }
}

TEST(ModelTopologyTest, TopologyThatDoesNotFitTheLayoutIsRefused) {
  const auto reason = [](ModelLayout layout, Topologies topologies) {
    return base::ReasonOf(Create(std::move(layout), std::move(topologies)).status());
  };
  EXPECT_EQ(reason(SmallLayout(), {nullptr}), "TENSOR_COUNT_MISMATCH");
  EXPECT_EQ(reason(SmallLayout(), {Sparse(3, 2, {0}), nullptr}), "SHAPE_MISMATCH");
  EXPECT_EQ(reason(SmallLayout(), {nullptr, Sparse(2, 1, {0})}), "NOT_SPARSIFIABLE");
  ModelLayout inconsistent = SmallLayout();
  inconsistent[0].cols = 4;
  EXPECT_EQ(reason(inconsistent, {nullptr, nullptr}), "SHAPE_MISMATCH");
  ModelLayout huge = SmallLayout();
  huge[0].shape = {int64_t{1} << 40, int64_t{1} << 40};
  EXPECT_EQ(reason(huge, {nullptr, nullptr}), "SHAPE_MISMATCH");
}

TEST(RelayoutTest, KeptWeightsKeepTheirValueAndNewOnesAreZero) {
  const ModelState old{Small(Sparse(2, 3, {0, 2, 4})), {1, 2, 3, 10, 20}};
  const ModelState updated = Relayout(old, Small(Sparse(2, 3, {1, 2, 4, 5})));
  EXPECT_THAT(updated.values, ElementsAre(0, 2, 3, 0, 10, 20));
  EXPECT_THAT(updated.tensor(1), ElementsAre(10, 20));
}

TEST(RelayoutTest, OptimizerStateMovesWithItsWeights) {
  const ModelState old{Small(Sparse(2, 3, {0, 2, 4})),
                       {1, 2, 3, 10, 20},
                       {.1F, .2F, .3F, .4F, .5F, 1.1F, 1.2F, 1.3F, 1.4F, 1.5F}};
  const ModelState updated = Relayout(old, Small(Sparse(2, 3, {1, 2, 4, 5})));
  EXPECT_THAT(updated.optimizer_state,
              ElementsAre(0, .2F, .3F, 0, .4F, .5F, 0, 1.2F, 1.3F, 0, 1.4F, 1.5F));
}

TEST(RelayoutTest, SameStructureCopiesValues) {
  const ModelState old{Small(Sparse(2, 3, {0, 2, 4})), {1, 2, 3, 10, 20}};
  EXPECT_EQ(Relayout(old, Small(Sparse(2, 3, {0, 2, 4}))).values, old.values);
}

TEST(RelayoutTest, BetweenDenseAndSparse) {
  const ModelState dense{Small(nullptr), {1, 2, 3, 4, 5, 6, 10, 20}};
  const ModelState sparse = Relayout(dense, Small(Sparse(2, 3, {1, 3})));
  EXPECT_THAT(sparse.values, ElementsAre(2, 4, 10, 20));
  EXPECT_THAT(Relayout(sparse, Small(nullptr)).values, ElementsAre(0, 2, 0, 4, 0, 0, 10, 20));
}

}  // namespace
}  // namespace espalier::tensor
