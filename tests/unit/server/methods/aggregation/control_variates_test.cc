// SCAFFOLD's control variates against rounds worked by hand, and what they are for.
#include "server/methods/aggregation/control_variates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/base/status.h"
#include "server/methods/aggregation/aggregate.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

const tensor::ModelTopology& TwoWeightsAndAStatistic() {
  static const tensor::ModelTopology* const kTopology = [] {
    auto layout = std::make_shared<tensor::ModelLayout>();
    layout->push_back({"layers.0.bias", {2}, 2, 1, false});
    layout->push_back({"layers.1.running_mean", {1}, 1, 1, false, true});
    return new tensor::ModelTopology(
        tensor::ModelTopology::Create(layout, {nullptr, nullptr}).value());
  }();
  return *kTopology;
}

v1::TrainTask AtRate(double rate) {
  v1::TrainTask task;
  task.set_learning_rate(rate);
  return task;
}

absl::Status Update(const v1::TrainTask& task, const std::vector<float>& before,
                    const std::vector<reduce::Update>& updates, ServerState& state) {
  return UpdateControls(task, TwoWeightsAndAStatistic(), before, updates, /*total=*/4, state);
}

// K·η = 2. Round 1: c_a = (1, 1) − (3, −1) = (−2, 2) / 2; c_b = (2, 0) / 2; c = (c_a + c_b) / 4.
TEST(ControlVariatesTest, FollowOptionTwoWithPartialCohorts) {
  ServerState state;
  ASSERT_TRUE(
      Update(AtRate(0.5), {1, 1, 9}, {{"a", 4, {3, -1, 5}}, {"b", 4, {-1, 1, 5}}}, state).ok());
  EXPECT_EQ(*state.controls.at("a"), (std::vector<float>{-1, 1, 0}));
  EXPECT_EQ(*state.controls.at("b"), (std::vector<float>{1, 0, 0}));
  EXPECT_EQ(*state.control, (std::vector<float>{0, 0.25F, 0}));
  EXPECT_EQ(Correction(state, "a"), (std::vector<float>{1, -0.75F, 0}));
  EXPECT_EQ(Correction(state, "never seen"), (std::vector<float>{0, 0.25F, 0}));

  // Round 2, b alone: c_b⁺ = (1, 0) − (0, .25) + ((0, 0) − (−4, 2)) / 2 = (3, −1.25).
  ASSERT_TRUE(Update(AtRate(0.5), {0, 0, 9}, {{"b", 4, {-4, 2, 5}}}, state).ok());
  EXPECT_EQ(*state.controls.at("b"), (std::vector<float>{3, -1.25F, 0}));
  EXPECT_EQ(*state.controls.at("a"), (std::vector<float>{-1, 1, 0}));
  EXPECT_EQ(*state.control, (std::vector<float>{0.5F, -0.0625F, 0}));
}

TEST(ControlVariatesTest, NoCorrectionBeforeTheFirstRound) {
  EXPECT_TRUE(Correction({}, "a").empty());
}

TEST(ControlVariatesTest, LearningRateZeroTeachesNothing) {
  ServerState state;
  ASSERT_TRUE(Update(AtRate(0), {1, 1, 1}, {{"a", 10, {1, 1, 1}}}, state).ok());
  EXPECT_TRUE(state.controls.empty());
}

TEST(ControlVariatesTest, MissingUpdatesAreAnError) {
  ServerState state;
  EXPECT_EQ(base::ReasonOf(Update(AtRate(1), {1, 1, 1}, {}, state)), "UPDATES_MISSING");
  EXPECT_EQ(base::ReasonOf(Update(AtRate(1), {1, 1, 1}, {{"a", 1, {1}}}, state)),
            "UPDATES_MISSING");
}

// Passes over shards of different size: each participant's slope is of the steps that it made.
TEST(ControlVariatesTest, StepsAreThoseThatEachParticipantMade) {
  ServerState state;
  ASSERT_TRUE(
      Update(AtRate(0.5), {1, 1, 9}, {{"a", 4, {3, -1, 5}}, {"b", 40, {3, -1, 5}}}, state).ok());
  EXPECT_EQ(*state.controls.at("a"), (std::vector<float>{-1, 1, 0}));
  EXPECT_EQ(*state.controls.at("b"), (std::vector<float>{-0.1F, 0.1F, 0}));
  EXPECT_EQ(base::ReasonOf(Update(AtRate(0.5), {1, 1, 9}, {{"a", 0, {3, -1, 5}}}, state)),
            "UPDATES_MISSING");
}

// Two participants with losses a·(w − t)² / 2 of different curvature: averaging after many local
// steps stops at the wrong place, with control variates at the minimum of the mean loss.
TEST(ControlVariatesTest, RemoveTheDriftOfUnevenParticipants) {
  const std::vector<double> curvature = {1, 10};
  const std::vector<double> target = {0, 1};
  const double minimum = (curvature[0] * target[0] + curvature[1] * target[1]) / 11;
  const auto train = [&](bool corrected) {
    const v1::TrainTask task = [] {
      v1::TrainTask made;
      made.set_learning_rate(0.05);
      return made;
    }();
    ServerState state;
    std::vector<float> model = {0, 0, 0};
    for (int round = 0; round < 100; ++round) {
      std::vector<reduce::Update> updates;
      double mean = 0;
      for (size_t k = 0; k < 2; ++k) {
        const std::string name = std::to_string(k);
        const std::vector<float> correction =
            corrected ? Correction(state, name) : std::vector<float>();
        double w = model[0];
        for (int step = 0; step < 10; ++step) {
          w -= 0.05 * (curvature[k] * (w - target[k]) + (correction.empty() ? 0 : correction[0]));
        }
        updates.push_back({name, 10, {static_cast<float>(w), 0, 0}});
        mean += w / 2;
      }
      EXPECT_TRUE(UpdateControls(task, TwoWeightsAndAStatistic(), model, updates, 2, state).ok());
      model[0] = static_cast<float>(mean);
    }
    return model[0];
  };
  EXPECT_GT(std::abs(train(false) - minimum), 0.1);
  EXPECT_NEAR(train(true), minimum, 1e-4);
}

// 2 × 3 with weights at 0, 2, 4 and a bias of 2; 4 is dropped, 1 and 5 grow.
TEST(CarryOverTest, StateFollowsItsWeights) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {2, 3}, 2, 3, true});
  layout->push_back({"layers.0.bias", {2}, 2, 1, false});
  const auto before = OneLayer(layout, {0, 2, 4});
  const auto after = OneLayer(layout, {0, 1, 2, 5});
  ServerState state;
  state.momentum = std::make_shared<const std::vector<float>>(std::vector<float>{1, 2, 3, 4, 5});
  state.controls["a"] = state.momentum;
  CarryOver(before, after,
            {{.tensor = 0, .diff = {.dropped = {2}, .grown = {1, 5}}, .growth_key = {}}}, state);
  const std::vector<float> expected = {1, 0, 2, 0, 4, 5};
  EXPECT_EQ(*state.momentum, expected);
  EXPECT_EQ(*state.controls.at("a"), expected);
  EXPECT_EQ(state.control, nullptr);
}

TEST(CarryOverTest, WeightThatGrowsWhereItWasDroppedBeginsAnew) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {2, 3}, 2, 3, true});
  layout->push_back({"layers.0.bias", {2}, 2, 1, false});
  const auto topology = OneLayer(layout, {0, 2, 4});
  ServerState state;
  state.second_moment =
      std::make_shared<const std::vector<float>>(std::vector<float>{1, 2, 3, 4, 5});
  CarryOver(topology, topology,
            {{.tensor = 0, .diff = {.dropped = {1}, .grown = {2}}, .growth_key = {}}}, state);
  EXPECT_EQ(*state.second_moment, (std::vector<float>{1, 0, 3, 4, 5}));
}

TEST(AggregationMemoryTest, WhatWouldNotFitIsRefusedWithTheSize) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.bias", {1'000'000}, 1'000'000, 1, false});
  const auto topology = tensor::ModelTopology::Create(layout, {nullptr}).value();
  v1::JobSpec spec;
  spec.mutable_data()->mutable_partition()->set_shards(5000);
  EXPECT_TRUE(CheckAggregationMemory(spec, topology).ok());
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
  EXPECT_EQ(base::ReasonOf(CheckAggregationMemory(spec, topology)), "AGGREGATION_TOO_LARGE");
  spec.mutable_federation()->set_cohort_size(100);
  EXPECT_TRUE(CheckAggregationMemory(spec, topology).ok());
  spec.mutable_aggregation()->clear_rule();
  spec.mutable_training()->set_control_variates(true);
  EXPECT_EQ(base::ReasonOf(CheckAggregationMemory(spec, topology)), "AGGREGATION_TOO_LARGE");
}

}  // namespace
}  // namespace espalier::server::methods
