#include "common/checkpoint/checkpoint_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/sha256.h"
#include "common/wire/safetensors.h"
#include "tests/unit/common/checkpoint/checkpoint_fixture.h"

namespace espalier::checkpoint {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using CheckpointFileTest = CheckpointTest;

TEST_F(CheckpointFileTest, ModelsSurviveAtEveryDensity) {
  for (const auto& [nnz, nnz_of_column] :
       {std::pair<int64_t, int64_t>{0, 0}, {1, 1}, {60, 3}, {600, 7}}) {
    const tensor::ModelState state = SomeState(nnz, nnz_of_column);
    ASSERT_TRUE(WriteCheckpointFile(files_, Path("a"), state, SomeMetadata("job-1", 7, 0.25)).ok());
    const auto loaded = ReadCheckpointFile(files_, Path("a"));
    ASSERT_TRUE(loaded.ok()) << base::MessageOf(loaded.status());
    EXPECT_EQ(loaded->state.topology->hash(), state.topology->hash());
    EXPECT_EQ(loaded->state.topology->layout(), state.topology->layout());
    EXPECT_EQ(loaded->state.values, state.values);
    EXPECT_EQ(loaded->metadata.job, "job-1");
    EXPECT_EQ(loaded->metadata.round, 7);
    EXPECT_EQ(loaded->metadata.main_metric, 0.25);
    EXPECT_EQ(loaded->metadata.create_time, SomeMetadata("", 0).create_time);
    EXPECT_EQ(loaded->metadata.model_spec.SerializeAsString(),
              SomeMetadata("", 0).model_spec.SerializeAsString());
  }
}

TEST_F(CheckpointFileTest, SummarySaysWhatTheFileIs) {
  const auto written =
      WriteCheckpointFile(files_, Path("a"), SomeState(60, 3), SomeMetadata("job-1", 7));
  ASSERT_TRUE(written.ok());
  const std::string bytes = io::ReadFile(files_, Path("a"), 1 << 20).value();
  EXPECT_EQ(written->size_bytes, bytes.size());
  EXPECT_EQ(written->sha256, io::Sha256Hex(bytes));
  const auto summary = VerifyCheckpointFile(files_, Path("a"));
  ASSERT_TRUE(summary.ok()) << base::MessageOf(summary.status());
  EXPECT_EQ(summary->file.sha256, written->sha256);
  EXPECT_EQ(summary->metadata.main_metric, std::nullopt);
  EXPECT_DOUBLE_EQ(summary->density, 63.0 / 607.0);
  EXPECT_THAT(files_.List(directory_).value(), ElementsAre("a"));
}

TEST_F(CheckpointFileTest, EqualModelsGiveEqualFiles) {
  const auto a = WriteCheckpointFile(files_, Path("a"), SomeState(60, 3), SomeMetadata("j", 7));
  const auto b = WriteCheckpointFile(files_, Path("b"), SomeState(60, 3), SomeMetadata("j", 7));
  EXPECT_EQ(a->sha256, b->sha256);
}

TEST_F(CheckpointFileTest, FailureAtAnyOperationLeavesTheOldFileOrTheNewOne) {
  FailingFileSystem failing;
  bool succeeded = false;
  for (int operations = 0; !succeeded; ++operations) {
    ASSERT_LT(operations, 100);
    ASSERT_TRUE(
        WriteCheckpointFile(files_, Path("a"), SomeState(60, 3), SomeMetadata("j", 1)).ok());
    failing.operations_left = operations;
    succeeded = WriteCheckpointFile(failing, Path("a"), SomeState(9, 3), SomeMetadata("j", 2)).ok();
    EXPECT_THAT(files_.List(directory_).value(), ElementsAre("a")) << operations;
    const auto summary = VerifyCheckpointFile(files_, Path("a"));
    ASSERT_TRUE(summary.ok()) << operations;
    EXPECT_TRUE(!succeeded || summary->metadata.round == 2);
  }
  EXPECT_TRUE(failing.failed);
}

TEST_F(CheckpointFileTest, EveryTruncationAndBitFlipIsFound) {
  ASSERT_TRUE(WriteCheckpointFile(files_, Path("a"), SomeState(2, 1), SomeMetadata("j", 1)).ok());
  const std::string bytes = io::ReadFile(files_, Path("a"), 1 << 20).value();
  const auto header = wire::DecodeSafetensorsHeader(bytes, bytes.size()).value();
  const size_t data_begin = header.tensors.front().begin;
  const auto write = [this](const std::string& content) {
    // A new file each time: some file systems flush a file that was emptied when it is closed.
    (void)files_.Remove(Path("b"));
    auto file = files_.Create(Path("b")).value();
    ASSERT_TRUE(file->Append(content).ok());
  };
  for (size_t size = 0; size < bytes.size(); size += size < data_begin ? 97 : 1) {
    write(bytes.substr(0, size));
    EXPECT_FALSE(ReadCheckpointFile(files_, Path("b")).ok()) << size;
  }
  for (size_t byte = 0; byte < bytes.size(); ++byte) {
    std::string changed = bytes;
    changed[byte] = static_cast<char>(changed[byte] ^ (1 << (byte % 8)));
    write(changed);
    const auto loaded = ReadCheckpointFile(files_, Path("b"));
    if (byte >= data_begin) {
      EXPECT_EQ(base::ReasonOf(loaded.status()), "CHECKPOINT_CORRUPT") << byte;
    } else if (loaded.ok()) {
      EXPECT_EQ(loaded->state.topology->hash(), SomeState(2, 1).topology->hash()) << byte;
    }
  }
}

TEST_F(CheckpointFileTest, OtherSafetensorsFilesAreNoCheckpoints) {
  const std::string header = wire::EncodeSafetensorsHeader({{"format", "pt"}}, {}).value();
  ASSERT_TRUE(io::WriteAtomically(files_, Path("a"), header).ok());
  EXPECT_EQ(base::ReasonOf(ReadCheckpointFile(files_, Path("a")).status()), "CHECKPOINT_INVALID");
  ASSERT_TRUE(io::WriteAtomically(files_, Path("a"), "hello").ok());
  EXPECT_EQ(base::ReasonOf(ReadCheckpointFile(files_, Path("a")).status()), "SAFETENSORS_INVALID");
}

TEST_F(CheckpointFileTest, TensorNamesThatClashAreRefused) {
  auto layout = std::make_shared<const tensor::ModelLayout>(
      tensor::ModelLayout{{"a", {2, 2}, 2, 2, true}, {"a.values", {2}, 2, 1, false}});
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(2);
  topologies[0] =
      std::make_shared<const tensor::Topology>(sparsity::RandomTopology(2, 2, 1, 1).value());
  tensor::ModelState state;
  state.topology = std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(layout, std::move(topologies)).value());
  state.values.resize(3);
  EXPECT_FALSE(WriteCheckpointFile(files_, Path("a"), state, SomeMetadata("j", 1)).ok());
  EXPECT_THAT(files_.List(directory_).value(), IsEmpty());
}

}  // namespace
}  // namespace espalier::checkpoint
