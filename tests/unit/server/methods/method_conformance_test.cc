// What every registered method must do, run over the registry.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <span>

#include "common/base/status.h"
#include "server/methods/evolution.h"
#include "server/methods/program_state_codec.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using test::FakeFleet;
using test::JobTrace;

class MethodConformanceTest : public testing::TestWithParam<std::string> {
 protected:
  static v1::JobSpec Job(double density = 0.3) {
    v1::JobSpec spec = SmallJob(GetParam());
    SetDensityIfDeclared(spec, density);
    spec.mutable_evaluation()->set_central(true);
    spec.mutable_evaluation()->set_federated(true);
    spec.mutable_evaluation()->set_every_rounds(3);
    return spec;
  }
  static JobTrace Trace(const v1::JobSpec& spec,
                        const std::function<ProgramState(ProgramState)>& between = {}) {
    auto program = MethodRegistry::Builtin().Make(spec);
    EXPECT_TRUE(program.ok()) << program.status();
    auto trace = test::RunJob(**program, FakeFleet(4), between);
    EXPECT_TRUE(trace.ok()) << trace.status();
    return *std::move(trace);
  }
  static void ExpectSameModel(const tensor::ModelState& a, const tensor::ModelState& b) {
    EXPECT_EQ(a.topology->hash(), b.topology->hash());
    EXPECT_EQ(a.values, b.values);
  }
  // Whether the program is still choosing the model that the first round starts from.
  static bool InPrelude(const Transition& transition) {
    return transition.state.phase.starts_with("select");
  }
  static void ExpectStoredKept(const JobTrace& trace) {
    const auto begin = std::ranges::find_if_not(trace.transitions, InPrelude);
    const tensor::ModelTopology& first = *begin->state.model.topology;
    for (const Transition& transition : std::span(begin, trace.transitions.end())) {
      const tensor::ModelTopology& topology = *transition.state.model.topology;
      for (size_t i = 0; i < topology.num_tensors(); ++i) {
        EXPECT_EQ(topology.stored(i), first.stored(i));
      }
      for (const float value : transition.state.model.values) ASSERT_TRUE(std::isfinite(value));
    }
  }
};

TEST_P(MethodConformanceTest, KeepsTheNumberOfWeightsPerLayerAndFiniteValues) {
  const JobTrace trace = Trace(Job());
  ASSERT_EQ(trace.rounds.size(), 20u);
  ExpectStoredKept(trace);
}

TEST_P(MethodConformanceTest, TinyDensityLeavesLayersWithoutWeights) {
  const JobTrace trace = Trace(Job(0.004));
  ASSERT_EQ(trace.rounds.size(), 20u);
  ExpectStoredKept(trace);
}

TEST_P(MethodConformanceTest, DensityOneIsDenseAndStaysSo) {
  const JobTrace trace = Trace(Job(1));
  ASSERT_EQ(trace.rounds.size(), 20u);
  EXPECT_EQ(trace.rounds.back().density(), 1.0);
  EXPECT_EQ(trace.rounds.back().weights_changed(), 0);
  EXPECT_EQ(trace.rounds.back().explored(), 1.0);
  const auto begin = std::ranges::find_if_not(trace.transitions, InPrelude);
  EXPECT_EQ(trace.final_state.topology_version, begin->state.topology_version);
  for (size_t i = 0; i < 6; ++i) EXPECT_FALSE(trace.final_state.model.topology->is_sparse(i));
}

TEST_P(MethodConformanceTest, SameSeedGivesTheSameBits) {
  const JobTrace first = Trace(Job());
  const JobTrace second = Trace(Job());
  ASSERT_EQ(first.transitions.size(), second.transitions.size());
  for (size_t i = 0; i < first.transitions.size(); ++i) {
    ExpectSameModel(first.transitions[i].state.model, second.transitions[i].state.model);
  }
}

TEST_P(MethodConformanceTest, AnotherSeedGivesAnotherModel) {
  v1::JobSpec other = Job();
  other.set_seed(2);
  const JobTrace first = Trace(Job());
  const JobTrace second = Trace(other);
  EXPECT_NE(first.transitions[0].state.model.values, second.transitions[0].state.model.values);
  const tensor::ModelTopology& topology = *first.final_state.model.topology;
  if (topology.sparsifiable_stored() < topology.sparsifiable_size()) {
    EXPECT_NE(topology.hash(), second.final_state.model.topology->hash());
  }
}

TEST_P(MethodConformanceTest, SavedStateContinuesWithTheSameBits) {
  const JobTrace expected = Trace(Job());
  const JobTrace resumed = Trace(Job(), [](ProgramState state) {
    auto decoded =
        DecodeProgramState(EncodeProgramState(state), state.model.topology->shared_layout());
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    return *std::move(decoded);
  });
  ExpectSameModel(expected.final_state.model, resumed.final_state.model);
  EXPECT_EQ(EncodeProgramState(expected.final_state), EncodeProgramState(resumed.final_state));
  ASSERT_EQ(expected.rounds.size(), resumed.rounds.size());
  for (size_t i = 0; i < expected.rounds.size(); ++i) {
    EXPECT_EQ(expected.rounds[i].SerializeAsString(), resumed.rounds[i].SerializeAsString());
  }
}

TEST_P(MethodConformanceTest, StructureChangeLeadsFromTheLastModelToThePresentOne) {
  const JobTrace trace = Trace(Job());
  for (size_t i = 1; i < trace.transitions.size(); ++i) {
    const Transition& before = trace.transitions[i - 1];
    const Transition& after = trace.transitions[i];
    const tensor::ModelTopology& present = *after.state.model.topology;
    if (InPrelude(before)) continue;
    if (!after.structure_change) {
      EXPECT_EQ(before.state.model.topology->hash(), present.hash());
      EXPECT_EQ(before.state.topology_version, after.state.topology_version);
      continue;
    }
    EXPECT_EQ(after.state.topology_version, before.state.topology_version + 1);
    EXPECT_EQ(after.structure_change->base->hash(), before.state.model.topology->hash());
    for (const StructureChange::Tensor& change : after.structure_change->tensors) {
      auto applied =
          tensor::Apply(after.structure_change->base->topology(change.tensor), change.diff);
      ASSERT_TRUE(applied.ok()) << applied.status();
      EXPECT_EQ(*applied, present.topology(change.tensor));
    }
  }
}

TEST_P(MethodConformanceTest, CheckpointIsTheModelThatWasTrainedInTheRound) {
  const JobTrace trace = Trace(Job());
  for (size_t i = 1; i < trace.transitions.size(); ++i) {
    const Transition& transition = trace.transitions[i];
    EXPECT_EQ(transition.committed.has_value(), transition.checkpoint != nullptr);
    if (!transition.committed) continue;
    EXPECT_EQ(transition.checkpoint->topology->hash(),
              trace.transitions[i - 1].state.model.topology->hash());
  }
  ExpectSameModel(*trace.transitions.back().checkpoint, trace.final_state.model);
}

TEST_P(MethodConformanceTest, CarriedOptimizerStateIsZeroAtGrownWeightsOnly) {
  v1::JobSpec spec = Job();
  v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
  optimizer.set_kind(v1::Optimizer::KIND_ADAM);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  const JobTrace trace = Trace(spec, [](ProgramState state) {
    auto decoded =
        DecodeProgramState(EncodeProgramState(state), state.model.topology->shared_layout());
    EXPECT_TRUE(decoded.ok()) << decoded.status();
    return *std::move(decoded);
  });
  for (const Transition& transition : trace.transitions) {
    const tensor::ModelState& model = transition.state.model;
    if (GetParam() == "echo" || transition.state.phase == "train") continue;
    if (InPrelude(transition)) continue;
    ASSERT_EQ(model.optimizer_state.size(), 2 * model.values.size());
  }
  for (const Transition& transition : trace.transitions) {
    if (!transition.committed || transition.state.model.optimizer_state.empty()) continue;
    const int64_t grown = transition.committed->weights_changed();
    EXPECT_EQ(std::ranges::count(transition.state.model.optimizer_state, 0.0F), 2 * grown);
  }
}

TEST_P(MethodConformanceTest, SummariesAreFilled) {
  const JobTrace trace = Trace(Job());
  for (size_t i = 0; i < trace.rounds.size(); ++i) {
    const v1::RoundSummary& summary = trace.rounds[i];
    EXPECT_EQ(summary.round(), static_cast<int32_t>(i + 1));
    EXPECT_EQ(summary.participants(), 4);
    EXPECT_EQ(summary.examples(), 100);
    EXPECT_GT(summary.density(), 0);
    EXPECT_GT(summary.active_weights(), 0);
    EXPECT_EQ(summary.worker_peak_memory_bytes(), 1003);
    EXPECT_GE(summary.explored(), summary.density());
    const bool evaluated = GetParam() != "echo" && ((i + 1) % 3 == 0 || i + 1 == 20);
    EXPECT_EQ(summary.has_test_loss(), evaluated);
    EXPECT_EQ(summary.has_federated_test_accuracy(), evaluated);
    if (!evaluated) continue;
    EXPECT_EQ(summary.test_loss(), 0.25);
    EXPECT_EQ(summary.test_accuracy(), 0.5);
    EXPECT_EQ(summary.federated_test_loss(), 0.25);
    EXPECT_EQ(summary.federated_test_accuracy(), 0.5);
  }
  EXPECT_EQ(trace.rounds.back().weights_changed(), 0) << "evolved after the last round";
}

TEST_P(MethodConformanceTest, ResultOfAnotherShapeIsRefused) {
  const auto program = MethodRegistry::Builtin().Make(Job());
  ASSERT_TRUE(program.ok());
  auto start = (*program)->Start();
  ASSERT_TRUE(start.ok());
  reduce::Reduced reduced;
  reduced.examples = 1;
  reduced.values.assign(3, 0.0f);
  EXPECT_EQ(base::ReasonOf((*program)->Next(start->state, reduced).status()), "SHAPE_MISMATCH");
}

TEST_P(MethodConformanceTest, DoneMeansDone) {
  const JobTrace trace = Trace(Job());
  const auto program = MethodRegistry::Builtin().Make(Job());
  EXPECT_EQ(base::ReasonOf((*program)->Next(trace.final_state, {}).status()), "PROGRAM_DONE");
}

TEST_P(MethodConformanceTest, DescriptionIsComplete) {
  const MethodRegistry registry = MethodRegistry::Builtin();
  const v1::Method method = registry.Describe(*registry.Find(GetParam()));
  EXPECT_EQ(method.name(), GetParam());
  EXPECT_FALSE(method.summary().empty());
  EXPECT_FALSE(method.source().empty());
  for (const v1::MethodParameter& parameter : method.parameters()) {
    EXPECT_FALSE(parameter.doc().empty()) << parameter.name();
    EXPECT_NE(parameter.range(), "any") << parameter.name();
  }
}

// Methods that prune a trained model and train nothing are held to pruning/*_test.cc.
std::vector<std::string> TrainingMethods() {
  std::vector<std::string> names;
  const MethodRegistry registry = MethodRegistry::Builtin();
  for (const MethodDeclaration& method : registry.all()) {
    if (!method.prunes) names.push_back(method.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Methods, MethodConformanceTest, testing::ValuesIn(TrainingMethods()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace espalier::server::methods
