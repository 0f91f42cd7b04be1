#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/wire/topology_codec.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// One 100 × 100 weight and a dense output layer.
v1::JobSpec Job(int32_t rounds) {
  v1::JobSpec spec = SmallJob("gmp");
  spec.mutable_model()->clear_layers();
  spec.mutable_model()->set_input_features(100);
  AddLayer(spec, 100, v1::ACTIVATION_RELU);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  spec.mutable_model()->mutable_layers(1)->mutable_linear()->set_dense(true);
  spec.mutable_federation()->set_rounds(rounds);
  return spec;
}

// Sparsity 0 → .9 over 20 steps.
TEST(GmpTest, DensityFollowsTheCubicSchedule) {
  v1::JobSpec spec = Job(22);
  SetDouble(spec, "density", 0.1);
  SetInt(spec, "end_round", 20);
  const test::JobTrace trace = Trace(spec, 2);
  std::vector<int64_t> active;
  for (const v1::RoundSummary& round : trace.rounds) active.push_back(round.active_weights());
  EXPECT_EQ(active[0], 10000) << "round 1 is trained dense";
  EXPECT_EQ(active[1], 8716);  // 1 − .128363
  EXPECT_EQ(active[5], 4797);  // 1 − .520313
  EXPECT_EQ(active[10], 2125);
  EXPECT_EQ(active[15], 1141);  // 1 − .885938
  EXPECT_EQ(active[20], 1000);
  EXPECT_EQ(active[21], 1000);
  EXPECT_EQ(trace.rounds[5].density(), 0.4797);
  EXPECT_EQ(trace.rounds[0].weights_changed(), 10000 - 8716);
}

TEST(GmpTest, OneDensityForAllLayersUnlessADistributionIsGiven) {
  v1::JobSpec spec = SmallJob("gmp");
  SetDouble(spec, "density", 0.5);
  const auto even = Trace(spec, 2).final_state.model.topology;
  EXPECT_EQ(even->stored(0), 300);
  EXPECT_EQ(even->stored(2), 10);
  SetWord(spec, "distribution", "erk");
  const auto erk = Trace(spec, 2).final_state.model.topology;
  EXPECT_LT(erk->stored(0), 300);
  EXPECT_EQ(erk->sparsifiable_stored(), even->sparsifiable_stored());
}

TEST(GmpTest, PrunesEveryFewRoundsBetweenBeginAndEnd) {
  v1::JobSpec spec = Job(14);
  SetInt(spec, "begin_round", 2);
  SetInt(spec, "end_round", 12);
  SetInt(spec, "update_every", 4);
  std::vector<int32_t> rounds;
  for (const v1::RoundSummary& round : Trace(spec, 2).rounds) {
    if (round.weights_changed() > 0) rounds.push_back(round.round());
  }
  EXPECT_THAT(rounds, ElementsAre(6, 10, 12)) << "the last pruning is at end_round in any case";
}

TEST(GmpTest, OneShotPrunesOnceAndGoesOnWithWhatIsLeft) {
  v1::JobSpec at_once = Job(8);
  SetInt(at_once, "begin_round", 5);
  SetInt(at_once, "end_round", 5);
  v1::JobSpec rarely = Job(8);
  SetInt(rarely, "update_every", 1000);  // at three quarters of the rounds
  for (const auto& [spec, last_dense] : {std::pair{at_once, 5}, {rarely, 6}}) {
    for (const v1::RoundSummary& round : Trace(spec).rounds) {
      EXPECT_EQ(round.active_weights(), round.round() <= last_dense ? 10000 : 1000);
      EXPECT_EQ(round.weights_changed(), round.round() == last_dense ? 9000 : 0);
    }
  }
}

TEST(GmpTest, WhatIsPrunedIsTheSmallestMagnitudesAndNeverComesBack) {
  v1::JobSpec spec = Job(6);
  const test::JobTrace trace = Trace(spec, 2);
  for (const Transition& transition : trace.transitions) {
    if (!transition.structure_change) continue;
    for (const StructureChange::Tensor& change : transition.structure_change->tensors) {
      EXPECT_TRUE(change.diff.grown.empty());
      const auto before = transition.checkpoint->tensor(change.tensor);
      std::vector<bool> dropped(before.size());
      float largest_dropped = 0;
      for (const int32_t i : change.diff.dropped) {
        dropped[i] = true;
        largest_dropped = std::max(largest_dropped, std::abs(before[i]));
      }
      for (size_t i = 0; i < before.size(); ++i) {
        EXPECT_TRUE(dropped[i] || std::abs(before[i]) >= largest_dropped) << i;
      }
    }
  }
}

TEST(GmpTest, FirstPruningOfADenseTensorTravelsAsAChange) {
  const test::JobTrace trace = Trace(Job(6), 2);
  bool first = true;
  for (const Transition& transition : trace.transitions) {
    if (!transition.structure_change) continue;
    const StructureChange& change = *transition.structure_change;
    EXPECT_EQ(change.base->is_sparse(0), !first);
    first = false;
    std::vector<wire::TensorChange> changes;
    for (const auto& tensor : change.tensors) changes.push_back({tensor.tensor, tensor.diff, {}});
    const auto& updated = *transition.state.model.topology;
    const auto update = wire::EncodeTopologyUpdate(*change.base, updated, changes);
    ASSERT_TRUE(update.ok()) << update.status();
    const auto applied = wire::ApplyTopologyUpdate(*change.base, *update);
    ASSERT_TRUE(applied.ok()) << applied.status();
    EXPECT_EQ((*applied)->hash(), updated.hash());
  }
  EXPECT_FALSE(first);
}

TEST(GmpTest, OptimizerStateThatCrossesRoundsIsPrunedWithTheWeights) {
  v1::JobSpec spec = Job(6);
  v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
  optimizer.set_momentum(0.9);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  const tensor::ModelState& last = Trace(spec, 2).final_state.model;
  EXPECT_EQ(last.optimizer_state.size(), last.values.size());
  EXPECT_THAT(last.optimizer_state, Each(1.0F));
}

TEST(GmpTest, SchedulesThatDoNotFitTheRoundsAreRefused) {
  v1::JobSpec spec = Job(10);
  SetInt(spec, "end_round", 10);
  ASSERT_EQ(Violations(spec).size(), 1u);
  EXPECT_EQ(Violations(spec)[0].field, "method.parameters.end_round");
  EXPECT_THAT(Violations(spec)[0].description, HasSubstr("found 10 of 10 rounds"));
  SetInt(spec, "end_round", 5);
  SetInt(spec, "begin_round", 6);
  ASSERT_EQ(Violations(spec).size(), 1u);
  EXPECT_EQ(Violations(spec)[0].field, "method.parameters.begin_round");
  SetInt(spec, "begin_round", 5);
  EXPECT_TRUE(Violations(spec).empty());
  EXPECT_EQ(Violations(Job(1)).size(), 1u) << "one round leaves no time to prune";
}

TEST(GmpTest, AModelTooLargeForOneUpdateIsRefusedWithNumbers) {
  v1::JobSpec spec = Job(10);
  spec.mutable_model()->set_input_features(60000);
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(20000);
  const auto violations = Violations(spec);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "model.layers");
  EXPECT_THAT(violations[0].description, HasSubstr("expected at most 4294967296"));
  EXPECT_THAT(violations[0].description, HasSubstr("4800880040 bytes"));
}

}  // namespace
}  // namespace espalier::server::methods
