#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/wire/model_spec/train_additions.h"
#include "tests/support/fake_fleet.h"
#include "tests/support/result_layouts.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::JobSpec DslJob() {
  v1::JobSpec spec = SmallJob("dsl");
  SetDouble(spec, "density", 0.3);
  return spec;
}

// A round of a 2×4 layer, of 10,000, so that rho is its first value: half of the 4 weights go.
struct SmallRound {
  std::unique_ptr<Program> program;
  ProgramState state;
  reduce::Reduced trained;

  // After training, evaluation and commit.
  Transition Committed() const {
    Transition evaluate = program->Next(state, trained).value();
    reduce::Reduced evaluated;
    evaluated.examples = 1;
    return program->Next(evaluate.state, evaluated).value();
  }
};

// Weights .9 .1 / −.5 .05 at 0, 2, 5 and 7, with gradients .2 .01 .1 .02
// there.
SmallRound B4(v1::JobSpec spec = DslJob()) {
  spec.clear_model();
  spec.mutable_model()->set_input_features(4);
  AddLayer(spec, 2, v1::ACTIVATION_LINEAR);
  spec.mutable_federation()->set_rounds(10000);
  SmallRound round;
  round.program = MethodRegistry::Builtin().Make(spec).value();
  round.state = round.program->Start().value().state;
  round.state.model.topology = OneLayer(round.state.model.topology->shared_layout(), {0, 2, 5, 7});
  round.state.model.values.assign(6, 0.0f);
  round.trained.examples = 1;
  test::ValuesOf(round.trained) = {.9f, .1f, -.5f, .05f, 0, 0};
  round.trained.sections[v1::SECTION_KIND_GRADIENTS] = {.2f, .01f, .1f, .02f, 0, 0};
  round.trained.scores = {{{1, 3, 4, 6}, {.7f, -.9f, .3f, -.6f}}, {}};
  return round;
}

TEST(DslTest, DropsTheSmallestAndGrowsAtTheLargestGradientWithZero) {
  const Transition committed = B4().Committed();
  ASSERT_TRUE(committed.structure_change);
  ASSERT_EQ(committed.structure_change->tensors.size(), 1u);
  const auto& change = committed.structure_change->tensors[0];
  EXPECT_THAT(change.diff.dropped, ElementsAre(1, 3));
  EXPECT_THAT(change.diff.grown, ElementsAre(1, 3));
  EXPECT_THAT(committed.state.model.tensor(0), ElementsAre(.9f, 0.0f, 0.0f, -.5f));
}

TEST(DslTest, WhatWasJustDroppedMayComeBackAsANewWeight) {
  SmallRound round = B4();
  round.trained.sections[v1::SECTION_KIND_GRADIENTS][3] =
      5;  // the gradient of .05 at position 7, which is dropped
  const Transition committed = round.Committed();
  const auto& change = committed.structure_change->tensors[0];
  EXPECT_THAT(change.diff.dropped, ElementsAre(1, 3));
  EXPECT_THAT(change.diff.grown, ElementsAre(3, 7));
  EXPECT_THAT(committed.state.model.tensor(0), ElementsAre(.9f, 0.0f, -.5f, 0.0f));
}

TEST(DslTest, WithoutRegrowthNoGradientsOfStoredWeightsAreAskedFor) {
  v1::JobSpec spec = DslJob();
  (*spec.mutable_method()->mutable_parameters())["regrow"].set_bool_value(false);
  SmallRound round = B4(spec);
  const v1::TrainTask train = round.program->Start().value().state.step->task.train();
  EXPECT_FALSE(wire::AdditionOf(train, v1::TrainAddition::kGrowth).growth().active());
  round.trained.sections.erase(v1::SECTION_KIND_GRADIENTS);
  round.trained.scores = {{{3}, {-.9f}}, {}};
  const Transition committed = round.Committed();
  const auto& change = committed.structure_change->tensors[0];
  EXPECT_THAT(change.diff.dropped, ElementsAre(3)) << "only so many go as can be grown";
  EXPECT_THAT(change.diff.grown, ElementsAre(3));
}

TEST(DslTest, TaylorDropsTheSmallestProductOfWeightAndGradient) {
  v1::JobSpec spec = DslJob();
  SetWord(spec, "death", "taylor");
  SmallRound round = B4(spec);
  round.trained.sections[v1::SECTION_KIND_GRADIENTS][0] = .0001f;  // of the weight .9
  round.trained.sections[v1::SECTION_KIND_GRADIENTS][1] = .5f;     // of .1
  const auto change = round.Committed().structure_change->tensors[0];
  EXPECT_THAT(change.diff.dropped, ElementsAre(0, 3));
}

TEST(DslTest, SetDropsByShareOfEachSign) {
  v1::JobSpec spec = DslJob();
  SetWord(spec, "death", "set");
  SmallRound round = B4(spec);
  // ⌊½ · 3⌋ of .9, .1, .05 and ⌊½ · 1⌋ of −.5; at round 1 of 10,000 rho is just below ½.
  const auto change = round.Committed().structure_change->tensors[0];
  EXPECT_THAT(change.diff.dropped, ElementsAre(3));
  EXPECT_THAT(change.diff.grown, ElementsAre(3));
}

TEST(DslTest, RandomGrowthNeedsNothingFromWorkersAndTravelsAsAKey) {
  v1::JobSpec spec = DslJob();
  SetWord(spec, "growth", "random");
  SmallRound round = B4(spec);
  const v1::TrainTask train = round.program->Start().value().state.step->task.train();
  EXPECT_TRUE(train.additions().empty());
  round.trained.sections.erase(v1::SECTION_KIND_GRADIENTS);
  round.trained.scores.clear();
  const auto change = round.Committed().structure_change->tensors[0];
  EXPECT_TRUE(change.growth_key);
  EXPECT_EQ(change.diff.grown.size(), 2u);
}

TEST(DslTest, MissingCandidatesFail) {
  SmallRound round = B4();
  round.trained.scores.clear();
  EXPECT_EQ(base::ReasonOf(round.program->Next(round.state, round.trained).status()),
            "GROWTH_SCORES_MISSING");
}

TEST(DslTest, EveryTensorHasTheSameDensity) {
  const auto trace = Trace(DslJob());
  const tensor::ModelTopology& topology = *trace.transitions[0].state.model.topology;
  EXPECT_EQ(topology.stored(0), 180);  // .3 · 600
  EXPECT_EQ(topology.stored(2), 6);    // .3 · 20
}

TEST(DslTest, ReplacedShareFollowsTheCosineToItsFloorInUpdateRounds) {
  v1::JobSpec spec = DslJob();
  SetInt(spec, "update_every", 5);
  const auto trace = Trace(spec);
  for (const v1::RoundSummary& round : trace.rounds) {
    const bool update = round.round() % 5 == 0 && round.round() < 20;
    EXPECT_EQ(round.weights_changed() > 0, update) << round.round();
  }
  // rho at 5, 10 and 15 of 20: .005 + .495 · (1 + cos(π t / T)) / 2 = .42751, .2525 and .07749; of
  // 180, 6 and 3 weights the ceiling.
  EXPECT_EQ(trace.rounds[4].weights_changed(), 77 + 3 + 2);
  EXPECT_EQ(trace.rounds[9].weights_changed(), 46 + 2 + 1);
  EXPECT_EQ(trace.rounds[14].weights_changed(), 14 + 1 + 1);
  EXPECT_GT(trace.rounds[19].explored(), trace.rounds[3].explored());
}

TEST(DslTest, RowsOfPrivateUsersFollowTheSameRuleOneRoundLater) {
  v1::JobSpec spec = DslJob();
  spec.clear_model();
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(5);
  model.set_items(20);
  model.set_private_users(true);
  model.mutable_lightgcn()->set_dimensions(4);
  SetInt(spec, "update_every", 2);
  SetInt(spec, "growth_batches", 3);
  SetWord(spec, "death", "taylor");
  for (const Transition& transition : Trace(spec).transitions) {
    if (!transition.state.step || !transition.state.step->task.has_train()) continue;
    const v1::PrivateUpdate& update =
        wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kPrivateUpdate)
            .private_update();
    const int32_t before = transition.state.step->round - 1;
    EXPECT_EQ(update.fraction() > 0, before > 0 && before % 2 == 0) << before;
    EXPECT_DOUBLE_EQ(update.density(), 0.3);
    if (before > 0) {
      EXPECT_EQ(update.drop(), v1::PrivateUpdate::DROP_TAYLOR);
      EXPECT_EQ(update.batches(), 3) << "also where the shared tensors do not change";
    }
  }
}

TEST(DslTest, FloorAboveTheBeginningIsRefused) {
  v1::JobSpec spec = DslJob();
  SetDouble(spec, "rho_min", 0.6);
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "method.parameters.rho_min");
  EXPECT_THAT(violations[0].description, HasSubstr("at most rho"));
}

}  // namespace
}  // namespace espalier::server::methods
