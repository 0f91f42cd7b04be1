// What workers may put behind the values of an upload, and what is refused.
#include "server/round/extras.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
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

class ReadjustmentTest : public testing::Test {
 protected:
  ReadjustmentTest() {
    task_.mutable_train()->mutable_readjustment()->add_counts(2);
    task_.mutable_train()->mutable_readjustment()->add_counts(0);
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
    const absl::Status status = AddExtras(task_, *base_, bytes, partial_);
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
  EXPECT_LE(7 * 4 + 4 * 4 + update.ByteSizeLong(), MaxBodyBytes(task_, *base_, 11));
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

TEST(ScoresTest, NobodyMaySendWhatWasNotAskedFor) {
  const auto model = Model({0, 3});
  v1::Task task;
  task.mutable_train();
  const std::string scores = wire::EncodeScores(
      std::vector<wire::TensorScores>{{{1, 2}, {1.0F, 2.0F}}, {}}, model->layout());
  reduce::Partial partial;
  EXPECT_FALSE(AddExtras(task, *model, scores, partial).ok());
  EXPECT_TRUE(AddExtras(task, *model, "", partial).ok());
  EXPECT_EQ(MaxBodyBytes(task, *model, 6), 24u);
  task.mutable_train()->add_growth_candidates(1);
  task.mutable_train()->add_growth_candidates(0);
  EXPECT_FALSE(AddExtras(task, *model, scores, partial).ok()) << "one was asked for";
  task.mutable_train()->set_growth_candidates(0, 2);
  EXPECT_TRUE(AddExtras(task, *model, scores, partial).ok());
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
  EXPECT_FALSE(AddExtras(task, *model, scores, partial).ok()) << "two were asked for";
  EXPECT_LT(MaxBodyBytes(task, *model, 0), 300u);
  task.mutable_growth()->add_thresholds(0.5);
  EXPECT_TRUE(AddExtras(task, *model, scores, partial).ok()) << "any number may reach it";
  EXPECT_GE(MaxBodyBytes(task, *model, 0), 22u * 12);
}

}  // namespace
}  // namespace espalier::server::round
