#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/wire/model_spec/train_additions.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;

v1::JobSpec FedDstJob() {
  v1::JobSpec spec = SmallJob("feddst");
  SetDouble(spec, "density", 0.2);
  SetDouble(spec, "alpha", 0.3);
  SetInt(spec, "update_every", 4);
  return spec;
}

// Rounds whose task asks for a readjustment, and how many weights of the first tensor it changes.
std::vector<std::pair<int, int64_t>> Readjusted(const v1::JobSpec& spec) {
  const auto trace = test::RunJob(*Make(spec), test::FakeFleet(3)).value();
  std::vector<std::pair<int, int64_t>> rounds;
  for (const Transition& transition : trace.transitions) {
    if (!transition.state.step) continue;
    const v1::TrainAddition& asked =
        wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kReadjustment);
    if (!asked.has_readjustment()) continue;
    rounds.emplace_back(transition.state.step->round, asked.readjustment().counts(0));
    EXPECT_EQ(transition.state.step->reducer, reduce::ReducerKind::kOwnersMean);
  }
  return rounds;
}

TEST(FedDstTest, ReadjustsAtItsRoundsFewerAndFewerWeightsAndNotInTheLast) {
  v1::JobSpec spec = FedDstJob();
  // 30 × 20 at Erdős–Rényi density: 0.15 (1 + cos(π r / 20)) of its weights, rounded up.
  const auto trace = test::RunJob(*Make(spec), test::FakeFleet(3)).value();
  const auto weights = static_cast<double>(trace.transitions[0].state.model.topology->stored(0));
  const auto expected = [&](double fraction) {
    return static_cast<int64_t>(std::ceil(fraction * weights));
  };
  EXPECT_THAT(Readjusted(spec),
              ElementsAre(std::pair(4, expected(0.271353)), std::pair(8, expected(0.196353)),
                          std::pair(12, expected(0.103647)), std::pair(16, expected(0.028647))));
  SetWord(spec, "decay", "none");
  SetInt(spec, "stop_round", 9);
  EXPECT_THAT(Readjusted(spec),
              ElementsAre(std::pair(4, expected(0.3)), std::pair(8, expected(0.3))));
}

TEST(FedDstTest, TheUnionIsPrunedBackToTheLayersTargetsByMagnitude) {
  v1::JobSpec spec = FedDstJob();
  SetInt(spec, "update_every", 1);
  const auto program = Make(spec);
  const Transition start = program->Start().value();
  const tensor::ModelTopology& base = *start.state.model.topology;
  ASSERT_TRUE(wire::HasAddition(start.state.step->task.train(), v1::TrainAddition::kReadjustment));
  const reduce::Reduced reduced =
      test::FakeFleet(3).Run(*start.state.step, start.state.model).value();
  ASSERT_GT(reduced.topology->stored(0), base.stored(0)) << "participants grew different weights";
  const Transition next = program->Next(start.state, reduced).value();
  const tensor::ModelState& pruned = next.state.model;
  ASSERT_EQ(pruned.topology->stored(0), base.stored(0));
  const tensor::ModelState united = {reduced.topology,
                                     reduced.sections.at(v1::SECTION_KIND_VALUES)};
  float least_kept = 1e9F;
  for (const float value : pruned.tensor(0)) least_kept = std::min(least_kept, std::abs(value));
  int64_t larger = 0;
  for (const float value : united.tensor(0)) larger += std::abs(value) > least_kept ? 1 : 0;
  EXPECT_EQ(larger, base.stored(0) - 1);
  EXPECT_EQ(next.state.topology_version, start.state.topology_version + 1);
  EXPECT_GT(next.state.pending.weights_changed(), 0);
  const auto trace = test::RunJob(*program, test::FakeFleet(3)).value();
  EXPECT_GT(trace.rounds[0].explored(), trace.rounds[0].density());
}

TEST(FedDstTest, OneParticipantKeepsItsOwnStructure) {
  v1::JobSpec spec = FedDstJob();
  SetInt(spec, "update_every", 1);
  const auto program = Make(spec);
  const Transition start = program->Start().value();
  const reduce::Reduced reduced =
      test::FakeFleet(1).Run(*start.state.step, start.state.model).value();
  const Transition next = program->Next(start.state, reduced).value();
  EXPECT_EQ(next.state.model.topology->hash(), reduced.topology->hash());
  EXPECT_EQ(next.state.model.values, reduced.sections.at(v1::SECTION_KIND_VALUES));
}

TEST(FedDstTest, MeanWithoutAStructureIsRefused) {
  v1::JobSpec spec = FedDstJob();
  SetInt(spec, "update_every", 1);
  const auto program = Make(spec);
  const Transition start = program->Start().value();
  reduce::Reduced reduced = test::FakeFleet(2).Run(*start.state.step, start.state.model).value();
  reduced.topology = nullptr;
  EXPECT_EQ(base::ReasonOf(program->Next(start.state, reduced).status()), "SHAPE_MISMATCH");
}

TEST(FedDstTest, OptimizerStateThatCrossesRoundsIsRefused) {
  v1::JobSpec spec = FedDstJob();
  spec.mutable_training()->mutable_optimizer()->set_across_rounds(
      v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "training.optimizer.across_rounds");
}

TEST(FedDstTest, OtherAggregationsAreRefused) {
  v1::JobSpec spec = FedDstJob();
  spec.mutable_training()->set_control_variates(true);
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 2u);
  EXPECT_EQ(violations[0].field, "aggregation");
  EXPECT_EQ(violations[1].field, "training.control_variates");
}

}  // namespace
}  // namespace espalier::server::methods
