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

v1::JobSpec RigLJob() {
  v1::JobSpec spec = SmallJob("rigl");
  SetDouble(spec, "density", 0.3);
  return spec;
}

// A round of the 2×4 layer of a vector computed by hand, whose training gave the values and
// gradients there.
struct SmallRound {
  std::unique_ptr<Program> program;
  ProgramState state;
  reduce::Reduced trained;
};

SmallRound B4() {
  v1::JobSpec spec = RigLJob();
  spec.clear_model();
  spec.mutable_model()->set_input_features(4);
  AddLayer(spec, 2, v1::ACTIVATION_LINEAR);
  spec.mutable_federation()->set_rounds(10000);
  SetDouble(spec, "alpha", 0.51);  // k = floor(0.51 · 4) = 2 in the first round
  SmallRound round;
  round.program = MethodRegistry::Builtin().Make(spec).value();
  round.state = round.program->Start().value().state;
  round.state.model.topology = OneLayer(round.state.model.topology->shared_layout(), {0, 2, 5, 7});
  round.state.model.values.assign(6, 0.0f);
  round.trained.examples = 1;
  test::ValuesOf(round.trained) = {.9f, .1f, -.5f, .05f, 0, 0};
  round.trained.scores = {{{1, 3, 4, 6}, {.7f, -.9f, .3f, -.6f}}, {}};
  return round;
}

TEST(RigLTest, DropsTheSmallestAndGrowsWhereTheGradientIsLargest) {
  SmallRound round = B4();
  Transition evaluate = round.program->Next(round.state, round.trained).value();
  reduce::Reduced evaluated;
  evaluated.examples = 1;
  const Transition committed = round.program->Next(evaluate.state, evaluated).value();
  ASSERT_TRUE(committed.structure_change);
  ASSERT_EQ(committed.structure_change->tensors.size(), 1u);
  const auto& change = committed.structure_change->tensors[0];
  EXPECT_THAT(change.diff.dropped, ElementsAre(1, 3));
  EXPECT_THAT(change.diff.grown, ElementsAre(1, 3));
  EXPECT_FALSE(change.growth_key);
  EXPECT_THAT(committed.state.model.topology->topology(0).Positions(), ElementsAre(0, 1, 3, 5));
  EXPECT_THAT(committed.state.model.tensor(0), ElementsAre(.9f, 0.0f, 0.0f, -.5f));
}

// As B4, where the weight at 2 (0.1) is dropped and has the second largest gradient of all that may
// grow: it stays, with its value, and one position grows for the other.
TEST(RigLTest, WithRegrowADroppedWeightOfLargeGradientStays) {
  v1::JobSpec spec = RigLJob();
  spec.clear_model();
  spec.mutable_model()->set_input_features(4);
  AddLayer(spec, 2, v1::ACTIVATION_LINEAR);
  spec.mutable_federation()->set_rounds(10000);
  SetDouble(spec, "alpha", 0.51);
  (*spec.mutable_method()->mutable_parameters())["regrow"].set_bool_value(true);
  SmallRound round = B4();
  round.program = MethodRegistry::Builtin().Make(spec).value();
  EXPECT_TRUE(
      round.program->Start().value().state.step->task.train().additions(0).growth().active());
  // The gradients at the trained weights.
  round.trained.sections[v1::SECTION_KIND_GRADIENTS] = {5, -.8f, 5, .02f, 5, 5};
  Transition evaluate = round.program->Next(round.state, round.trained).value();
  reduce::Reduced evaluated;
  evaluated.examples = 1;
  const Transition committed = round.program->Next(evaluate.state, evaluated).value();
  const auto& change = committed.structure_change->tensors.at(0);
  EXPECT_THAT(change.diff.dropped, ElementsAre(3));
  EXPECT_THAT(change.diff.grown, ElementsAre(3));
  EXPECT_THAT(committed.state.model.topology->topology(0).Positions(), ElementsAre(0, 2, 3, 5));
  EXPECT_THAT(committed.state.model.tensor(0), ElementsAre(.9f, .1f, 0.0f, -.5f));
}

TEST(RigLTest, RegrowIsRefusedWithExactLists) {
  v1::JobSpec spec = RigLJob();
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters["regrow"].set_bool_value(true);
  parameters["top_k"].set_string_value("exact");
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "method.parameters.regrow");
}

// α/2 · (1 + cos(π r/T)) with T = 0.75 · 20 = 15: in round 5 0.15 · 1.5 = 0.225 of each layer,
// where a cosine over all 20 rounds would give 0.256.
TEST(RigLTest, TheCosineEndsWhereUpdatesEnd) {
  v1::JobSpec spec = RigLJob();
  spec.mutable_federation()->set_rounds(20);
  const auto trace = Trace(spec);
  for (const Transition& transition : trace.transitions) {
    if (!transition.committed || transition.committed->round() != 5) continue;
    ASSERT_TRUE(transition.structure_change);
    for (const auto& change : transition.structure_change->tensors) {
      const double stored = transition.structure_change->base->stored(change.tensor);
      EXPECT_EQ(change.diff.dropped.size(), static_cast<size_t>(0.225 * stored + 1e-9));
    }
    return;
  }
  FAIL() << "expected a change after round 5";
}

TEST(RigLTest, TrainingWithoutCandidatesFails) {
  SmallRound round = B4();
  round.trained.scores.clear();
  const auto next = round.program->Next(round.state, round.trained);
  EXPECT_EQ(base::ReasonOf(next.status()), "GROWTH_SCORES_MISSING");
}

TEST(RigLTest, FewerCandidatesThanAskedForReplaceFewerWeights) {
  SmallRound round = B4();
  round.trained.scores = {{{3}, {-.9f}}, {}};
  Transition evaluate = round.program->Next(round.state, round.trained).value();
  reduce::Reduced evaluated;
  evaluated.examples = 1;
  const Transition committed = round.program->Next(evaluate.state, evaluated).value();
  EXPECT_THAT(committed.structure_change->tensors[0].diff.dropped, ElementsAre(3));
  EXPECT_THAT(committed.structure_change->tensors[0].diff.grown, ElementsAre(3));
}

TEST(RigLTest, CandidatesAreAskedForOnlyInUpdateRounds) {
  v1::JobSpec spec = RigLJob();
  SetInt(spec, "update_every", 4);
  SetInt(spec, "growth_batches", 5);
  for (const Transition& transition : Trace(spec).transitions) {
    if (!transition.state.step || !transition.state.step->task.has_train()) continue;
    const v1::TrainTask& train = transition.state.step->task.train();
    const bool update = transition.state.step->round % 4 == 0 && transition.state.step->round < 15;
    const v1::GrowthReport& report = wire::AdditionOf(train, v1::TrainAddition::kGrowth).growth();
    EXPECT_EQ(report.counts_size(), update ? 6 : 0) << transition.state.step->round;
    EXPECT_EQ(report.batches(), update ? 5 : 0);
  }
}

TEST(RigLTest, UpdatesShrinkWithTheCosineAndStopAtTheEndFraction) {
  const auto trace = Trace(RigLJob());
  for (size_t i = 1; i < trace.rounds.size(); ++i) {
    EXPECT_LE(trace.rounds[i].weights_changed(), trace.rounds[i - 1].weights_changed());
    if (i + 1 >= 15) {
      EXPECT_EQ(trace.rounds[i].weights_changed(), 0);
    }
  }
  EXPECT_GT(trace.rounds[0].weights_changed(), 0);
}

TEST(RigLTest, CandidatesNeverExceedTheInactivePositions) {
  v1::JobSpec spec = RigLJob();
  SetDouble(spec, "density", 0.9);
  SetDouble(spec, "candidate_slack", 100);
  for (const Transition& transition : Trace(spec).transitions) {
    if (!transition.state.step || !transition.state.step->task.has_train()) continue;
    const tensor::ModelTopology& topology = *transition.state.model.topology;
    const auto& candidates =
        wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kGrowth)
            .growth()
            .counts();
    for (int i = 0; i < candidates.size(); ++i) {
      EXPECT_LE(candidates[i], topology.layout()[i].size() - topology.stored(i));
    }
  }
}

TEST(RigLTest, GrownWeightsStartAtZero) {
  for (const Transition& transition : Trace(RigLJob()).transitions) {
    if (!transition.structure_change) continue;
    for (const auto& change : transition.structure_change->tensors) {
      const tensor::Topology& topology = transition.state.model.topology->topology(change.tensor);
      const auto sources = tensor::SourceIndices(
          transition.structure_change->base->topology(change.tensor), topology);
      for (size_t i = 0; i < sources.size(); ++i) {
        if (sources[i] < 0) {
          EXPECT_EQ(transition.state.model.tensor(change.tensor)[i], 0.0f);
        }
      }
    }
  }
}

}  // namespace
}  // namespace espalier::server::methods
