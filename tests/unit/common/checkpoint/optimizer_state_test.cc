// Optimizer state in checkpoint files: written, read back, passed over by those who read the model
// alone, and refused where it is not what it says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/wire/safetensors.h"
#include "tests/unit/common/checkpoint/checkpoint_fixture.h"

namespace espalier::checkpoint {
namespace {

using ::testing::HasSubstr;

v1::Optimizer Momentum() {
  v1::Optimizer optimizer;
  optimizer.set_kind(v1::Optimizer::KIND_SGD);
  optimizer.set_momentum(0.9);
  return optimizer;
}

v1::Optimizer Adam() {
  v1::Optimizer optimizer;
  optimizer.set_kind(v1::Optimizer::KIND_ADAM);
  optimizer.set_beta1(0.9);
  optimizer.set_beta2(0.999);
  optimizer.set_epsilon(1e-8);
  return optimizer;
}

class OptimizerStateTest : public CheckpointTest {
 protected:
  static tensor::ModelState WithState(const v1::Optimizer& optimizer, int64_t nnz = 60,
                                      int64_t nnz_of_column = 3) {
    tensor::ModelState state = SomeState(nnz, nnz_of_column);
    const size_t numbers = static_cast<size_t>(SlotsOf(optimizer)) * state.values.size();
    for (size_t i = 0; i < numbers; ++i) {
      state.optimizer_state.push_back(1 + static_cast<float>(i) / 3);
    }
    return state;
  }
  static CheckpointMetadata MetadataOf(const v1::Optimizer& optimizer, int64_t steps = 40) {
    CheckpointMetadata metadata = SomeMetadata("job-1", 7, 0.25);
    metadata.optimizer = SavedOptimizer{optimizer, steps};
    return metadata;
  }

  // The state as the file has it, in the order of the model's stored values.
  static absl::StatusOr<std::vector<float>> StateOf(const CheckpointReader& reader,
                                                    const tensor::ModelTopology& topology) {
    std::vector<float> all;
    for (int slot = 0; slot < SlotsOf(reader.metadata().optimizer->optimizer); ++slot) {
      for (size_t t = 0; t < topology.num_tensors(); ++t) {
        std::vector<float> dense;
        ESPALIER_RETURN_IF_ERROR(
            reader.ReadOptimizerState(slot, t, [&dense](std::span<const float> piece) {
              dense.insert(dense.end(), piece.begin(), piece.end());
            }));
        EXPECT_EQ(dense.size(), static_cast<size_t>(topology.layout()[t].size()));
        if (!topology.is_sparse(t)) {
          all.insert(all.end(), dense.begin(), dense.end());
          continue;
        }
        float rest = 0;
        for (const float number : dense) rest += number;
        for (const int64_t position : topology.topology(t).Positions()) {
          all.push_back(dense[static_cast<size_t>(position)]);
          rest -= dense[static_cast<size_t>(position)];
        }
        EXPECT_NEAR(rest, 0, 1e-2) << "there is something where nothing is stored";
      }
    }
    return all;
  }

  // Writes the file "b": that of "a" with another header.
  void Change(const std::function<void(wire::SafetensorsHeader&)>& change) {
    const std::string bytes = io::ReadFile(files_, Path("a"), 1 << 20).value();
    auto header = wire::DecodeSafetensorsHeader(bytes, bytes.size()).value();
    const std::string data = bytes.substr(header.tensors.front().begin);
    change(header);
    (void)files_.Remove(Path("b"));
    const std::string head = wire::EncodeSafetensorsHeader(header.metadata, header.tensors).value();
    ASSERT_TRUE(io::WriteAtomically(files_, Path("b"), head + data).ok());
  }
  static wire::TensorInfo& Tensor(wire::SafetensorsHeader& header, const std::string& name) {
    return *std::ranges::find(header.tensors, name, &wire::TensorInfo::name);
  }
};

TEST_F(OptimizerStateTest, WhatIsWrittenIsReadBackWithTheOptimizer) {
  for (const v1::Optimizer& optimizer : {Momentum(), Adam()}) {
    for (const auto& [nnz, nnz_of_column] :
         {std::pair<int64_t, int64_t>{0, 0}, {1, 1}, {60, 3}, {600, 7}}) {
      const tensor::ModelState state = WithState(optimizer, nnz, nnz_of_column);
      ASSERT_TRUE(WriteCheckpointFile(files_, Path("a"), state, MetadataOf(optimizer)).ok());
      const auto reader = CheckpointReader::Open(files_, Path("a"));
      ASSERT_TRUE(reader.ok()) << reader.status();
      EXPECT_TRUE((*reader)->Verify().ok());
      ASSERT_TRUE((*reader)->metadata().optimizer.has_value());
      EXPECT_EQ((*reader)->metadata().optimizer->optimizer.SerializeAsString(),
                optimizer.SerializeAsString());
      EXPECT_EQ((*reader)->metadata().optimizer->steps, 40);
      EXPECT_EQ(StateOf(**reader, *state.topology).value(), state.optimizer_state);
    }
  }
}

TEST_F(OptimizerStateTest, WhoReadsTheModelPassesOverIt) {
  const tensor::ModelState state = WithState(Adam());
  ASSERT_TRUE(WriteCheckpointFile(files_, Path("a"), state, MetadataOf(Adam())).ok());
  const auto loaded = ReadCheckpointFile(files_, Path("a"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->state.values, state.values);
  EXPECT_EQ(loaded->state.topology->hash(), state.topology->hash());
  EXPECT_TRUE(loaded->state.optimizer_state.empty());
  // Nothing of it is named like a part of the model, and the version is that of all files.
  const std::string bytes = io::ReadFile(files_, Path("a"), 1 << 20).value();
  const auto header = wire::DecodeSafetensorsHeader(bytes, bytes.size()).value();
  const auto below_files = std::ranges::count_if(
      header.tensors, [](const auto& info) { return info.name.starts_with("files/optimizer/"); });
  EXPECT_EQ(below_files, 2 * 4);
  EXPECT_EQ(header.tensors.size(), 3U + 1 + 3 + 1 + 8);
  EXPECT_EQ(header.metadata.at("format_version"), "1");
}

TEST_F(OptimizerStateTest, BytesAreInProportionToStoredValues) {
  const tensor::ModelState state = WithState(Adam());
  const auto plain =
      WriteCheckpointFile(files_, Path("a"), SomeState(60, 3), SomeMetadata("job-1", 7, 0.25));
  const auto with = WriteCheckpointFile(files_, Path("b"), state, MetadataOf(Adam()));
  const auto added = static_cast<int64_t>(with->size_bytes - plain->size_bytes);
  const auto numbers = static_cast<int64_t>(state.optimizer_state.size());
  EXPECT_GE(added, 4 * numbers);
  EXPECT_LE(added, 4 * numbers + 2000);
}

TEST_F(OptimizerStateTest, StateOfAnotherShapeIsNotWritten) {
  tensor::ModelState state = WithState(Momentum());
  EXPECT_EQ(
      base::ReasonOf(WriteCheckpointFile(files_, Path("a"), state, MetadataOf(Adam())).status()),
      "SHAPE_MISMATCH");
  state.optimizer_state.clear();
  EXPECT_EQ(base::ReasonOf(
                WriteCheckpointFile(files_, Path("a"), state, MetadataOf(Momentum())).status()),
            "SHAPE_MISMATCH");
}

TEST_F(OptimizerStateTest, FilesWithoutItSaySo) {
  ASSERT_TRUE(WriteCheckpointFile(files_, Path("a"), SomeState(9, 2), SomeMetadata("j", 1)).ok());
  const auto reader = CheckpointReader::Open(files_, Path("a")).value();
  EXPECT_FALSE(reader->metadata().optimizer.has_value());
  const absl::Status status = reader->ReadOptimizerState(0, 0, [](std::span<const float>) {});
  EXPECT_THAT(std::string(status.message()), HasSubstr("holds no optimizer state"));
}

TEST_F(OptimizerStateTest, MissingTensorsAndOtherShapesAreFoundWhenTheyAreRead) {
  ASSERT_TRUE(WriteCheckpointFile(files_, Path("a"), WithState(Adam()), MetadataOf(Adam())).ok());
  const std::string first = "files/optimizer/first_moment/layers.0.weight";
  const std::string second = "files/optimizer/second_moment/layers.2.weight";
  const std::vector<std::function<void(wire::SafetensorsHeader&)>> changes = {
      [&](auto& header) {
        Tensor(header, first).name = "files/optimizer/momentum/layers.0.weight";
      },
      [&](auto& header) {
        Tensor(header, first).shape = {30, 2};
      },
      [&](auto& header) { Tensor(header, first).type = wire::DataType::kI32; },
      [&](auto& header) { Tensor(header, second).shape = {12}; },
      [&](auto& header) { Tensor(header, second).name = "files/else"; }};
  const auto topology = SomeState(60, 3).topology;
  for (size_t i = 0; i < changes.size(); ++i) {
    Change(changes[i]);
    const auto reader = CheckpointReader::Open(files_, Path("b"));
    ASSERT_TRUE(reader.ok()) << i << reader.status();
    const auto state = StateOf(**reader, *topology);
    EXPECT_EQ(base::ReasonOf(state.status()), "CHECKPOINT_CORRUPT") << i;
    EXPECT_THAT(std::string(state.status().message()), HasSubstr(i < 3 ? first : second)) << i;
    // The model is what it was.
    EXPECT_TRUE(ReadCheckpointFile(files_, Path("b")).ok()) << i;
  }
}

TEST_F(OptimizerStateTest, EntriesThatSayNothingAreRefused) {
  ASSERT_TRUE(WriteCheckpointFile(files_, Path("a"), WithState(Adam()), MetadataOf(Adam())).ok());
  const std::vector<std::pair<std::string, std::string>> changes = {
      {"optimizer", ""},
      {"optimizer", "[]"},
      {"optimizer", R"({"kind":"KIND_SGD"})"},
      {"optimizer", R"({"kind":17})"},
      {"optimizer", R"({"kind":"KIND_LION","momentum":0.9})"},
      {"optimizer_steps", ""},
      {"optimizer_steps", "-1"},
      {"optimizer_steps", "1e3"},
      {"optimizer_steps", "9223372036854775807"}};
  for (const auto& [key, text] : changes) {
    Change([&](wire::SafetensorsHeader& header) { header.metadata[key] = text; });
    const absl::Status status = CheckpointReader::Open(files_, Path("b")).status();
    EXPECT_EQ(base::ReasonOf(status), "CHECKPOINT_INVALID") << key << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("optimizer_steps")) << key << text;
  }
  Change([](wire::SafetensorsHeader& header) { header.metadata.erase("optimizer_steps"); });
  EXPECT_FALSE(CheckpointReader::Open(files_, Path("b")).ok());
}

}  // namespace
}  // namespace espalier::checkpoint
