#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/wire/model_spec/model_spec.h"
#include "server/methods/saliency/pruned_at_start.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// 2 × 2 and 1 × 2 weights with biases.
tensor::ModelLayout TinyLayout() {
  return {{"w0", {2, 2}, 2, 2, true},
          {"b0", {2}, 2, 1, false},
          {"w1", {1, 2}, 1, 2, true},
          {"b1", {1}, 1, 1, false}};
}

std::vector<std::vector<int64_t>> Kept(const std::vector<float>& scores, int64_t count) {
  std::vector<std::vector<int64_t>> kept;
  const auto topologies = KeepLargest(TinyLayout(), scores, count).value();
  for (const size_t i : {0, 2}) {
    kept.push_back(topologies[i] ? topologies[i]->Positions() : std::vector<int64_t>{-1});
  }
  EXPECT_EQ(topologies[1], nullptr);
  EXPECT_EQ(topologies[3], nullptr);
  return kept;
}

TEST(KeepLargestTest, SelectsOverAllTensorsByMagnitudeThenLowerPosition) {
  const std::vector<float> scores = {0.1F, -0.9F, 0.5F, 0.5F, -0.5F, 0.05F};
  EXPECT_THAT(Kept(scores, 2), ElementsAre(ElementsAre(1, 2), ElementsAre()));
  EXPECT_THAT(Kept(scores, 3), ElementsAre(ElementsAre(1, 2, 3), ElementsAre()));
  EXPECT_THAT(Kept(scores, 4), ElementsAre(ElementsAre(1, 2, 3), ElementsAre(0)));
  EXPECT_THAT(Kept(scores, 5), ElementsAre(ElementsAre(-1), ElementsAre(0)))
      << "a tensor that keeps all is dense";
}

TEST(SnipTest, AsksAllParticipantsForTheirGradientsAtTheDenseModel) {
  v1::JobSpec spec = SmallJob("snip");
  SetInt(spec, "batches", 3);
  const Transition start = Make(spec)->Start().value();
  ASSERT_TRUE(start.state.step && start.state.step->task.has_score());
  EXPECT_EQ(start.state.step->participants, Participants::kAll);
  EXPECT_EQ(start.state.step->task.score().criterion(), v1::ScoreTask::CRITERION_SNIP);
  EXPECT_EQ(start.state.step->task.score().batches(), 3);
  EXPECT_EQ(start.state.step->task.score().batch_size(), 32);
  EXPECT_EQ(start.state.model.topology->sparsifiable_stored(), 630);
  SetWord(spec, "scored_by", "one");
  EXPECT_EQ(Make(spec)->Start().value().state.step->participants, Participants::kAnyOne);
}

TEST(SnipTest, TheDenseModelIsDrawnWithGlorotsVariance) {
  v1::JobSpec spec = SmallJob("snip");
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_initializer(
      v1::INITIALIZER_NORMAL);
  const Transition start = Make(spec)->Start().value();
  double sum = 0;
  for (const float value : start.state.model.tensor(0)) sum += value * value;
  EXPECT_NEAR(sum / 600, 2.0 / (30 + 20), 0.006);
}

TEST(SnipTest, KeepsTheValuesThatWereScoredAndTheirStructure) {
  v1::JobSpec spec = SmallJob("snip");
  SetDouble(spec, "density", 0.1);
  const auto program = Make(spec);
  const Transition start = program->Start().value();
  reduce::Reduced scores;
  scores.examples = 1;
  scores.sections[v1::SECTION_KIND_SALIENCIES].resize(630);
  for (int i = 0; i < 630; ++i)
    scores.sections[v1::SECTION_KIND_SALIENCIES][i] =
        static_cast<float>(i % 10 == 7 ? -2 : i % 10) / 9;
  const Transition next = program->Next(start.state, scores).value();
  ASSERT_TRUE(next.state.step && next.state.step->task.has_train());
  EXPECT_TRUE(start.state.step->prelude && !next.state.step->prelude);
  ASSERT_TRUE(next.prelude_step);
  EXPECT_EQ(next.prelude_step->phase(), "select_score");
  const tensor::ModelState& model = next.state.model;
  EXPECT_EQ(model.topology->sparsifiable_stored(), 63);
  EXPECT_EQ(model.topology->topology(0).Positions()[0], 9);
  EXPECT_EQ(model.tensor(0)[1], start.state.model.tensor(0)[19]);
  const auto trace = test::RunJob(*program, test::FakeFleet(3)).value();
  for (const v1::RoundSummary& round : trace.rounds) {
    EXPECT_EQ(round.active_weights(), 63);
    EXPECT_EQ(round.weights_changed(), 0);
  }
}

TEST(SnipTest, FreshWeightsAreDrawnForTheSparseStructure) {
  v1::JobSpec spec = SmallJob("snip");
  SetWord(spec, "initial_weights", "fresh");
  const auto program = Make(spec);
  Transition transition = program->Start().value();
  const auto dense = transition.state.model;
  transition =
      program->Next(transition.state, test::FakeFleet(3).Run(*transition.state.step, dense).value())
          .value();
  double before = 0;
  double after = 0;
  for (const float value : dense.tensor(0)) before += value * value / 600;
  const auto kept = transition.state.model.tensor(0);
  for (const float value : kept) after += value * value / static_cast<double>(kept.size());
  EXPECT_GT(after, 3 * before);
}

TEST(SynFlowTest, OneWorkerPrunesByItself) {
  v1::JobSpec spec = SmallJob("synflow");
  SetDouble(spec, "density", 0.05);
  const Transition start = Make(spec)->Start().value();
  ASSERT_TRUE(start.state.step && start.state.step->task.has_score());
  EXPECT_EQ(start.state.step->participants, Participants::kAnyOne);
  EXPECT_EQ(start.state.step->task.score().criterion(), v1::ScoreTask::CRITERION_SYNFLOW);
  EXPECT_EQ(start.state.step->task.score().density(), 0.05);
  EXPECT_EQ(start.state.step->task.score().iterations(), 100);
}

TEST(SaliencyTest, DensityOneNeedsNoScores) {
  for (const char* method : {"snip", "synflow"}) {
    v1::JobSpec spec = SmallJob(method);
    SetDouble(spec, "density", 1);
    EXPECT_TRUE(Make(spec)->Start().value().state.step->task.has_train()) << method;
  }
}

TEST(SaliencyTest, WhatCannotBeIsRefused) {
  for (const char* method : {"snip", "synflow"}) {
    v1::JobSpec spec = SmallJob(method);
    SetDouble(spec, "density", 0.0005);
    ASSERT_EQ(Violations(spec).size(), 1u);
    EXPECT_EQ(Violations(spec)[0].field, "method.parameters.density");
    EXPECT_THAT(Violations(spec)[0].description, HasSubstr("of 630"));

    v1::JobSpec large = SmallJob(method);
    large.mutable_model()->set_input_features(60000);
    large.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(20000);
    ASSERT_EQ(Violations(large).size(), 1u);
    EXPECT_THAT(Violations(large)[0].description, HasSubstr("expected at most 4294967296"));

    v1::JobSpec dense = SmallJob(method);
    for (v1::Layer& layer : *dense.mutable_model()->mutable_layers()) {
      layer.mutable_linear()->set_dense(true);
    }
    ASSERT_EQ(Violations(dense).size(), 1u);
    EXPECT_THAT(Violations(dense)[0].description, HasSubstr("use method dense"));
  }
}

}  // namespace
}  // namespace espalier::server::methods
