#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "common/base/rng.h"
#include "common/sparsity/grow.h"
#include "tests/support/fake_fleet.h"
#include "tests/support/result_layouts.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;

v1::JobSpec SetJob() {
  v1::JobSpec spec = SmallJob("set");
  SetDouble(spec, "density", 0.3);
  return spec;
}

// A vector computed by hand through a whole round: the trained mean decides what goes.
TEST(SetTest, RemovesTheWeakestOfEachSign) {
  v1::JobSpec spec = SetJob();
  spec.clear_model();
  spec.mutable_model()->set_input_features(20);
  AddLayer(spec, 2, v1::ACTIVATION_LINEAR);
  const auto program = MethodRegistry::Builtin().Make(spec).value();
  ProgramState state = program->Start().value().state;
  state.model.topology = OneLayer(state.model.topology->shared_layout(),
                                  {0, 3, 4, 7, 9, 11, 12, 18, 20, 22, 25, 30, 33, 39});
  state.model.values.assign(16, 0.0f);
  reduce::Reduced trained;
  trained.examples = 1;
  test::ValuesOf(trained) = {-1,  -.8f, -.6f, -.4f, -.2f, -.1f, .05f, .15f,
                             .3f, .5f,  .7f,  .9f,  1.1f, 1.3f, 0,    0};
  Transition evaluate = program->Next(state, trained).value();
  ASSERT_TRUE(evaluate.state.step->task.has_evaluate());
  EXPECT_FALSE(evaluate.structure_change) << "evolved before it was evaluated";
  reduce::Reduced evaluated;
  evaluated.examples = 1;
  const Transition committed = program->Next(evaluate.state, evaluated).value();
  ASSERT_TRUE(committed.structure_change);
  ASSERT_EQ(committed.structure_change->tensors.size(), 1u);
  EXPECT_THAT(committed.structure_change->tensors[0].diff.dropped, ElementsAre(5, 6, 7));
  EXPECT_EQ(committed.structure_change->tensors[0].diff.grown.size(), 3u);
  EXPECT_EQ(committed.committed->weights_changed(), 3);
}

TEST(SetTest, GrowthFollowsFromTheBroadcastKey) {
  const auto trace = Trace(SetJob());
  int changes = 0;
  for (const Transition& transition : trace.transitions) {
    if (!transition.structure_change) continue;
    for (const auto& change : transition.structure_change->tensors) {
      ASSERT_TRUE(change.growth_key);
      EXPECT_EQ(sparsity::GrowRandom(
                    transition.structure_change->base->topology(change.tensor), change.diff.dropped,
                    static_cast<int64_t>(change.diff.grown.size()), *change.growth_key),
                change.diff.grown);
      ++changes;
    }
  }
  EXPECT_GE(changes, 19);
}

// Values at the grown positions of every change.
std::vector<float> GrownValuesOf(const test::JobTrace& trace) {
  std::vector<float> grown;
  for (const Transition& transition : trace.transitions) {
    if (!transition.structure_change) continue;
    for (const auto& change : transition.structure_change->tensors) {
      const auto positions = transition.state.model.topology->topology(change.tensor).Positions();
      const std::set<int64_t> wanted(change.diff.grown.begin(), change.diff.grown.end());
      for (size_t i = 0; i < positions.size(); ++i) {
        if (wanted.contains(positions[i])) {
          grown.push_back(transition.state.model.tensor(change.tensor)[i]);
        }
      }
    }
  }
  return grown;
}

TEST(SetTest, GrownWeightsAreDrawnFromANormalDistribution) {
  const std::vector<float> grown = GrownValuesOf(Trace(SetJob()));
  ASSERT_GT(grown.size(), 500u);
  double squares = 0;
  for (const float value : grown) squares += value * value;
  EXPECT_NEAR(std::sqrt(squares / static_cast<double>(grown.size())), 0.1, 0.01);
}

TEST(SetTest, GrownWeightsAreZeroWhenAskedFor) {
  v1::JobSpec spec = SetJob();
  SetWord(spec, "grown_weights", "zero");
  const std::vector<float> grown = GrownValuesOf(Trace(spec));
  ASSERT_GT(grown.size(), 500u);
  for (const float value : grown) EXPECT_EQ(value, 0.0f);
}

TEST(SetTest, EvolvesEveryThirdRound) {
  v1::JobSpec spec = SetJob();
  SetInt(spec, "evolve_every", 3);
  const auto trace = Trace(spec);
  for (const v1::RoundSummary& summary : trace.rounds) {
    EXPECT_EQ(summary.weights_changed() > 0, summary.round() % 3 == 0) << summary.round();
  }
}

TEST(SetTest, EveryDropRuleKeepsTheCount) {
  for (const char* rule : {"magnitude", "random"}) {
    v1::JobSpec spec = SetJob();
    SetWord(spec, "drop", rule);
    const auto trace = Trace(spec);
    EXPECT_EQ(trace.rounds.front().active_weights(), trace.rounds.back().active_weights());
    EXPECT_GT(trace.rounds.front().weights_changed(), 0);
  }
}

TEST(SetTest, ExploredShareGrows) {
  const auto trace = Trace(SetJob());
  EXPECT_EQ(trace.rounds[0].explored(), trace.rounds[0].density());
  for (size_t i = 1; i < trace.rounds.size(); ++i) {
    EXPECT_GE(trace.rounds[i].explored(), trace.rounds[i - 1].explored());
  }
  EXPECT_GT(trace.rounds.back().explored(), 0.8);
}

TEST(SetTest, FinalRemovalIsEvaluatedAndKept) {
  v1::JobSpec spec = SetJob();
  SetWord(spec, "final_step", "remove_only");
  const auto trace = Trace(spec);
  const Transition& evaluate = trace.transitions[trace.transitions.size() - 2];
  ASSERT_TRUE(evaluate.state.step && evaluate.state.step->task.has_evaluate());
  ASSERT_TRUE(evaluate.structure_change);
  for (const auto& change : evaluate.structure_change->tensors) {
    EXPECT_TRUE(change.diff.grown.empty());
    EXPECT_FALSE(change.growth_key);
  }
  const v1::RoundSummary& last = trace.rounds.back();
  EXPECT_LT(last.active_weights(), trace.rounds.front().active_weights());
  EXPECT_EQ(last.weights_changed(), trace.rounds.front().active_weights() - last.active_weights());
  EXPECT_EQ(trace.transitions.back().checkpoint->topology->hash(),
            evaluate.state.model.topology->hash());
}

}  // namespace
}  // namespace espalier::server::methods
