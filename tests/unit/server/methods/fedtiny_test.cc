#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/methods/fedtiny/candidate_pool.h"
#include "server/methods/gradient_growth.h"
#include "tests/support/fake_fleet.h"
#include "tests/support/result_layouts.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;

v1::JobSpec FedTinyJob() {
  v1::JobSpec spec = ConvJob("fedtiny");
  SetDouble(spec, "density", 0.2);
  SetInt(spec, "pool_size", 3);
  SetInt(spec, "update_every", 2);
  SetInt(spec, "stop_round", 16);
  return spec;
}

// Statistics that are the candidate's number + 1, so that it can be told whose were kept.
reduce::Reduced Statistics(float value) {
  reduce::Reduced reduced;
  reduced.examples = 10;
  reduced.sections[v1::SECTION_KIND_RUNNING_STATISTICS].assign(8, value);
  return reduced;
}

reduce::Reduced Loss(double loss) {
  reduce::Reduced reduced;
  reduced.examples = 10;
  reduced.loss_sum = 10 * loss;
  return reduced;
}

TEST(FedTinyTest, TheCandidateOfLeastLossStartsWithItsOwnStatistics) {
  const v1::JobSpec spec = FedTinyJob();
  const auto program = Make(spec);
  Transition transition = program->Start().value();
  const std::vector<double> losses = {2.0, 1.0, 1.0};
  std::vector<std::string> hashes;
  std::vector<reduce::Reduced> statistics;
  std::vector<reduce::Reduced> measured;
  ASSERT_EQ(transition.state.runs.size(), losses.size());
  for (size_t c = 0; c < losses.size(); ++c) {
    const ProgramState& candidate = transition.state.runs[c];
    EXPECT_EQ(candidate.run, "candidate-" + std::to_string(c + 1));
    ASSERT_TRUE(candidate.step && candidate.step->task.has_calibrate());
    EXPECT_EQ(candidate.step->participants, Participants::kAll);
    hashes.push_back(candidate.model.topology->hash());
    statistics.push_back(Statistics(static_cast<float>(c + 1)));
    measured.push_back(Loss(losses[c]));
  }
  transition = program->NextOfRuns(transition.state, statistics).value();
  ASSERT_EQ(transition.of_runs.size(), losses.size());
  EXPECT_FALSE(transition.of_runs[0].prelude_step->has_loss());
  for (size_t c = 0; c < losses.size(); ++c) {
    const ProgramState& candidate = transition.state.runs[c];
    ASSERT_TRUE(candidate.step && candidate.step->task.has_evaluate());
    EXPECT_EQ(candidate.model.topology->hash(), hashes[c]);
    EXPECT_EQ(candidate.model.tensor(4)[0], static_cast<float>(c + 1));
  }
  transition = program->NextOfRuns(transition.state, measured).value();
  EXPECT_EQ(transition.of_runs[2].prelude_step->candidate(), 3);
  EXPECT_EQ(transition.of_runs[0].prelude_step->loss(), 2.0);
  EXPECT_TRUE(transition.state.runs.empty());
  ASSERT_TRUE(transition.state.step && transition.state.step->task.has_train());
  EXPECT_EQ(transition.state.model.topology->hash(), hashes[1]) << "the first of equal losses";
  EXPECT_THAT(transition.state.model.tensor(4), ElementsAre(2, 2, 2, 2));
  EXPECT_THAT(transition.state.model.tensor(5), ElementsAre(2, 2, 2, 2));
}

TEST(FedTinyTest, PooledVarianceCountsTheDistanceOfTheMeans) {
  v1::JobSpec spec = FedTinyJob();
  SetWord(spec, "bn_variance", "pooled");
  const auto program = Make(spec);
  const Transition start = program->Start().value();
  EXPECT_TRUE(start.state.runs[0].step->task.calibrate().second_moments());
  reduce::Reduced reduced;
  reduced.examples = 2;
  // Two participants: means 0 and 2, variances 1 and 3: mean 1, mean of var + mean² = (1 + 7) / 2.
  reduced.sections[v1::SECTION_KIND_RUNNING_STATISTICS] = {1, 1, 1, 1, 4, 4, 4, 4};
  const std::vector<reduce::Reduced> results(start.state.runs.size(), reduced);
  const Transition next = program->NextOfRuns(start.state, results).value();
  EXPECT_THAT(next.state.runs[0].model.tensor(4), ElementsAre(1, 1, 1, 1));
  EXPECT_THAT(next.state.runs[0].model.tensor(5), ElementsAre(3, 3, 3, 3));
}

// Of a large pool the coordinator has ten candidates at once, and the best one so far.
TEST(FedTinyTest, LargePoolsAreComparedInGroups) {
  v1::JobSpec spec = FedTinyJob();
  SetInt(spec, "pool_size", 23);
  SetWord(spec, "selection", "vanilla");
  const auto program = Make(spec);
  Transition transition = program->Start().value();
  std::vector<size_t> groups;
  std::string best;
  int candidate = 0;
  while (!transition.state.runs.empty()) {
    groups.push_back(transition.state.runs.size());
    std::vector<reduce::Reduced> losses;
    for (const ProgramState& run : transition.state.runs) {
      // The smallest is that of candidate 12, twice.
      losses.push_back(Loss(1 + std::abs(12 - std::max(12, ++candidate))));
      if (candidate < 12) losses.back() = Loss(5);
      if (candidate == 12) best = run.model.topology->hash();
    }
    transition = program->NextOfRuns(transition.state, losses).value();
  }
  EXPECT_THAT(groups, ElementsAre(10, 10, 3));
  EXPECT_EQ(transition.state.model.topology->hash(), best);
}

TEST(FedTinyTest, ASingleCandidateNeedsNoComparison) {
  v1::JobSpec spec = FedTinyJob();
  SetInt(spec, "pool_size", 1);
  const auto program = Make(spec);
  const Transition start = program->Start().value();
  ASSERT_EQ(start.state.runs.size(), 1u);
  ASSERT_TRUE(start.state.runs[0].step->task.has_calibrate());
  const Transition next = program->NextOfRuns(start.state, {Statistics(3)}).value();
  EXPECT_TRUE(next.state.step->task.has_train());
  EXPECT_THAT(next.state.model.tensor(4), ElementsAre(3, 3, 3, 3));
  SetWord(spec, "selection", "vanilla");
  EXPECT_TRUE(Make(spec)->Start().value().state.step->task.has_train());
}

TEST(FedTinyTest, AblationsLeaveStepsOut) {
  v1::JobSpec spec = FedTinyJob();
  SetWord(spec, "selection", "vanilla");
  EXPECT_TRUE(Make(spec)->Start().value().state.runs[0].step->task.has_evaluate());
  SetWord(spec, "selection", "first");
  EXPECT_TRUE(Make(spec)->Start().value().state.step->task.has_train());
  SetWord(spec, "progressive", "none");
  const auto trace = test::RunJob(*Make(spec), test::FakeFleet(2)).value();
  for (const v1::RoundSummary& round : trace.rounds) EXPECT_EQ(round.weights_changed(), 0);
}

TEST(FedTinyTest, CandidatesShareTheBudgetAndTheWeightsButNotTheAllocation) {
  const v1::ModelSpec model = FedTinyJob().model();
  std::set<std::vector<int64_t>> allocations;
  const auto dense = OpenDenseSource(model, 7, nullptr).value();
  const tensor::ModelState first = PoolCandidate(model, 0.1, 7, 0, *dense).value();
  for (int64_t c = 0; c < 4; ++c) {
    const tensor::ModelState candidate = PoolCandidate(model, 0.1, 7, c, *dense).value();
    EXPECT_EQ(candidate.topology->sparsifiable_stored(), first.topology->sparsifiable_stored());
    std::vector<int64_t> stored;
    for (size_t i = 0; i < candidate.topology->num_tensors(); ++i) {
      stored.push_back(candidate.topology->stored(i));
    }
    allocations.insert(stored);
  }
  EXPECT_EQ(allocations.size(), 4u);
  EXPECT_EQ(first.values, PoolCandidate(model, 0.1, 7, 0, *dense)->values);
}

TEST(FedTinyTest, CandidatesKeepTheLargestMagnitudes) {
  const v1::ModelSpec model = FedTinyJob().model();
  const auto source = OpenDenseSource(model, 7, nullptr).value();
  const tensor::ModelState dense = PoolCandidate(model, 1, 7, 0, *source).value();
  const tensor::ModelState sparse = PoolCandidate(model, 0.2, 7, 0, *source).value();
  const size_t weight = 6;  // of the first linear layer
  ASSERT_TRUE(sparse.topology->is_sparse(weight));
  float least_kept = 1e9F;
  for (const float value : sparse.tensor(weight)) {
    least_kept = std::min(least_kept, std::abs(value));
  }
  int64_t larger = 0;
  for (const float value : dense.tensor(weight)) larger += std::abs(value) >= least_kept ? 1 : 0;
  EXPECT_EQ(larger, sparse.topology->stored(weight));
}

// Tensors whose growth is asked for in the rounds of a job.
std::vector<std::vector<int>> Adjusted(const v1::JobSpec& spec) {
  const auto trace = test::RunJob(*Make(spec), test::FakeFleet(2)).value();
  std::vector<std::vector<int>> rounds;
  for (const Transition& transition : trace.transitions) {
    if (!transition.state.step || !transition.state.step->task.has_train()) continue;
    const auto& candidates =
        wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kGrowth)
            .growth()
            .counts();
    if (candidates.empty()) continue;
    rounds.emplace_back();
    for (int i = 0; i < candidates.size(); ++i) {
      if (candidates[i] > 0) rounds.back().push_back(i);
    }
  }
  return rounds;
}

TEST(FedTinyTest, LayersTakeTurnsFromTheOutputBackwards) {
  v1::JobSpec spec = FedTinyJob();
  SetDouble(spec, "density", 0.05);  // few enough that the convolution is sparse as well
  SetWord(spec, "progressive", "layer");
  // Weights: tensors 0 (convolution), 6 and 8. Adjustments after rounds 2, 4, …, 14.
  EXPECT_THAT(Adjusted(spec),
              ElementsAre(ElementsAre(8), ElementsAre(6), ElementsAre(0), ElementsAre(8),
                          ElementsAre(6), ElementsAre(0), ElementsAre(8)));
  SetWord(spec, "order", "forward");
  EXPECT_THAT(Adjusted(spec)[0], ElementsAre(0));
  SetWord(spec, "progressive", "block");
  SetInt(spec, "blocks", 2);
  EXPECT_THAT(Adjusted(spec)[0], ElementsAre(0, 6));
  SetWord(spec, "progressive", "entire");
  EXPECT_THAT(Adjusted(spec)[0], ElementsAre(0, 6, 8));
}

// 0.15 · (1 + cos(π r/16)) of each layer's weights, rounded up, with stop_round 16 of 20 rounds.
TEST(FedTinyTest, AdjustsTheShareOfTheCosineRoundedUp) {
  v1::JobSpec spec = FedTinyJob();
  SetDouble(spec, "density", 0.05);
  SetWord(spec, "progressive", "entire");
  const std::map<int, double> shares = {{2, .2885819},  {4, .2560660},  {6, .2074025}, {8, .15},
                                        {10, .0925975}, {12, .0439340}, {14, .0114181}};
  const auto trace = test::RunJob(*Make(spec), test::FakeFleet(2)).value();
  std::set<int> rounds;
  for (const Transition& transition : trace.transitions) {
    if (!transition.state.step || !transition.state.step->task.has_train()) continue;
    const auto& candidates =
        wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kGrowth)
            .growth()
            .counts();
    if (candidates.empty()) continue;
    rounds.insert(transition.state.step->round);
    for (const int i : {0, 6, 8}) {
      const double stored = static_cast<double>(transition.state.model.topology->stored(i));
      EXPECT_EQ(candidates[i], std::ceil(shares.at(transition.state.step->round) * stored)) << i;
    }
  }
  EXPECT_EQ(rounds, (std::set<int>{2, 4, 6, 8, 10, 12, 14}));
}

// Computed by hand.
TEST(FedTinyTest, MergesListsByExamplesAndPrunesAmongTheOld) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({.name = "w", .shape = {2, 5}, .rows = 2, .cols = 5, .sparsifiable = true});
  layout->push_back({.name = "b", .shape = {2}, .rows = 2, .cols = 1});
  const tensor::ModelState model{OneLayer(layout, {0, 1, 2, 4, 5}),
                                 {.2F, -.05F, .4F, .01F, -.3F, 0, 0}};
  auto reducer =
      reduce::MakeReducer(reduce::ReducerKind::kMean, model.topology, test::ValuesLayout(7));
  const std::vector<std::pair<int64_t, reduce::ScoreList>> lists = {
      {50, {{3, 7}, {.9F, -.5F}}}, {30, {{3, 8}, {-1.0F, .6F}}}, {20, {{7, 9}, {-.8F, 1.5F}}}};
  for (const auto& [examples, list] : lists) {
    reduce::Partial partial;
    partial.participant = std::to_string(examples);
    partial.examples = examples;
    partial.values_count = 7;
    partial.values = [&](const auto& sink) { return sink(std::span<const float>(model.values)); };
    partial.scores = {list, {}};
    ASSERT_TRUE(reducer->Merge(partial).ok());
  }
  const reduce::Reduced reduced = reducer->Finish().value();
  const Evolution evolution =
      PlanGradientGrowth(model, std::vector<int64_t>{2, 0}, reduced.scores).value();
  const tensor::ModelState evolved =
      Evolve(model, evolution, [](const StructureChange::Tensor& change) {
        return std::vector<float>(change.diff.grown.size(), 0.0F);
      }).value();
  EXPECT_THAT(evolved.topology->topology(0).Positions(), ElementsAre(0, 2, 5, 7, 9));
  EXPECT_THAT(evolved.tensor(0), ElementsAre(.2F, .4F, -.3F, 0, 0));
}

TEST(FedTinyTest, WhatTheModelOrTheJobCannotDoIsRefused) {
  const auto violations = [](v1::JobSpec spec, const std::string& name, int64_t value) {
    SetInt(spec, name, value);
    std::vector<config::Violation> found;
    MethodRegistry::Builtin().Validate(spec, found);
    return found.empty() ? "" : found[0].field;
  };
  EXPECT_EQ(violations(FedTinyJob(), "pool_size", 0), "method.parameters.pool_size");
  EXPECT_EQ(violations(FedTinyJob(), "blocks", 4), "method.parameters.blocks");
  v1::JobSpec huge = FedTinyJob();
  huge.mutable_model()->mutable_layers(2)->mutable_linear()->set_units(10'000'000);
  EXPECT_EQ(violations(huge, "blocks", 3), "model.layers");
  EXPECT_EQ(violations(FedTinyJob(), "blocks", 3), "");
}

}  // namespace
}  // namespace espalier::server::methods
