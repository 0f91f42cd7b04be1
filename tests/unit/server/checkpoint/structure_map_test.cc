#include "server/checkpoint/structure/structure_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/safetensors.h"
#include "server/checkpoint/checkpoint_store.h"
#include "tests/support/language_model.h"
#include "tests/unit/common/checkpoint/checkpoint_fixture.h"

namespace espalier::server::checkpoint {
namespace {

using espalier::checkpoint::CheckpointTest;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr char kSparse[] = "layers.0.weight";

template <typename List>
auto Sum(const List& list) {
  typename List::value_type sum = 0;
  for (const auto& value : list) sum += value;
  return sum;
}

class StructureMapTest : public CheckpointTest {
 protected:
  void Write(const std::string& job, int32_t round, const tensor::ModelState& state) {
    ASSERT_TRUE(store().Write(state, SomeMetadata(job, round)).ok());
  }
  CheckpointStore& store() {
    if (store_ == nullptr) store_ = CheckpointStore::Open(files_, directory_).value();
    return *store_;
  }
  absl::StatusOr<v1::Topology> Get(
      const std::string& name, MapRequest request, const std::string& before = "",
      const KeepGoing& keep_going = [] { return absl::OkStatus(); }) {
    if (request.max_bytes == 0) request.max_bytes = base::kMaxAnswerBytes;
    const auto file = store().OpenFile(name).value();
    const auto old = before.empty() ? nullptr : store().OpenFile(before).value();
    return MapStructure(*file, old.get(), request, keep_going);
  }
  // A model of one matrix with these weights, each of the value 2.
  static tensor::ModelState Matrix(int64_t rows, int64_t columns,
                                   const std::vector<int64_t>& positions) {
    auto layout = std::make_shared<const tensor::ModelLayout>(
        tensor::ModelLayout{{kSparse, {rows, columns}, rows, columns, true}});
    tensor::ModelState state;
    state.topology = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(
            layout, {std::make_shared<const tensor::Topology>(
                        tensor::Topology::FromPositions(rows, columns, positions).value())})
            .value());
    state.values.assign(positions.size(), 2.0F);
    return state;
  }
  // Writes over one number of a tensor of the file.
  void Damage(const std::string& file, const std::string& tensor, int index, int32_t number) {
    const auto opened = files_.Open(Path(file)).value();
    const auto header = wire::ReadSafetensorsHeader(*opened).value();
    std::fstream stream(Path(file), std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(static_cast<std::streamoff>(header.Find(tensor)->begin) + 4 * index);
    stream.write(reinterpret_cast<const char*>(&number), sizeof(number));
  }

 private:
  std::unique_ptr<CheckpointStore> store_;
};

TEST_F(StructureMapTest, EachWeightIsCountedInItsCell) {
  // Each row is a row of cells; columns are in pairs.
  Write("a", 1, Matrix(3, 6, {0, 1, 5, 7, 12, 14, 15}));
  const auto topology = Get("checkpoints/a-1", {.bins = 3});
  ASSERT_TRUE(topology.ok()) << base::MessageOf(topology.status());
  EXPECT_EQ(topology->tensor(), kSparse);
  EXPECT_EQ(topology->grid_rows(), 3);
  EXPECT_EQ(topology->grid_columns(), 3);
  EXPECT_THAT(topology->active(), ElementsAre(2, 0, 1, 1, 0, 0, 1, 2, 0));
  EXPECT_THAT(topology->strength(), ElementsAre(4, 0, 2, 2, 0, 0, 2, 4, 0));
  EXPECT_EQ(topology->active_total(), 7);
  EXPECT_THAT(topology->grown(), IsEmpty());
  // Two rows have three weights and one has one; column 4 has none.
  ASSERT_EQ(topology->row_degrees_size(), 2);
  EXPECT_EQ(topology->row_degrees(0).degree(), 1);
  EXPECT_EQ(topology->row_degrees(0).units(), 1);
  EXPECT_EQ(topology->row_degrees(1).degree(), 3);
  EXPECT_EQ(topology->row_degrees(1).units(), 2);
  EXPECT_EQ(topology->column_degrees(0).degree(), 0);
  EXPECT_EQ(topology->column_degrees(0).units(), 1);
  EXPECT_THAT(topology->column_strength(), ElementsAre(4, 4, 2, 2, 0, 2));
}

TEST_F(StructureMapTest, CellsOfUnequalSizeCoverAllRowsAndColumns) {
  std::vector<int64_t> all(7 * 5);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  Write("a", 1, Matrix(7, 5, all));
  const auto topology = Get("checkpoints/a-1", {.bins = 3}).value();
  // Cell i begins with i · size // 3: rows 0, 2, 4 and columns 0, 1, 3.
  EXPECT_THAT(topology.active(), ElementsAre(2, 4, 4, 2, 4, 4, 3, 6, 6));
  EXPECT_EQ(Sum(topology.active()), 35);
}

TEST_F(StructureMapTest, WhatHasGrownAndBeenDroppedIsCounted) {
  Write("a", 1, Matrix(4, 4, {0, 1, 6, 15}));
  Write("a", 2, Matrix(4, 4, {1, 2, 6, 8, 9}));
  const auto topology = Get("checkpoints/a-2", {.bins = 2}, "checkpoints/a-1").value();
  EXPECT_THAT(topology.active(), ElementsAre(1, 2, 2, 0));
  EXPECT_THAT(topology.grown(), ElementsAre(0, 1, 2, 0));
  EXPECT_THAT(topology.dropped(), ElementsAre(1, 0, 0, 1));
  EXPECT_EQ(topology.grown_total(), 3);
  EXPECT_EQ(topology.dropped_total(), 2);
  EXPECT_EQ(topology.active_total(), 5);
}

TEST_F(StructureMapTest, LargeTensorsAgreeWithACountOfTheirPositions) {
  // More weights and rows than blocks of the reader have.
  constexpr int64_t kRows = 70'001;
  constexpr int64_t kColumns = 257;
  constexpr int64_t kBins = 100;
  const auto now = sparsity::RandomTopology(kRows, kColumns, 300'000, 1).value().Positions();
  const auto before = sparsity::RandomTopology(kRows, kColumns, 200'000, 2).value().Positions();
  Write("a", 1, Matrix(kRows, kColumns, before));
  Write("a", 2, Matrix(kRows, kColumns, now));
  std::vector<int64_t> active(kBins * kBins);
  for (const int64_t position : now) {
    int64_t row = 0;
    int64_t column = 0;
    while ((row + 1) * kRows / kBins <= position / kColumns) ++row;
    while ((column + 1) * kColumns / kBins <= position % kColumns) ++column;
    ++active[static_cast<size_t>(row * kBins + column)];
  }
  std::set<int64_t> both;
  std::ranges::set_intersection(now, before, std::inserter(both, both.end()));
  const auto topology =
      Get("checkpoints/a-2", {.bins = static_cast<int>(kBins)}, "checkpoints/a-1").value();
  EXPECT_THAT(topology.active(), ::testing::ElementsAreArray(active));
  EXPECT_EQ(topology.grown_total(), 300'000 - static_cast<int64_t>(both.size()));
  EXPECT_EQ(topology.dropped_total(), 200'000 - static_cast<int64_t>(both.size()));
  int64_t units = 0;
  int64_t weights = 0;
  for (const v1::DegreeCount& bar : topology.row_degrees()) {
    units += bar.units();
    weights += bar.units() * bar.degree();
  }
  EXPECT_EQ(units, kRows);
  EXPECT_EQ(weights, 300'000);
}

TEST_F(StructureMapTest, DenseTensorsAndConvolutionsAreMatrices) {
  Write("a", 1, SomeState(60, 3));
  // layers.2.weight has 3 filters of 2 × 2.
  const auto topology = Get("checkpoints/a-1", {.tensor = "layers.2.weight"}).value();
  EXPECT_EQ(topology.rows(), 3);
  EXPECT_EQ(topology.columns(), 4);
  EXPECT_THAT(topology.active(), SizeIs(12));
  EXPECT_THAT(topology.active(), Each(1));
  EXPECT_THAT(topology.column_strength(), IsEmpty()) << "it is not the first layer";
  // Biases are no tensors of weights.
  ASSERT_EQ(topology.tensors_size(), 3);
  EXPECT_EQ(topology.tensors(0).name(), kSparse);
  EXPECT_EQ(topology.tensors(0).active(), 60);
  EXPECT_TRUE(topology.tensors(0).sparse());
  EXPECT_FALSE(topology.tensors(2).sparse());
  EXPECT_THAT(topology.tensors(2).shape(), ElementsAre(3, 2, 2));
}

TEST_F(StructureMapTest, PixelsOfAnImageAreToldByTheirShape) {
  auto metadata = SomeMetadata("a", 1);
  metadata.model_spec.clear_input_features();
  v1::ImageShape& image = *metadata.model_spec.mutable_input_image();
  image.set_channels(1);
  image.set_height(2);
  image.set_width(3);
  ASSERT_TRUE(store().Write(Matrix(4, 6, {0, 7}), metadata).ok());
  const auto topology = Get("checkpoints/a-1", {}).value();
  EXPECT_THAT(topology.input_shape(), ElementsAre(1, 2, 3));
  EXPECT_THAT(topology.column_strength(), ElementsAre(2, 2, 0, 0, 0, 0));
}

TEST_F(StructureMapTest, PrunedLanguageModelsAreReadAsTheyAreStored) {
  for (const std::string family : {"llama", "gpt2", "opt"}) {
    const auto model =
        support::RandomLanguageModel(support::SmallConfig(family), 3, family == "opt" ? 1 : 0.4);
    auto metadata = SomeMetadata(family, 1);
    metadata.kind = espalier::checkpoint::CheckpointKind::kLanguageModel;
    const auto write = [&](io::FileSystem&, const std::string& folder, auto strings) {
      strings["config"] = model.config.json;
      return support::SaveLanguageModel(model, folder,
                                        {.format = language::CheckpointFormat::kSparse,
                                         .type = wire::DataType::kBF16,
                                         .metadata = std::move(strings)});
    };
    ASSERT_TRUE(store().WriteLanguageModel(metadata, 0.4, write).ok());
    const std::string name = "checkpoints/" + family + "-1";
    const language::LinearWeights& linear = model.blocks[1].linears[0];
    const std::string tensor =
        language::BlockPrefix(model.config, 1) + linear.spec.name + ".weight";
    const auto topology = Get(name, {.tensor = tensor});
    ASSERT_TRUE(topology.ok()) << base::MessageOf(topology.status());
    EXPECT_EQ(topology->rows(), linear.spec.outputs);
    EXPECT_EQ(topology->columns(), linear.spec.inputs);
    EXPECT_EQ(topology->active_total(), static_cast<int64_t>(linear.values.size()));
    const std::vector<float> dense = language::DenseValues(linear);
    for (size_t i = 0; i < dense.size(); ++i) {
      // A cell for each weight.
      ASSERT_EQ(topology->active(static_cast<int>(i)), family == "opt" || dense[i] != 0) << family;
      ASSERT_NEAR(topology->strength(static_cast<int>(i)), std::abs(dense[i]),
                  std::abs(dense[i]) / 100)
          << family;
    }
  }
}

TEST_F(StructureMapTest, UnknownTensorsAreAnsweredWithThoseThatThereAre) {
  Write("a", 1, SomeState(60, 3));
  const auto topology = Get("checkpoints/a-1", {.tensor = "layer.0.weight"});
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(topology.status()), "TENSOR_NOT_FOUND");
  EXPECT_THAT(base::MessageOf(topology.status()),
              HasSubstr("layers.0.weight, layers.1.weight, layers.2.weight"));
}

TEST_F(StructureMapTest, OtherModelsCannotBeComparedWith) {
  Write("a", 1, Matrix(4, 5, {0}));
  Write("a", 2, Matrix(4, 4, {0}));
  const auto topology = Get("checkpoints/a-2", {}, "checkpoints/a-1");
  EXPECT_EQ(base::ReasonOf(topology.status()), "COMPARE_OTHER_MODEL");
  EXPECT_THAT(base::MessageOf(topology.status()), HasSubstr("found one of 4 × 5"));
}

TEST_F(StructureMapTest, DamagedStructuresAreRefused) {
  const auto state = Matrix(4, 6, {0, 3, 6, 7, 20});
  const struct {
    std::string tensor;
    int index;
    int32_t number;
  } damages[] = {{"layers.0.weight.columns", 0, 5},     {"layers.0.weight.columns", 1, -1},
                 {"layers.0.weight.columns", 4, 6},     {"layers.0.weight.row_offsets", 0, 1},
                 {"layers.0.weight.row_offsets", 1, 5}, {"layers.0.weight.row_offsets", 2, 1},
                 {"layers.0.weight.row_offsets", 4, 4}, {"layers.0.weight.row_offsets", 4, 9},
                 {"layers.0.weight.row_offsets", 3, -7}};
  for (const auto& damage : damages) {
    Write("a", 1, state);
    ASSERT_TRUE(Get("checkpoints/a-1", {}).ok());
    Damage("a-1.safetensors", damage.tensor, damage.index, damage.number);
    const auto topology = Get("checkpoints/a-1", {});
    EXPECT_EQ(topology.status().code(), absl::StatusCode::kDataLoss)
        << damage.tensor << " " << damage.index << " " << damage.number;
    EXPECT_EQ(base::ReasonOf(topology.status()), "CHECKPOINT_CORRUPT");
  }
}

TEST_F(StructureMapTest, AnswersStayBelowTheirSize) {
  Write("a", 1, Matrix(3'000, 3'000, {0, 8'999'999}));
  EXPECT_EQ(Get("checkpoints/a-1", {.bins = 512})->grid_rows(), 512);
  const auto coarse = Get("checkpoints/a-1", {.bins = 512, .max_bytes = 400'000}).value();
  EXPECT_LT(coarse.grid_rows(), 512);
  EXPECT_GT(coarse.grid_rows(), 100);
  EXPECT_LE(coarse.ByteSizeLong(), 400'000U);
  EXPECT_EQ(Sum(coarse.active()), 2);
}

TEST_F(StructureMapTest, BinsOutOfRangeAreRefused) {
  Write("a", 1, SomeState(60, 3));
  for (const int bins : {-1, 513}) {
    EXPECT_EQ(base::ReasonOf(Get("checkpoints/a-1", {.bins = bins}).status()), "INVALID_BINS");
  }
}

TEST_F(StructureMapTest, EndsWhenItIsToldTo) {
  Write("a", 1, Matrix(1'000, 1'000, {0, 5, 999}));
  const auto topology =
      Get("checkpoints/a-1", {}, "", [] { return absl::CancelledError("the caller went away"); });
  EXPECT_EQ(topology.status().code(), absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace espalier::server::checkpoint
