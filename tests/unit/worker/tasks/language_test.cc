#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>

#include "common/base/status.h"
#include "common/sparsity/pruning/activation_statistics.h"
#include "tests/support/blob_map.h"
#include "tests/support/language_model.h"
#include "worker/language/perplexity.h"
#include "worker/tasks/kinds.h"
#include "worker/tasks/language/streamed_models.h"

namespace espalier::worker::tasks {
namespace {

using sparsity::ActivationStatistics;
using support::LanguageModel;

constexpr int64_t kContext = 8;
constexpr int kTestTokens = 61;

// A worker with a model to fetch and text of its own.
class StreamedModelTest : public testing::Test {
 protected:
  void SetUp() override {
    root_ = testing::TempDir() + "/language_tasks_" +
            testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::create_directories(root_ + "/text");
    Write("train.bin", 200);
    Write("test.bin", kTestTokens);
    data_ = std::make_unique<LocalData>(root_);
    for (const auto& block : model_.blocks) {
      *task_.mutable_model()->mutable_language()->add_blocks() =
          blobs_.Put(::espalier::language::EncodeBlock(block));
    }
    *task_.mutable_model()->mutable_language()->mutable_outer() =
        blobs_.Put(::espalier::language::EncodeOuter(model_.outer));
    task_.mutable_model()->mutable_language()->set_config_json(model_.config.json);
    task_.mutable_data()->set_dataset("text");
    task_.mutable_data()->mutable_text()->set_context(kContext);
    task_.mutable_data()->mutable_text()->set_tokenizer("uint16");
    SetShards(1);
    task_.set_seed(1);
  }
  void TearDown() override { std::filesystem::remove_all(root_); }

  void Write(const std::string& name, int count) {
    std::ofstream file(root_ + "/text/" + name, std::ios::binary);
    uint32_t state = 7;
    for (int i = 0; i < count; ++i) {
      state = state * 1664525 + 1013904223;
      const auto token = static_cast<uint16_t>((state >> 16) % model_.config.vocabulary);
      file.write(reinterpret_cast<const char*>(&token), sizeof(token));
    }
  }
  void SetShards(int shards) {
    v1::Partition& partition = *task_.mutable_data()->mutable_partition();
    partition.set_kind(v1::Partition::KIND_IID);
    partition.set_shards(shards);
  }
  std::unique_ptr<StreamedModels> NewWorker() {
    return std::make_unique<StreamedModels>(
        [this](const v1::BlobRef& ref) -> absl::StatusOr<std::string> {
          ++fetched_;
          return blobs_.at(ref);
        },
        1);
  }
  // What the worker would send.
  Partial Measure(StreamedModels& worker, int block, int shard = 0) {
    v1::Task task = task_;
    task.set_shard(shard);
    v1::ActivationStatisticsTask& asked = *task.mutable_activation_statistics();
    asked.set_block(block);
    for (const auto& spec : ::espalier::language::BlockLinears(model_.config)) {
      v1::ActivationStatisticsTask::Input& input = *asked.add_inputs();
      input.set_layer(spec.name);
      input.set_columns(spec.inputs);
      input.set_gram(true);
    }
    StreamedModel model(task, cancelled_, *data_, worker);
    auto partial = RunKind(task, cancelled_, model);
    EXPECT_TRUE(partial.ok()) << partial.status();
    return *std::move(partial);
  }
  std::vector<ActivationStatistics> Decode(const std::string& body) const {
    std::vector<ActivationStatistics> all;
    std::string_view rest = body;
    for (const auto& spec : ::espalier::language::BlockLinears(model_.config)) {
      const uint64_t size = ActivationStatistics::EncodedBytes(spec.inputs, true);
      all.push_back(ActivationStatistics::Decode(rest.substr(0, size), spec.inputs, true).value());
      rest.remove_prefix(size);
    }
    EXPECT_TRUE(rest.empty());
    return all;
  }
  static std::string Encode(const std::vector<ActivationStatistics>& all) {
    std::string bytes;
    for (const auto& statistics : all) statistics.AppendTo(bytes);
    return bytes;
  }

  LanguageModel model_ = support::RandomLanguageModel(support::SmallConfig("llama"), 3, 1);
  std::string root_;
  test::BlobMap blobs_;
  int fetched_ = 0;
  v1::Task task_;
  std::unique_ptr<LocalData> data_;
  std::atomic<bool> cancelled_{false};
};

TEST_F(StreamedModelTest, OnlyStatisticsAreSent) {
  const auto worker = NewWorker();
  const Partial partial = Measure(*worker, 0);
  // Every byte of the body is a sum, and as many of them for any amount of text.
  const auto statistics = Decode(partial.body);
  EXPECT_EQ(Encode(statistics), partial.body);
  EXPECT_EQ(statistics[0].sequences(), (200 - 1) / kContext);
  EXPECT_EQ(statistics[0].tokens(), statistics[0].sequences() * kContext);
  v1::PartialHeader expected;
  expected.set_examples(statistics[0].sequences());
  v1::Section& sums = *expected.add_sections();
  sums.set_kind(v1::SECTION_KIND_ACTIVATION_STATISTICS);
  sums.set_type(v1::SECTION_TYPE_EXACT_SUMS);
  sums.set_count(::espalier::language::BlockLinears(model_.config).size());
  sums.set_bytes(partial.body.size());
  EXPECT_EQ(partial.header.SerializeAsString(), expected.SerializeAsString());
  Write("train.bin", 1200);
  EXPECT_EQ(Measure(*worker, 0).body.size(), partial.body.size());
}

TEST_F(StreamedModelTest, SumsAreTheSameBitsHoweverTextIsDivided) {
  const auto worker = NewWorker();
  const std::string whole = Measure(*worker, 1).body;
  for (const int shards : {2, 4}) {
    SetShards(shards);
    std::vector<ActivationStatistics> merged;
    for (int shard = shards; shard-- > 0;) {
      auto part = Decode(Measure(*NewWorker(), 1, shard).body);
      if (merged.empty()) {
        merged = std::move(part);
        continue;
      }
      for (size_t i = 0; i < merged.size(); ++i) ASSERT_TRUE(merged[i].Merge(part[i]).ok());
    }
    EXPECT_EQ(Encode(merged), whole) << shards << " shards";
  }
}

TEST_F(StreamedModelTest, ABlockGoesOnFromWhatTheLastOneLeft) {
  const auto worker = NewWorker();
  Measure(*worker, 0);
  fetched_ = 0;
  const std::string kept = Measure(*worker, 1).body;
  EXPECT_EQ(fetched_, 2);  // the block before and the block itself
  EXPECT_EQ(Measure(*NewWorker(), 1).body, kept);
}

TEST_F(StreamedModelTest, LossIsThatOfTheText) {
  v1::Task task = task_;
  task.mutable_evaluate()->set_whole_test_split(true);
  const auto worker = NewWorker();
  const auto partial = worker->Evaluate(*data_, task, cancelled_);
  ASSERT_TRUE(partial.ok()) << partial.status();
  v1::DataSpec spec = task.data();
  const auto dataset = data::LoadDataset(root_, spec).value();
  std::vector<int32_t> tokens;
  for (int64_t row = dataset->train_rows(); row < dataset->size(); ++row) {
    for (int64_t i = 0; i < kContext; ++i) tokens.push_back(dataset->ByteRow(row)[i]);
  }
  tokens.push_back(dataset->label(static_cast<int64_t>(dataset->size() - 1)));
  const auto expected = language::ComputePerplexity(
      model_.config, model_.outer,
      [&](int64_t block) -> absl::StatusOr<::espalier::language::BlockWeights> {
        return model_.blocks[block];
      },
      tokens, 1, {.context = kContext});
  ASSERT_TRUE(expected.ok());
  EXPECT_EQ(partial->header.examples(), expected->predicted);
  EXPECT_NEAR(partial->header.loss_sum(), expected->nll_sum, 1e-3);
  EXPECT_EQ(partial->header.correct(), expected->correct);
}

TEST_F(StreamedModelTest, DamagedPartsAndForeignTextAreErrors) {
  const auto worker = NewWorker();
  auto& block = blobs_.at(task_.model().language().blocks(0));
  block.resize(block.size() - 3);
  v1::Task task = task_;
  task.mutable_activation_statistics();
  EXPECT_EQ(base::ReasonOf(worker->Observe(*data_, task, cancelled_).status()), "PART_INVALID");
  std::ofstream file(root_ + "/text/train.bin", std::ios::binary);
  for (int i = 0; i < 50; ++i) file.write("\xff\x7f", 2);
  file.close();
  EXPECT_EQ(base::ReasonOf(worker->Observe(*data_, task, cancelled_).status()), "TEXT_VOCABULARY");
}

}  // namespace
}  // namespace espalier::worker::tasks
