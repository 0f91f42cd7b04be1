// What every registered method must do, run over the registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <memory>
#include <span>
#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/methods/evolution.h"
#include "server/methods/program_state_codec.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"
#include "tests/unit/server/methods/trained_models.h"

namespace espalier::server::methods {
namespace {

using test::FakeFleet;
using test::JobTrace;

// Checkpoints for methods that need one.
TrainedModels& Trained() {
  static TrainedModels models("conformance");
  return models;
}

MethodRegistry Registry() { return MethodRegistry::Builtin(Trained().library()); }

bool NeedsTrained(const std::string& method) { return Registry().Find(method)->needs_trained; }

class MethodConformanceTest : public testing::TestWithParam<std::string> {
 protected:
  static v1::JobSpec Job(double density = 0.3) {
    v1::JobSpec spec = SmallJob(GetParam());
    SetDensityIfDeclared(spec, density);
    if (NeedsTrained(GetParam())) {
      Trained().Write(spec.model(), std::max(density, 0.1));
      spec.mutable_model()->set_pretrained("checkpoints/first-7");
    }
    if (GetParam() == "prunefl") SetInt(spec, "update_every", 4);
    if (LearnsInput()) {
      spec.mutable_data()->set_target(v1::DataSpec::TARGET_INPUT);
      spec.mutable_model()->mutable_layers(2)->mutable_linear()->set_units(30);
      SetInt(spec, "features", 5);
    }
    spec.mutable_evaluation()->set_central(true);
    spec.mutable_evaluation()->set_federated(true);
    spec.mutable_evaluation()->set_every_rounds(3);
    return spec;
  }
  // Whether the model is an autoencoder, which has no accuracy.
  static bool LearnsInput() { return GetParam() == "quick-selection"; }
  static std::unique_ptr<Program> Make(const v1::JobSpec& spec) {
    auto program = Registry().Make(spec);
    EXPECT_TRUE(program.ok()) << program.status();
    return *std::move(program);
  }
  static JobTrace Trace(const v1::JobSpec& spec) {
    auto trace = test::RunJob(*Make(spec), FakeFleet(4));
    EXPECT_TRUE(trace.ok()) << trace.status();
    return *std::move(trace);
  }
  // As if the coordinator were killed in each step.
  static JobTrace TraceOfSavedStates(const v1::JobSpec& spec) {
    auto trace = test::RunJobFromSavedStates([&] { return Make(spec); }, FakeFleet(4));
    EXPECT_TRUE(trace.ok()) << trace.status();
    return *std::move(trace);
  }
  // The participants of feddst have structures of their own, which only its own mean can fold.
  static bool Refuses(const v1::JobSpec& spec) {
    const bool refuses =
        GetParam() == "feddst" || (GetParam() == "fedmef" && spec.training().control_variates());
    if (!refuses) return false;
    EXPECT_FALSE(Registry().Make(spec).ok());
    return true;
  }
  static void ExpectSameModel(const tensor::ModelState& a, const tensor::ModelState& b) {
    EXPECT_EQ(a.topology->hash(), b.topology->hash());
    EXPECT_EQ(a.values, b.values);
  }
  // Whether the number of active weights is what the method decides as it goes on.
  static bool ChangesDensity() { return GetParam() == "gmp" || GetParam() == "prunefl"; }
  // Whether the program is still choosing the model that the first round starts from.
  static bool InPrelude(const Transition& transition) {
    return transition.state.phase.starts_with("select");
  }
  static void ExpectSameModels(const Transition& a, const Transition& b) {
    const auto models = [](const Transition& of) {
      std::vector<const tensor::ModelState*> all;
      for (const ProgramState* run : StepsInWork(of.state)) all.push_back(&run->model);
      if (all.empty()) all.push_back(&of.state.model);
      return all;
    };
    const auto first = models(a);
    const auto second = models(b);
    ASSERT_EQ(first.size(), second.size());
    for (size_t i = 0; i < first.size(); ++i) ExpectSameModel(*first[i], *second[i]);
  }
  // What the first step works on.
  static const tensor::ModelState& FirstModel(const JobTrace& trace) {
    return StepsInWork(trace.transitions[0].state).front()->model;
  }
  static void ExpectStoredKept(const JobTrace& trace) {
    const auto begin = std::ranges::find_if_not(trace.transitions, InPrelude);
    const tensor::ModelTopology& first = *begin->state.model.topology;
    for (const Transition& transition : std::span(begin, trace.transitions.end())) {
      const tensor::ModelTopology& topology = *transition.state.model.topology;
      for (size_t i = 0; i < topology.num_tensors(); ++i) {
        if (ChangesDensity()) continue;
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

TEST_P(MethodConformanceTest, TinyDensityIsRefusedOrKept) {
  const v1::JobSpec job = Job(0.004);
  if (const auto made = Registry().Make(job); !made.ok()) {
    EXPECT_THAT(made.status().message(), ::testing::HasSubstr("raise the density"));
    return;
  }
  const JobTrace trace = Trace(job);
  ASSERT_EQ(trace.rounds.size(), 20u);
  ExpectStoredKept(trace);
}

// Of methods that are given a density; for prunefl it is an outcome.
class GivenDensityTest : public MethodConformanceTest {};

TEST_P(GivenDensityTest, DensityOneIsDenseAndStaysSo) {
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
    ExpectSameModels(first.transitions[i], second.transitions[i]);
  }
}

TEST_P(MethodConformanceTest, AnotherSeedGivesAnotherModel) {
  v1::JobSpec other = Job();
  other.set_seed(2);
  const JobTrace first = Trace(Job());
  const JobTrace second = Trace(other);
  if (NeedsTrained(GetParam())) {
    ExpectSameModel(FirstModel(first), FirstModel(second));
    return;
  }
  EXPECT_NE(FirstModel(first).values, FirstModel(second).values);
  const tensor::ModelTopology& topology = *first.final_state.model.topology;
  if (topology.sparsifiable_stored() < topology.sparsifiable_size()) {
    EXPECT_NE(topology.hash(), second.final_state.model.topology->hash());
  }
}

TEST_P(MethodConformanceTest, SavedStateContinuesWithTheSameBits) {
  const JobTrace expected = Trace(Job());
  const JobTrace resumed = TraceOfSavedStates(Job());
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
      const auto structure = after.structure_change->base->Structure(change.tensor);
      ASSERT_TRUE(structure.ok()) << structure.status();
      auto applied = tensor::Apply(**structure, change.diff);
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
    const Transition& before = trace.transitions[i - 1];
    // Participants that change their structure train towards a new one.
    const ProgramState& trained =
        wire::HasAddition(before.state.step->task.train(), v1::TrainAddition::kReadjustment)
            ? transition.state
            : before.state;
    EXPECT_EQ(transition.checkpoint->topology->hash(), trained.model.topology->hash());
  }
  ExpectSameModel(*trace.transitions.back().checkpoint, trace.final_state.model);
}

TEST_P(MethodConformanceTest, CarriedOptimizerStateIsZeroAtGrownWeightsOnly) {
  v1::JobSpec spec = Job();
  v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
  optimizer.set_kind(v1::Optimizer::KIND_ADAM);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  std::vector<config::Violation> violations;
  Registry().Validate(spec, violations);
  if (!violations.empty()) {
    EXPECT_EQ(violations[0].field, "training.optimizer.across_rounds");
    return;
  }
  const JobTrace trace = TraceOfSavedStates(spec);
  for (const Transition& transition : trace.transitions) {
    const tensor::ModelState& model = transition.state.model;
    if (GetParam() == "echo" || transition.state.phase == "train") continue;
    if (InPrelude(transition)) continue;
    ASSERT_EQ(model.optimizer_state.size(), 2 * model.values.size());
  }
  for (const Transition& transition : trace.transitions) {
    if (!transition.committed || transition.state.model.optimizer_state.empty()) continue;
    int64_t grown = 0;
    if (transition.structure_change) {
      for (const auto& change : transition.structure_change->tensors) {
        grown += static_cast<int64_t>(change.diff.grown.size());
      }
    }
    EXPECT_EQ(std::ranges::count(transition.state.model.optimizer_state, 0.0F), 2 * grown);
  }
}

// Settings of `aggregation` and `training` that change what becomes of updates.
std::vector<std::pair<std::string, std::function<void(v1::JobSpec&)>>> Aggregations() {
  using A = v1::Aggregation;
  const auto rule = [](A::Rule of) {
    return [of](v1::JobSpec& spec) { spec.mutable_aggregation()->set_rule(of); };
  };
  const auto server = [](A::ServerOptimizer of) {
    return [of](v1::JobSpec& spec) { spec.mutable_aggregation()->set_server_optimizer(of); };
  };
  return {
      {"median", rule(A::RULE_MEDIAN)},
      {"trimmed mean", rule(A::RULE_TRIMMED_MEAN)},
      {"krum", rule(A::RULE_KRUM)},
      {"multi-krum", rule(A::RULE_MULTI_KRUM)},
      {"clipping", [](v1::JobSpec& spec) { spec.mutable_aggregation()->set_clip_norm(0.5); }},
      {"momentum", server(A::SERVER_OPTIMIZER_MOMENTUM)},
      {"adam", server(A::SERVER_OPTIMIZER_ADAM)},
      {"yogi", server(A::SERVER_OPTIMIZER_YOGI)},
      {"scaffold", [](v1::JobSpec& spec) { spec.mutable_training()->set_control_variates(true); }}};
}

TEST_P(MethodConformanceTest, EveryAggregationContinuesFromASavedState) {
  for (const auto& [name, set] : Aggregations()) {
    SCOPED_TRACE(name);
    v1::JobSpec spec = Job();
    set(spec);
    if (Refuses(spec)) continue;
    const JobTrace expected = Trace(spec);
    ASSERT_EQ(expected.rounds.size(), 20u);
    ExpectStoredKept(expected);
    const JobTrace resumed = TraceOfSavedStates(spec);
    EXPECT_EQ(EncodeProgramState(expected.final_state), EncodeProgramState(resumed.final_state));
    if (GetParam() != "echo") {
      EXPECT_NE(Trace(Job()).final_state.model.values, expected.final_state.model.values);
    }
  }
}

TEST_P(MethodConformanceTest, ServerMomentumZeroAtRateOneIsPlainAveragingBitForBit) {
  v1::JobSpec spec = Job();
  v1::Aggregation& aggregation = *spec.mutable_aggregation();
  aggregation.set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_MOMENTUM);
  aggregation.set_server_momentum(0);
  if (Refuses(spec)) return;
  const JobTrace plain = Trace(Job());
  const JobTrace stepped = Trace(spec);
  ASSERT_EQ(plain.transitions.size(), stepped.transitions.size());
  for (size_t i = 0; i < plain.transitions.size(); ++i) {
    ExpectSameModels(plain.transitions[i], stepped.transitions[i]);
  }
}

TEST_P(MethodConformanceTest, ServerStateIsZeroAtGrownWeightsOnly) {
  v1::JobSpec spec = Job();
  spec.mutable_aggregation()->set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_ADAM);
  if (Refuses(spec)) return;
  for (const Transition& transition : Trace(spec).transitions) {
    if (!transition.committed || GetParam() == "echo") continue;
    const NumberSet& second = transition.state.server.second_moment;
    ASSERT_NE(second, nullptr);
    ASSERT_EQ(second->size(), transition.state.model.values.size());
    int64_t grown = 0;
    if (transition.structure_change) {
      for (const auto& tensor : transition.structure_change->tensors) {
        grown += static_cast<int64_t>(tensor.diff.grown.size());
      }
    }
    EXPECT_EQ(std::ranges::count(*second, 0.0F), grown);
  }
}

TEST_P(MethodConformanceTest, WithOneParticipantEveryRuleIsTheMean) {
  const auto last = [](v1::JobSpec spec) {
    return test::RunJob(*Make(spec), FakeFleet(1)).value().final_state.model;
  };
  const tensor::ModelState mean = last(Job());
  for (const auto rule : {v1::Aggregation::RULE_MEDIAN, v1::Aggregation::RULE_TRIMMED_MEAN,
                          v1::Aggregation::RULE_KRUM, v1::Aggregation::RULE_MULTI_KRUM}) {
    v1::JobSpec spec = Job();
    spec.mutable_aggregation()->set_rule(rule);
    if (Refuses(spec)) continue;
    ExpectSameModel(mean, last(spec));
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
    EXPECT_EQ(summary.has_federated_test_accuracy(), evaluated && !LearnsInput());
    if (!evaluated) continue;
    EXPECT_EQ(summary.test_loss(), 0.25);
    EXPECT_EQ(summary.federated_test_loss(), 0.25);
    if (LearnsInput()) continue;
    EXPECT_EQ(summary.test_accuracy(), 0.5);
    EXPECT_EQ(summary.federated_test_accuracy(), 0.5);
  }
  EXPECT_EQ(trace.rounds.back().weights_changed(), 0) << "evolved after the last round";
}

TEST_P(MethodConformanceTest, ResultOfAnotherShapeIsRefused) {
  const auto program = Registry().Make(Job());
  ASSERT_TRUE(program.ok());
  auto start = (*program)->Start();
  ASSERT_TRUE(start.ok());
  reduce::Reduced reduced;
  reduced.examples = 1;
  for (const v1::SectionKind kind : {v1::SECTION_KIND_VALUES, v1::SECTION_KIND_RUNNING_STATISTICS,
                                     v1::SECTION_KIND_SALIENCIES, v1::SECTION_KIND_IMPORTANCE}) {
    reduced.sections[kind].assign(3, 0.0f);
  }
  const std::vector<reduce::Reduced> results(StepsInWork(start->state).size(), reduced);
  const auto refused = NextOf(**program, start->state, results);
  EXPECT_EQ(base::ReasonOf(refused.status()), "SHAPE_MISMATCH");
}

TEST_P(MethodConformanceTest, DoneMeansDone) {
  const JobTrace trace = Trace(Job());
  const auto program = Registry().Make(Job());
  EXPECT_EQ(base::ReasonOf((*program)->Next(trace.final_state, {}).status()), "PROGRAM_DONE");
}

// LightGCN with 12 users, 20 items and 5 dimensions, its rows of users shared or private.
v1::JobSpec RecommenderJob(const std::string& method, bool private_users) {
  v1::JobSpec spec = SmallJob(method);
  SetDensityIfDeclared(spec, 0.3);
  spec.clear_model();
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(12);
  model.set_items(20);
  model.set_private_users(private_users);
  model.mutable_lightgcn()->set_dimensions(5);
  return spec;
}

TEST_P(MethodConformanceTest, RunsOnRecommendersOrSaysThatItDoesNot) {
  for (const bool private_users : {false, true}) {
    const v1::JobSpec spec = RecommenderJob(GetParam(), private_users);
    std::vector<config::Violation> violations;
    Registry().Validate(spec, violations);
    // The coordinator keeps the groups of rows whole, and so needs the rows.
    if (GetParam() == "n-of-m" && private_users) {
      ASSERT_EQ(violations.size(), 1u);
      EXPECT_EQ(violations[0].field, "model.recommender.private_users");
      continue;
    }
    if (!violations.empty()) {
      const MethodRegistry registry = Registry();
      EXPECT_NE(MethodRegistry::WhyNotOn(*registry.Find(GetParam()), FamilyOf(spec.model())), "");
      EXPECT_TRUE(std::ranges::any_of(
          violations, [](const auto& found) { return found.field == "method.name"; }));
      continue;
    }
    const JobTrace trace = Trace(spec);
    ASSERT_EQ(trace.rounds.size(), 20u);
    ExpectStoredKept(trace);
    const tensor::ModelTopology& topology = *trace.final_state.model.topology;
    EXPECT_EQ(topology.total_size(), (private_users ? 20 : 32) * 5);
    if (GetParam() == "echo") continue;
    const v1::RoundSummary& last = trace.rounds.back();
    const auto& metrics = private_users ? last.federated_test_metrics() : last.test_metrics();
    ASSERT_EQ(metrics.size(), 2);
    EXPECT_EQ(metrics[0].name(), "ndcg@20");
    EXPECT_EQ(metrics[0].value(), 0.25);
    EXPECT_EQ(last.main_metric(), 0.25);
    EXPECT_FALSE(last.has_test_accuracy());
    EXPECT_FALSE(last.has_test_loss());
  }
}

TEST_P(MethodConformanceTest, DescriptionIsComplete) {
  const MethodRegistry registry = Registry();
  const v1::Method method = registry.Describe(*registry.Find(GetParam()));
  EXPECT_EQ(method.name(), GetParam());
  EXPECT_FALSE(method.summary().empty());
  EXPECT_FALSE(method.source().empty());
  for (const v1::MethodParameter& parameter : method.parameters()) {
    EXPECT_FALSE(parameter.doc().empty()) << parameter.name();
    EXPECT_NE(parameter.range(), "any") << parameter.name();
  }
}

// Methods that prune a trained model and train nothing are held to pruning/*_test.cc, those that
// train several models to runs_conformance_test.cc.
std::vector<std::string> TrainingMethods() {
  std::vector<std::string> names;
  const MethodRegistry registry = Registry();
  for (const MethodDeclaration& method : registry.all()) {
    if (!method.prunes && !method.total_rounds) names.push_back(method.name);
  }
  return names;
}

std::vector<std::string> MethodsOfGivenDensity() {
  std::vector<std::string> methods = TrainingMethods();
  std::erase(methods, "prunefl");
  std::erase(methods, "n-of-m");  // its pattern says it
  return methods;
}

// The names of methods, without what names of tests cannot have.
std::string NameOfTest(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::erase(name, '-');
  return name;
}

INSTANTIATE_TEST_SUITE_P(Methods, GivenDensityTest, testing::ValuesIn(MethodsOfGivenDensity()),
                         NameOfTest);
INSTANTIATE_TEST_SUITE_P(Methods, MethodConformanceTest, testing::ValuesIn(TrainingMethods()),
                         NameOfTest);

}  // namespace
}  // namespace espalier::server::methods
