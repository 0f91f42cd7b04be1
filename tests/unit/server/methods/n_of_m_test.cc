#include "common/sparsity/n_of_m.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "common/wire/model_spec/train_additions.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using test::JobTrace;
using ::testing::ElementsAre;

v1::JobSpec NOfMJob(const std::string& mode, int64_t n = 2, int64_t m = 4) {
  v1::JobSpec spec = SmallJob("n-of-m");
  SetWord(spec, "mode", mode);
  SetInt(spec, "n", n);
  SetInt(spec, "m", m);
  return spec;
}

// Weights of each group of each row of a tensor.
std::set<int64_t> GroupSizes(const tensor::ModelTopology& topology, size_t tensor,
                             const sparsity::NOfM& pattern) {
  std::map<std::pair<int64_t, int64_t>, int64_t> counts;
  const tensor::TensorSpec& spec = topology.layout()[tensor];
  for (int64_t row = 0; row < spec.rows; ++row) {
    for (int64_t g = 0; g < pattern.groups(); ++g) counts[{row, g}] = 0;
  }
  for (const int64_t position : topology.Structure(tensor).value()->Positions()) {
    ++counts[{position / spec.cols, pattern.GroupOf(position % spec.cols)}];
  }
  std::set<int64_t> sizes;
  for (const auto& [group, count] : counts) sizes.insert(count);
  return sizes;
}

TEST(NOfMEvolveTest, EveryGroupHasItsWeightsInEveryRound) {
  for (const auto& [n, m] : std::vector<std::pair<int64_t, int64_t>>{{2, 4}, {1, 5}, {1, 10}}) {
    const JobTrace trace = Trace(NOfMJob("evolve", n, m));
    const sparsity::NOfM pattern{.kept = n, .group = m, .step = 1, .cols = 30};
    int64_t changed = 0;
    for (const Transition& transition : trace.transitions) {
      const tensor::ModelTopology& topology = *transition.state.model.topology;
      // 30 is no multiple of 4: two members at the end keep one.
      EXPECT_THAT(GroupSizes(topology, 0, pattern),
                  m == 4 ? testing::Matcher<std::set<int64_t>>(ElementsAre(1, 2)) : ElementsAre(n));
      EXPECT_EQ(topology.stored(0), 20 * pattern.KeptInRow());
    }
    for (const v1::RoundSummary& round : trace.rounds) changed += round.weights_changed();
    EXPECT_GT(changed, 0);
  }
}

TEST(NOfMEvolveTest, OfConvolutionsGroupsRunAlongInputChannels) {
  v1::JobSpec spec = ImageJob("n-of-m", 8, 8, 8);
  spec.mutable_model()->add_layers()->mutable_conv2d()->set_channels(4);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  const JobTrace trace = Trace(spec);
  const tensor::ModelTopology& topology = *trace.final_state.model.topology;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const tensor::TensorSpec& tensor = topology.layout()[i];
    if (tensor.shape.size() != 4 || tensor.shape[1] != 8) continue;
    EXPECT_EQ(topology.stored(i), 4 * 8 * 9 / 2);
    EXPECT_THAT(GroupSizes(topology, i, {.kept = 2, .group = 4, .step = 9, .cols = 72}),
                ElementsAre(2));
    return;
  }
  FAIL() << "no such convolution";
}

// Three rows of one group 2:4 each.
TEST(NOfMEvolveTest, TheLargestGradientTakesThePlaceOfAWeakWeightOfItsGroup) {
  v1::JobSpec spec = NOfMJob("evolve", 2, 4);
  spec.clear_model();
  spec.mutable_model()->set_input_features(4);
  AddLayer(spec, 3, v1::ACTIVATION_LINEAR);
  SetDouble(spec, "alpha", 0.6);
  spec.mutable_federation()->set_rounds(20);
  const auto program = Make(spec);
  const Transition start = program->Start().value();
  const tensor::ModelTopology& topology = *start.state.model.topology;
  const std::vector<int64_t> active = topology.topology(0).Positions();
  ASSERT_EQ(active.size(), 6u);
  // Weights 0.1, 0.2, … in their order; gradients at all that are not there, larger the later.
  reduce::Reduced trained;
  trained.examples = 10;
  trained.participants = 1;
  auto& values = trained.sections[v1::SECTION_KIND_VALUES];
  values.assign(start.state.model.values.size(), 0.0F);
  for (size_t k = 0; k < active.size(); ++k) values[k] = 0.1F * static_cast<float>(k + 1);
  trained.scores.resize(2);
  for (int64_t position = 0; position < 12; ++position) {
    if (std::ranges::binary_search(active, position)) continue;
    trained.scores[0].positions.push_back(position);
    trained.scores[0].values.push_back(static_cast<float>(position + 1));
  }
  Transition transition = program->Next(start.state, trained).value();
  while (!transition.committed) {
    reduce::Reduced evaluated;
    evaluated.examples = 10;
    transition = program->Next(transition.state, evaluated).value();
  }
  // 0.3 · (1 + cos(π / 15)) of six weights: the three smallest may go, the two of the first row and
  // one of the second. The last row keeps its weights, although its gradients are the largest. In
  // the second row it is the larger gradient that grows.
  const tensor::ModelTopology& next = *transition.state.model.topology;
  const std::vector<int64_t> now = next.topology(0).Positions();
  std::vector<int64_t> gone;
  std::ranges::set_difference(active, now, std::back_inserter(gone));
  EXPECT_EQ(gone, std::vector<int64_t>(active.begin(), active.begin() + 3));
  std::vector<int64_t> grown;
  std::ranges::set_difference(now, active, std::back_inserter(grown));
  const std::vector<int64_t>& inactive = trained.scores[0].positions;
  EXPECT_EQ(grown, (std::vector<int64_t>{inactive[0], inactive[1], inactive[3]}));
}

TEST(NOfMEvolveTest, WithoutGradientsTheJobFails) {
  const auto program = Make(NOfMJob("evolve"));
  const Transition start = program->Start().value();
  reduce::Reduced trained;
  trained.examples = 10;
  trained.sections[v1::SECTION_KIND_VALUES].assign(start.state.model.values.size(), 0.0F);
  EXPECT_FALSE(program->Next(start.state, trained).ok());
}

TEST(NOfMStraightThroughTest, TrainsDenseWeightsUnderAPatternAndEndsSparseWithoutOne) {
  for (const char* mode : {"ste", "sr-ste"}) {
    const JobTrace trace = Trace(NOfMJob(mode));
    const ProgramState& first = trace.transitions.front().state;
    EXPECT_FALSE(first.model.topology->is_sparse(0));
    ASSERT_NE(first.model_spec, nullptr);
    const v1::NOfM& pattern = first.model_spec->layers(0).linear().n_of_m();
    EXPECT_EQ(pattern.n(), 2);
    EXPECT_EQ(pattern.m(), 4);
    EXPECT_EQ(pattern.decay(), std::string(mode) == "ste" ? 0 : 2e-4);
    const Transition& last = trace.transitions.back();
    EXPECT_EQ(last.model_spec, nullptr);
    EXPECT_THAT(
        GroupSizes(*last.checkpoint->topology, 0, {.kept = 2, .group = 4, .step = 1, .cols = 30}),
        ElementsAre(1, 2));
    EXPECT_EQ(trace.rounds.back().active_weights(), 20 * 15 + 10 + 10);
    EXPECT_EQ(trace.rounds.front().density(), 1);
    // The model of the last evaluation is the one that is kept.
    const Transition& before = trace.transitions[trace.transitions.size() - 2];
    EXPECT_EQ(before.state.model.topology->hash(), last.checkpoint->topology->hash());
  }
}

TEST(NOfMStraightThroughTest, LayersThatAreDenseStaySo) {
  v1::JobSpec spec = NOfMJob("ste");
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_dense(true);
  const JobTrace trace = Trace(spec);
  EXPECT_FALSE(trace.transitions.front().state.model_spec->layers(0).linear().has_n_of_m());
  EXPECT_FALSE(trace.final_state.model.topology->is_sparse(0));
}

TEST(NOfMStraightThroughTest, AModelWithoutGroupsToPruneEndsWithoutAPattern) {
  v1::JobSpec spec = NOfMJob("ste", 4, 4);
  EXPECT_EQ(Trace(spec).transitions.back().model_spec, nullptr);
}

// Masks and the spec that says them are part of saved states; so are the state of optimizers and what rounding left out.
TEST(NOfMStraightThroughTest, SavedStatesContinueWithTheSameBits) {
  v1::JobSpec spec = NOfMJob("sr-ste");
  spec.mutable_wire()->set_down(v1::Wire::VALUES_INT8);
  v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
  optimizer.set_kind(v1::Optimizer::KIND_ADAM);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  const JobTrace expected = Trace(spec);
  const auto saved = test::RunJobFromSavedStates([&] { return Make(spec); }, test::FakeFleet(3));
  ASSERT_TRUE(saved.ok()) << saved.status();
  EXPECT_EQ(saved->final_state.model.values, expected.final_state.model.values);
  EXPECT_EQ(saved->final_state.model.topology->hash(), expected.final_state.model.topology->hash());
}

TEST(NOfMTest, WhatCannotBeDoneIsRefused) {
  EXPECT_EQ(RefusedField(NOfMJob("evolve")), "");
  EXPECT_EQ(RefusedField(NOfMJob("sr-ste", 1, 8)), "");
  EXPECT_EQ(RefusedField(NOfMJob("evolve", 5, 4)), "method.parameters.n");
  EXPECT_EQ(RefusedField(NOfMJob("evolve", 1, 1)), "method.parameters.m");
  v1::JobSpec decayed = NOfMJob("evolve");
  SetDouble(decayed, "decay", 0.01);
  EXPECT_EQ(RefusedField(decayed), "method.parameters.decay");
  v1::JobSpec exchanged = NOfMJob("ste");
  SetDouble(exchanged, "alpha", 0.1);
  EXPECT_EQ(RefusedField(exchanged), "method.parameters.alpha");
  v1::JobSpec standardised = ImageJob("n-of-m", 8, 8, 8);
  AddLayer(standardised, 10, v1::ACTIVATION_LINEAR);
  standardised.mutable_model()->mutable_layers(0)->mutable_conv2d()->set_standardize(true);
  EXPECT_EQ(RefusedField(standardised), "");
  SetWord(standardised, "mode", "ste");
  EXPECT_EQ(RefusedField(standardised), "model.layers");
}

}  // namespace
}  // namespace espalier::server::methods
