#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "common/base/status.h"
#include "common/sparsity/selection.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/methods/gradual/adjustment.h"
#include "server/methods/gradual/weight_costs.h"
#include "tests/support/fake_fleet.h"
#include "tests/support/result_layouts.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

CandidateLayer Layer(double cost, const std::vector<float>& importance) {
  CandidateLayer layer{.cost = cost, .keys = {}};
  for (uint32_t i = 0; i < importance.size(); ++i) {
    layer.keys.push_back(sparsity::LargestFirst(importance[i], i));
  }
  return layer;
}

// A vector computed by hand.
TEST(ChooseGreedilyTest, AgreesWithTheGoldenVector) {
  std::vector<CandidateLayer> layers = {Layer(1, {9, 0.5F}), Layer(2, {4}), Layer(0.1, {1}),
                                        Layer(3, {3})};
  const GreedyChoice one = ChooseGreedily(layers, 5, 15, 1);
  EXPECT_NEAR(one.gain / one.cost, 0.397351, 5e-7);
  EXPECT_THAT(one.positions[2], ElementsAre(0)) << "(1, .1) comes first";
  const GreedyChoice two = ChooseGreedily(layers, 5, 15, 2);
  EXPECT_NEAR(two.gain / two.cost, 0.931677, 5e-7);
  const GreedyChoice all = ChooseGreedily(layers, 5, 15, 100);
  EXPECT_NEAR(all.gain / all.cost, 1.049724, 5e-7);
  EXPECT_THAT(all.positions,
              ElementsAre(ElementsAre(0), ElementsAre(0), ElementsAre(0), ElementsAre()));
}

TEST(ChooseGreedilyTest, EqualRatiosGoToTheEarlierLayerAndLowerPosition) {
  const std::vector<CandidateLayer> layers = {Layer(1, {2, 4, 4, 4}), Layer(2, {8, 8})};
  EXPECT_THAT(ChooseGreedily(layers, 0, 10, 2).positions,
              ElementsAre(ElementsAre(1, 2), ElementsAre()));
  EXPECT_THAT(ChooseGreedily(layers, 0, 10, 4).positions,
              ElementsAre(ElementsAre(1, 2, 3), ElementsAre(0)));
}

TEST(ChooseGreedilyTest, NothingIsWorthNothing) {
  EXPECT_THAT(ChooseGreedily({Layer(1, {0, 0})}, 0, 0, 5).positions, ElementsAre(ElementsAre()));
}

// A 2 × 5 weight with active positions 0, 2, 5, 9 of magnitudes 4, 1, 3, 2, and a bias.
tensor::ModelState SmallModel() {
  auto layout = std::make_shared<const tensor::ModelLayout>(
      tensor::ModelLayout{{"w", {2, 5}, 2, 5, true}, {"b", {2}, 2, 1, false}});
  return {OneLayer(layout, {0, 2, 5, 9}), {4, -1, 3, 2, 0, 0}};
}

TEST(PlanAdjustmentTest, KeepsChoosesAndGrowsByImportance) {
  const AdjustmentOptions options = {
      .drop_fraction = 0.5, .base_cost = 0, .weight_costs = {1, 0}, .max_active = 10};
  // Kept: 0 and 5 (importance 1 and 1) and the biases (1): 3 / 2. Then 3 (9 → 4), 9 (8 → 5) and
  // 7 (5.5 → 5.1); 2 (.1) and the others are not worth it.
  const std::vector<float> importance = {1, 0, 0.1F, 9, 0, 1, 0, 5.5F, 0, 8, 0.5F, 0.5F};
  const Evolution evolution = PlanAdjustment(SmallModel(), importance, options).value();
  ASSERT_EQ(evolution.size(), 1u);
  EXPECT_THAT(evolution[0].diff.dropped, ElementsAre(1)) << "9 was a candidate and stays";
  EXPECT_THAT(evolution[0].diff.grown, ElementsAre(3, 7));
}

TEST(PlanAdjustmentTest, NothingIsAddedBeyondTheLimit) {
  const AdjustmentOptions options = {
      .drop_fraction = 0.5, .base_cost = 0, .weight_costs = {1, 0}, .max_active = 3};
  const std::vector<float> importance = {1, 0, 0.1F, 9, 0, 1, 0, 5.5F, 0, 8, 0.5F, 0.5F};
  const Evolution evolution = PlanAdjustment(SmallModel(), importance, options).value();
  EXPECT_THAT(evolution[0].diff.dropped, ElementsAre(1, 3));
  EXPECT_THAT(evolution[0].diff.grown, ElementsAre(3));
}

TEST(PlanAdjustmentTest, ImportanceOfAnotherSizeIsRefused) {
  const AdjustmentOptions options = {.weight_costs = {1, 0}, .max_active = 3};
  EXPECT_EQ(base::ReasonOf(PlanAdjustment(SmallModel(), std::vector<float>(11), options).status()),
            "SHAPE_MISMATCH");
}

TEST(WeightCostsTest, CountOutputPositionsOfConvolutions) {
  v1::ModelSpec model;
  model.mutable_input_image()->set_channels(1);
  model.mutable_input_image()->set_height(8);
  model.mutable_input_image()->set_width(8);
  v1::Conv2dLayer& conv = *model.add_layers()->mutable_conv2d();
  conv.set_channels(4);
  v1::ResidualLayer& residual = *model.add_layers()->mutable_residual();
  v1::Conv2dLayer& body = *residual.add_body()->mutable_conv2d();
  body.set_channels(4);
  body.set_stride(2);
  body.set_no_bias(true);
  v1::Conv2dLayer& shortcut = *residual.add_shortcut()->mutable_conv2d();
  shortcut = body;
  model.add_layers()->mutable_linear()->set_units(10);
  EXPECT_THAT(WeightCosts(model, 1, 0.5).value(),
              ElementsAre(1 + 32.0, 0, 1 + 8.0, 1 + 8.0, 1.5, 0));
}

TEST(CostFitTest, FindsTheLineThroughRoundsOfTwoDensities) {
  CostFit fit;
  EXPECT_FALSE(fit.BaseCost());
  fit.Add(100, 3.0);
  fit.Add(100, 3.2);
  EXPECT_FALSE(fit.BaseCost()) << "one density says nothing about the slope";
  fit.Add(50, 2.1);
  // Slope (3.1 − 2.1) / 50, so that 100 weights take 2 of 3.1 seconds: the rest is worth 55.
  EXPECT_NEAR(*fit.BaseCost(), 55, 1e-9);
}

TEST(CostFitTest, NeitherFasterWithMoreWeightsNorBelowNothing) {
  CostFit faster;
  faster.Add(10, 2);
  faster.Add(20, 1);
  EXPECT_FALSE(faster.BaseCost());
  CostFit steep;
  steep.Add(10, 1);
  steep.Add(20, 9);
  EXPECT_EQ(steep.BaseCost(), 0);
}

// Random start; adjustments after rounds 4, 8, 12, 16.
v1::JobSpec Job() {
  v1::JobSpec spec = SmallJob("prunefl");
  SetDouble(spec, "density", 0.2);
  SetInt(spec, "update_every", 4);
  return spec;
}

std::vector<int32_t> RoundsWithImportance(const v1::JobSpec& spec) {
  std::vector<int32_t> rounds;
  const test::JobTrace trace = test::RunJob(*Make(spec), test::FakeFleet(2)).value();
  for (const Transition& t : trace.transitions) {
    if (t.state.step &&
        wire::HasAddition(t.state.step->task.train(), v1::TrainAddition::kImportance))
      rounds.push_back(t.state.step->round);
  }
  return rounds;
}

TEST(PruneFlTest, ImportanceTravelsInTheRoundsThatCount) {
  v1::JobSpec spec = Job();
  spec.mutable_federation()->set_rounds(9);
  EXPECT_THAT(RoundsWithImportance(spec), ElementsAre(4, 8));
  SetInt(spec, "importance_rounds", 3);
  EXPECT_THAT(RoundsWithImportance(spec), ElementsAre(2, 3, 4, 6, 7, 8));
}

// The result of a round in which all weights stay and every position has `importance`.
reduce::Reduced Trained(const Transition& transition, float importance) {
  reduce::Reduced reduced;
  reduced.examples = 1;
  test::ValuesOf(reduced) = transition.state.model.values;
  if (wire::HasAddition(transition.state.step->task.train(), v1::TrainAddition::kImportance)) {
    const auto positions = static_cast<size_t>(transition.state.model.topology->total_size());
    for (size_t i = 0; i < positions; ++i) {
      reduced.sections[v1::SECTION_KIND_IMPORTANCE].push_back(importance *
                                                              static_cast<float>(i % 7));
    }
  }
  return reduced;
}

TEST(PruneFlTest, ImportanceOfSeveralRoundsIsAddedUp) {
  v1::JobSpec spec = Job();
  spec.mutable_evaluation()->set_every_rounds(100);
  SetInt(spec, "importance_rounds", 4);
  const auto program = Make(spec);
  const auto hash_after = [&](const std::vector<float>& factors) {
    Transition transition = program->Start().value();
    for (const float factor : factors) {
      transition = program->Next(transition.state, Trained(transition, factor)).value();
    }
    EXPECT_EQ(transition.state.topology_version, 2u);
    return transition.state.model.topology->hash();
  };
  EXPECT_EQ(hash_after({1, 2, 3, 4}), hash_after({0, 0, 0, 10}));
}

// The structure after two adjustments, when a round takes `base` + 1 second for each active weight.
std::string AfterTwoAdjustments(v1::JobSpec spec, double base) {
  spec.mutable_evaluation()->set_every_rounds(100);
  spec.mutable_federation()->set_rounds(20);
  const auto program = Make(spec);
  Transition transition = program->Start().value();
  for (int round = 1; round <= 8; ++round) {
    reduce::Reduced reduced = Trained(transition, 1);
    reduced.participants = 2;
    reduced.compute_seconds =
        2 * (base + static_cast<double>(transition.state.model.topology->sparsifiable_stored()));
    transition = program->Next(transition.state, std::move(reduced)).value();
  }
  return transition.state.model.topology->hash();
}

TEST(PruneFlTest, MeasuredTimesTakeThePlaceOfTheBaseCost) {
  v1::JobSpec spec = Job();
  SetDouble(spec, "base_cost", 0.5);
  const std::string fixed = AfterTwoAdjustments(spec, 7);
  EXPECT_EQ(AfterTwoAdjustments(spec, 10000), fixed) << "times do not matter";
  SetWord(spec, "costs", "measured");
  EXPECT_EQ(AfterTwoAdjustments(spec, 0.5 * 630), fixed) << "630 weights at cost 1";
  EXPECT_NE(AfterTwoAdjustments(spec, 10000), fixed);
  EXPECT_NE(AfterTwoAdjustments(spec, 0), fixed);
}

TEST(PruneFlTest, DensityIsAnOutcomeWithinItsLimit) {
  v1::JobSpec spec = Job();
  SetDouble(spec, "max_density", 0.25);
  const auto trace = test::RunJob(*Make(spec), test::FakeFleet(3)).value();
  std::set<int64_t> sizes;
  for (const v1::RoundSummary& round : trace.rounds) {
    sizes.insert(round.active_weights());
    EXPECT_LE(round.active_weights(), 158);  // a quarter of 630
  }
  EXPECT_GT(sizes.size(), 1u);
  EXPECT_GT(trace.rounds[3].weights_changed(), 0);
}

TEST(PruneFlTest, FirstStageTrainsAndPrunesADenseModelAtOneParticipant) {
  v1::JobSpec spec = SmallJob("prunefl");
  SetInt(spec, "initial_adjustments", 3);
  SetInt(spec, "initial_updates", 40);
  SetDouble(spec, "max_density", 0.1);
  const auto program = Make(spec);
  Transition transition = program->Start().value();
  EXPECT_EQ(transition.state.model.topology->sparsifiable_stored(), 630);
  const int64_t expected[] = {630, 441, 309};  // each of 600, 20, 10 loses ⌊.3 of it⌋
  for (int period = 0; period < 3; ++period) {
    ASSERT_TRUE(transition.state.step && transition.state.step->task.has_train());
    const v1::TrainTask& train = transition.state.step->task.train();
    EXPECT_EQ(transition.state.step->participants, Participants::kAnyOne);
    ASSERT_TRUE(wire::HasAddition(train, v1::TrainAddition::kImportance));
    EXPECT_EQ(wire::AdditionOf(train, v1::TrainAddition::kImportance).importance().every(), 5);
    EXPECT_EQ(wire::AdditionOf(train, v1::TrainAddition::kExampleLimit).example_limit().examples(),
              200);
    EXPECT_EQ(train.training().local_steps(), 40);
    EXPECT_EQ(train.first_step(), 40 * period);
    EXPECT_EQ(transition.state.model.topology->sparsifiable_stored(), expected[period]);
    reduce::Reduced reduced = Trained(transition, 1);
    reduced.correct = 1;
    transition = program->Next(transition.state, std::move(reduced)).value();
    ASSERT_TRUE(transition.structure_change);
    ASSERT_TRUE(transition.prelude_step);
    EXPECT_EQ(transition.prelude_step->candidate(), period + 1);
    EXPECT_EQ(transition.prelude_step->candidates(), 3);
  }
  EXPECT_EQ(transition.state.phase, "train");
  EXPECT_EQ(transition.state.step->participants, Participants::kCohort);
  EXPECT_LT(transition.state.model.topology->sparsifiable_stored(), 240);
}

TEST(PruneFlTest, FirstStageWaitsForAnAccuracyBetterThanChance) {
  const auto program = Make(SmallJob("prunefl"));
  Transition transition = program->Start().value();
  reduce::Reduced reduced = Trained(transition, 1);
  reduced.examples = 100;
  reduced.correct = 14;  // of ten classes 15 are wanted
  transition = program->Next(transition.state, reduced).value();
  EXPECT_FALSE(transition.structure_change);
  EXPECT_EQ(transition.state.model.topology->sparsifiable_stored(), 630);
  reduced.correct = 15;
  transition = program->Next(transition.state, reduced).value();
  EXPECT_TRUE(transition.structure_change);
}

TEST(PruneFlTest, FirstStageEndsWhenTheSizeIsStable) {
  v1::JobSpec spec = SmallJob("prunefl");
  SetDouble(spec, "drop_fraction", 0.05);  // too little to count as a change
  const auto program = Make(spec);
  Transition transition = program->Start().value();
  int periods = 0;
  while (transition.state.phase != "train") {
    reduce::Reduced reduced = Trained(transition, 1);
    reduced.correct = 1;
    transition = program->Next(transition.state, std::move(reduced)).value();
    ++periods;
  }
  EXPECT_EQ(periods, 5);
}

TEST(PruneFlTest, FirstStageContinuesFromSavedBytesOnly) {
  const auto program = Make(SmallJob("prunefl"));
  Transition transition = program->Start().value();
  reduce::Reduced reduced = Trained(transition, 1);
  transition.state.memory = "x";
  EXPECT_EQ(base::ReasonOf(program->Next(transition.state, reduced).status()), "STATE_CORRUPT");
}

TEST(PruneFlTest, ParametersThatDoNotFitAreRefused) {
  const auto field = [](const v1::JobSpec& spec) {
    const auto violations = Violations(spec);
    return violations.size() == 1 ? violations[0].field : std::to_string(violations.size());
  };
  v1::JobSpec spec = Job();
  EXPECT_EQ(field(spec), "0");
  SetDouble(spec, "max_density", 0.1);
  EXPECT_EQ(field(spec), "method.parameters.max_density");
  spec = Job();
  SetInt(spec, "importance_rounds", 5);
  EXPECT_EQ(field(spec), "method.parameters.importance_rounds");
  spec = Job();
  SetWord(spec, "costs", "measured");
  EXPECT_EQ(field(spec), "0");
  SetInt(spec, "importance_rounds", 4);
  EXPECT_EQ(field(spec), "method.parameters.costs");
  spec = Job();
  SetInt(spec, "update_every", 20);
  EXPECT_EQ(field(spec), "method.parameters.update_every");
  spec = Job();
  SetWord(spec, "initial", "adaptive");
  EXPECT_EQ(field(spec), "method.parameters.density");
  spec = Job();
  SetInt(spec, "initial_updates", 10);
  EXPECT_EQ(field(spec), "method.parameters.initial_updates");
  spec = SmallJob("prunefl");
  spec.mutable_model()->set_input_features(30000);
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(20000);
  EXPECT_EQ(field(spec), "model.layers");
  EXPECT_THAT(Violations(spec)[0].description, HasSubstr("bytes in one update"));
}

}  // namespace
}  // namespace espalier::server::methods
