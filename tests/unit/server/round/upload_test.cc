// What the sections of an upload may say, and what is refused.
#include "server/round/upload.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"

namespace espalier::server::round {
namespace {

// A sparse 4 × 6 weight and its dense bias.
std::shared_ptr<const tensor::ModelTopology> Model(const std::vector<int64_t>& positions) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {4, 6}, 4, 6, true});
  layout->push_back({"layers.0.bias", {4}, 4, 1, false});
  auto topology = tensor::Topology::FromPositions(4, 6, positions).value();
  return std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(
          layout, {std::make_shared<const tensor::Topology>(std::move(topology)), nullptr})
          .value());
}

Upload WithBody(const std::string& bytes) {
  Upload upload;
  upload.body = [bytes](uint64_t offset, uint64_t size, const auto& sink) {
    return sink(std::string_view(bytes).substr(offset, size));
  };
  return upload;
}

v1::Section& Add(v1::SectionKind kind, v1::SectionType type, uint64_t count, uint64_t bytes,
                 Upload& upload) {
  v1::Section& section = *upload.header.add_sections();
  section.set_kind(kind);
  section.set_type(type);
  section.set_count(count);
  section.set_bytes(bytes);
  return section;
}

// Reads an upload of one section.
absl::Status Read(const v1::Task& task, const tensor::ModelTopology& model, v1::SectionKind kind,
                  v1::SectionType type, uint64_t count, const std::string& bytes,
                  reduce::Partial& partial) {
  Upload upload = WithBody(bytes);
  Add(kind, type, count, bytes.size(), upload);
  return ReadSections(task, model, {}, upload, partial);
}

class ReadjustmentTest : public testing::Test {
 protected:
  ReadjustmentTest() {
    v1::Readjustment& asked = *task_.mutable_train()->add_additions()->mutable_readjustment();
    asked.add_counts(2);
    asked.add_counts(0);
  }

  // The change to `positions`, said with honest hashes.
  v1::TopologyUpdate Update(const std::vector<int64_t>& positions,
                            const tensor::TopologyDiff& diff) const {
    return wire::EncodeTopologyUpdate(*base_, *Model(positions),
                                      std::vector<wire::TensorChange>{{0, diff, {}}})
        .value();
  }
  // The reason why the change is refused; "" when it is taken.
  std::string Refusal(const v1::TopologyUpdate& update) {
    return RefusalOf(update.SerializeAsString());
  }
  std::string RefusalOf(const std::string& bytes) {
    partial_ = {};
    const absl::Status status = Read(task_, *base_, v1::SECTION_KIND_STRUCTURE,
                                     v1::SECTION_TYPE_TOPOLOGY_UPDATE, 2, bytes, partial_);
    EXPECT_EQ(status.ok(), partial_.topology != nullptr && status.ok());
    return status.ok() ? "" : base::ReasonOf(status);
  }

  std::shared_ptr<const tensor::ModelTopology> base_ = Model({0, 3, 7, 8, 14, 20, 23});
  v1::Task task_;
  reduce::Partial partial_;
};

TEST_F(ReadjustmentTest, WhatWasAskedForIsTaken) {
  const v1::TopologyUpdate update = Update({0, 4, 7, 8, 20, 21, 23}, {{1, 4}, {4, 21}});
  ASSERT_EQ(Refusal(update), "");
  EXPECT_EQ(partial_.topology->topology(0).Positions(),
            (std::vector<int64_t>{0, 4, 7, 8, 20, 21, 23}));
  const wire::Sections sections = wire::SectionsOf(task_, *base_);
  ASSERT_EQ(sections.size(), 2);
  EXPECT_EQ(sections[0].bytes(), 7u * 4 + 4 * 4);
  EXPECT_EQ(sections[1].count(), 2u);
  EXPECT_LE(update.ByteSizeLong(), sections[1].bytes());
}

TEST_F(ReadjustmentTest, AnotherNumberOfWeightsIsRefused) {
  EXPECT_EQ(Refusal(Update({0, 4, 7, 8, 14, 20, 23}, {{1}, {4}})), "READJUSTMENT_INVALID");
  EXPECT_EQ(Refusal(Update({4, 5, 7, 8, 15, 20, 23}, {{0, 1, 4}, {4, 5, 15}})),
            "READJUSTMENT_INVALID");
  EXPECT_EQ(Refusal(Update({0, 7, 8, 20, 21, 23}, {{1, 4}, {21}})), "READJUSTMENT_INVALID");
  // Dropped and grown again in the same place is no change.
  EXPECT_EQ(Refusal(Update({0, 3, 7, 8, 20, 21, 23}, {{1, 4}, {3, 21}})), "READJUSTMENT_INVALID");
  EXPECT_EQ(Refusal(Update({0, 3, 7, 8, 14, 20, 23}, {})), "READJUSTMENT_INVALID");
}

TEST_F(ReadjustmentTest, BytesThatAreNoChangeAreRefused) {
  EXPECT_EQ(RefusalOf(""), "TOPOLOGY_HASH_MISMATCH");
  EXPECT_EQ(RefusalOf("\xff\xff\xff\xff"), "READJUSTMENT_INVALID");
}

TEST_F(ReadjustmentTest, HashesThatDoNotFitAreRefused) {
  v1::TopologyUpdate update = Update({0, 4, 7, 8, 20, 21, 23}, {{1, 4}, {4, 21}});
  v1::TopologyUpdate other_base = update;
  other_base.set_base_hash(Model({0})->hash());
  EXPECT_EQ(Refusal(other_base), "TOPOLOGY_HASH_MISMATCH");
  update.set_hash(base_->hash());
  EXPECT_EQ(Refusal(update), "TOPOLOGY_HASH_MISMATCH");
}

TEST_F(ReadjustmentTest, IndicesOutOfRangeAreRefused) {
  const v1::TopologyUpdate good = Update({0, 4, 7, 8, 20, 21, 23}, {{1, 4}, {4, 21}});
  const auto with = [&](auto change) {
    v1::TopologyUpdate update = good;
    change(*update.mutable_tensors(0));
    return Refusal(update);
  };
  EXPECT_EQ(with([](auto& t) { t.set_tensor(1); }), "TOPOLOGY_INVALID") << "a dense tensor";
  EXPECT_EQ(with([](auto& t) { t.set_tensor(9); }), "TOPOLOGY_INVALID");
  EXPECT_EQ(with([](auto& t) { t.mutable_dropped()->set_universe(1000); }), "INDEX_SET_INVALID");
  EXPECT_EQ(with([](auto& t) { t.mutable_ranks()->set_count(3); }), "INDEX_SET_INVALID");
  EXPECT_EQ(with([](auto& t) {
              t.mutable_ranks()->set_universe(uint64_t{1} << 62);
              t.mutable_ranks()->set_count(uint64_t{1} << 61);
            }),
            "INDEX_SET_INVALID");
  EXPECT_EQ(with([](auto& t) { t.clear_ranks(); }), "TOPOLOGY_INVALID");
  // No memory for what a key could stand for: as many weights as the model has at most.
  EXPECT_NE(with([](auto& t) { t.mutable_seeded()->set_count(uint64_t{1} << 40); }), "");
  v1::TopologyUpdate twice = good;
  *twice.add_tensors() = twice.tensors(0);
  EXPECT_EQ(Refusal(twice), "TOPOLOGY_INVALID");
}

bool TakesScores(const v1::Task& task, const tensor::ModelTopology& model, uint64_t count,
                 const std::string& bytes, reduce::Partial& partial) {
  partial = {};
  return Read(task, model, v1::SECTION_KIND_GROWTH, v1::SECTION_TYPE_SCORES, count, bytes, partial)
      .ok();
}

TEST(ScoresTest, NobodyMaySendWhatWasNotAskedFor) {
  const auto model = Model({0, 3});
  v1::Task task;
  task.mutable_train();
  const std::string scores = wire::EncodeScores(
      std::vector<wire::TensorScores>{{{1, 2}, {1.0F, 2.0F}}, {}}, model->layout());
  reduce::Partial partial;
  EXPECT_EQ(wire::SectionsOf(task, *model).size(), 1) << "values alone";
  v1::GrowthReport& report = *task.mutable_train()->add_additions()->mutable_growth();
  report.add_counts(1);
  report.add_counts(0);
  EXPECT_FALSE(TakesScores(task, *model, 2, scores, partial)) << "one was asked for";
  report.set_counts(0, 2);
  EXPECT_FALSE(TakesScores(task, *model, 1, scores, partial)) << "there are more than it says";
  EXPECT_TRUE(TakesScores(task, *model, 2, scores, partial));
  EXPECT_EQ(partial.scores[0].positions, (std::vector<int64_t>{1, 2}));
}

TEST(ScoresTest, GrowthTasksTakeAsManyAsAnyPartOfThemAsksFor) {
  const auto model = Model({0, 3});
  const std::string scores = wire::EncodeScores(
      std::vector<wire::TensorScores>{{{1, 2, 5}, {1.0F, 2.0F, 3.0F}}, {}}, model->layout());
  reduce::Partial partial;
  v1::Task task;
  task.mutable_growth()->add_counts(2);
  task.mutable_growth()->add_counts(0);
  EXPECT_FALSE(TakesScores(task, *model, 3, scores, partial)) << "two were asked for";
  EXPECT_LT(wire::SectionsOf(task, *model)[0].bytes(), 300u);
  task.mutable_growth()->add_thresholds(0.5);
  EXPECT_TRUE(TakesScores(task, *model, 3, scores, partial)) << "any number may reach it";
  EXPECT_GE(wire::SectionsOf(task, *model)[0].bytes(), 22u * 12);
}

TEST(ValuesTest, SectionsOfFloatsAreReadOneAfterTheOtherHoweverTheBodyIsCut) {
  const auto model = Model({0, 3});
  const std::vector<float> values = {1, 2, 3, 4, 5};
  const std::string bytes(wire::ValuesAsBytes(values));
  for (const size_t piece : {1, 3, 4, 7, 100}) {
    Upload upload;
    upload.body = [bytes, piece](uint64_t offset, uint64_t size, const auto& sink) -> absl::Status {
      for (uint64_t i = offset; i < offset + size; i += piece) {
        const uint64_t part = std::min<uint64_t>(piece, offset + size - i);
        ESPALIER_RETURN_IF_ERROR(sink(std::string_view(bytes).substr(i, part)));
      }
      return absl::OkStatus();
    };
    Add(v1::SECTION_KIND_VALUES, v1::SECTION_TYPE_F32, 2, 8, upload);
    Add(v1::SECTION_KIND_GRADIENTS, v1::SECTION_TYPE_F32, 3, 12, upload);
    reduce::Partial partial;
    ASSERT_TRUE(ReadSections({}, *model, {}, upload, partial).ok());
    EXPECT_EQ(partial.values_count, 5);
    std::vector<float> read;
    ASSERT_TRUE(partial
                    .values([&](std::span<const float> some) {
                      read.insert(read.end(), some.begin(), some.end());
                      return absl::OkStatus();
                    })
                    .ok());
    EXPECT_EQ(read, values) << piece;
  }
}

}  // namespace
}  // namespace espalier::server::round
