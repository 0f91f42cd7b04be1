// What every method that trains several models must do, run over the registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/base/status.h"
#include "server/methods/program_state_codec.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using test::FakeFleet;
using test::JobTrace;

class RunsConformanceTest : public testing::TestWithParam<std::string> {
 protected:
  static v1::JobSpec Job() {
    v1::JobSpec spec = SmallJob(GetParam());
    spec.mutable_federation()->set_rounds(3);
    SetIntIfDeclared(spec, "levels", 2);
    SetIntIfDeclared(spec, "rewind_round", 1);
    spec.mutable_evaluation()->set_central(true);
    spec.mutable_evaluation()->set_federated(true);
    spec.mutable_evaluation()->set_every_rounds(2);
    return spec;
  }
  static void SetIntIfDeclared(v1::JobSpec& spec, const std::string& name, int64_t value) {
    const MethodRegistry registry = MethodRegistry::Builtin();
    for (const config::Parameter& parameter : registry.Find(GetParam())->parameters) {
      if (parameter.name == name) SetInt(spec, name, value);
    }
  }
  static JobTrace TraceOfSavedStates(const v1::JobSpec& spec) {
    auto trace = test::RunJobFromSavedStates([&] { return Make(spec); }, FakeFleet(3));
    EXPECT_TRUE(trace.ok()) << trace.status();
    return *std::move(trace);
  }
  static void ExpectSame(const JobTrace& a, const JobTrace& b) {
    ASSERT_EQ(a.transitions.size(), b.transitions.size());
    for (size_t i = 0; i < a.transitions.size(); ++i) {
      EXPECT_EQ(EncodeProgramState(a.transitions[i].state),
                EncodeProgramState(b.transitions[i].state));
    }
    ASSERT_EQ(a.rounds.size(), b.rounds.size());
    for (size_t i = 0; i < a.rounds.size(); ++i) {
      EXPECT_EQ(a.rounds[i].SerializeAsString(), b.rounds[i].SerializeAsString());
    }
  }
};

TEST_P(RunsConformanceTest, SameSeedGivesTheSameBitsAndAnotherSeedOthers) {
  ExpectSame(Trace(Job()), Trace(Job()));
  v1::JobSpec other = Job();
  other.set_seed(2);
  EXPECT_NE(Trace(Job()).transitions[0].state.runs[0].model.values,
            Trace(other).transitions[0].state.runs[0].model.values);
}

TEST_P(RunsConformanceTest, SavedStatesContinueWithTheSameBits) {
  using A = v1::Aggregation;
  const std::vector<std::function<void(v1::JobSpec&)>> options = {
      [](v1::JobSpec&) {},
      [](v1::JobSpec& spec) { spec.mutable_aggregation()->set_rule(A::RULE_MULTI_KRUM); },
      [](v1::JobSpec& spec) {
        spec.mutable_aggregation()->set_server_optimizer(A::SERVER_OPTIMIZER_ADAM);
      },
      [](v1::JobSpec& spec) { spec.mutable_training()->set_control_variates(true); },
      [](v1::JobSpec& spec) {
        spec.mutable_wire()->set_down(v1::Wire::VALUES_INT8);
        spec.mutable_wire()->set_up(v1::Wire::VALUES_BF16);
      },
      [](v1::JobSpec& spec) {
        v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
        optimizer.set_kind(v1::Optimizer::KIND_ADAM);
        optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
      }};
  for (size_t i = 0; i < options.size(); ++i) {
    SCOPED_TRACE(i);
    v1::JobSpec spec = Job();
    options[i](spec);
    ExpectSame(Trace(spec), TraceOfSavedStates(spec));
  }
}

TEST_P(RunsConformanceTest, RoundsSayTheirRunAndAreCountedOverAllRuns) {
  const JobTrace trace = Trace(Job());
  ASSERT_EQ(static_cast<int32_t>(trace.rounds.size()),
            MethodRegistry::Builtin().TotalRounds(Job()));
  std::set<std::string> runs;
  for (size_t i = 0; i < trace.rounds.size(); ++i) {
    const v1::RoundSummary& round = trace.rounds[i];
    EXPECT_EQ(round.round(), static_cast<int32_t>(i) + 1);
    EXPECT_FALSE(round.run().empty());
    EXPECT_GE(round.run_round(), 1);
    EXPECT_LE(round.run_round(), 3);
    EXPECT_EQ(round.participants(), 3);
    EXPECT_EQ(round.has_test_loss(), round.run_round() >= 2);
    runs.insert(round.run());
  }
  EXPECT_GT(runs.size(), 1u);
  EXPECT_EQ(trace.final_state.round, static_cast<int32_t>(trace.rounds.size()));
  EXPECT_TRUE(trace.final_state.runs.empty());
}

// Each run ends once, with the model that it trained.
TEST_P(RunsConformanceTest, EveryRunEndsWithItsModel) {
  std::set<std::string> begun;
  std::set<std::string> ended;
  for (const Transition& transition : Trace(Job()).transitions) {
    for (const ProgramState& run : transition.state.runs) begun.insert(run.run);
    for (const Outcome& outcome : transition.of_runs) {
      EXPECT_EQ(outcome.committed.has_value(), outcome.checkpoint != nullptr);
      if (!outcome.ends_run) continue;
      EXPECT_TRUE(ended.insert(outcome.run).second);
      EXPECT_EQ(outcome.committed->run_round(), 3);
      for (const float value : outcome.checkpoint->values) ASSERT_TRUE(std::isfinite(value));
    }
  }
  EXPECT_EQ(begun, ended);
}

TEST_P(RunsConformanceTest, ResultsOfAnotherShapeAreRefused) {
  const auto program = Make(Job());
  const Transition start = program->Start().value();
  reduce::Reduced reduced;
  reduced.examples = 1;
  reduced.sections[v1::SECTION_KIND_VALUES].assign(3, 0.0f);
  EXPECT_EQ(base::ReasonOf(program->NextOfRuns(start.state, {reduced}).status()), "SHAPE_MISMATCH");
}

TEST_P(RunsConformanceTest, RowsThatStayOnWorkersAreRefused) {
  v1::JobSpec spec = SmallJob(GetParam());
  spec.clear_model();
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(12);
  model.set_items(20);
  model.mutable_lightgcn()->set_dimensions(5);
  model.set_private_users(true);
  const auto violations = Violations(spec);
  EXPECT_TRUE(std::ranges::any_of(violations, [](const config::Violation& found) {
    return found.field == "model.recommender.private_users";
  }));
}

TEST_P(RunsConformanceTest, DoneMeansDone) {
  const JobTrace trace = Trace(Job());
  EXPECT_EQ(base::ReasonOf(NextOf(*Make(Job()), trace.final_state, {}).status()), "PROGRAM_DONE");
}

TEST_P(RunsConformanceTest, ChannelsAreMeasuredOnceBeforeTheFirstRun) {
  v1::JobSpec spec = ConvJob(GetParam());
  spec.mutable_federation()->set_rounds(2);
  spec.mutable_data()->set_normalization(v1::DataSpec::NORMALIZATION_FEDERATED);
  const Transition start = Make(spec)->Start().value();
  ASSERT_EQ(start.state.runs.size(), 1u);
  EXPECT_TRUE(start.state.runs[0].step->task.has_channel_statistics());
  reduce::Reduced statistics;
  statistics.examples = 4;
  statistics.sections[v1::SECTION_KIND_CHANNEL_STATISTICS] = {.5F, 1, 0, 0};
  const Transition again = Make(spec)->NextOfRuns(start.state, {statistics}).value();
  const Transition next = Make(spec)->NextOfRuns(again.state, {statistics}).value();
  ASSERT_TRUE(next.normalization.has_value());
  EXPECT_TRUE(next.of_runs[0].prelude_step.has_value());
  EXPECT_EQ(next.of_runs[0].run, start.state.runs[0].run);
  EXPECT_EQ(next.state.runs[0].run, start.state.runs[0].run);
  EXPECT_FALSE(start.state.runs[0].run.empty());
  EXPECT_TRUE(next.state.runs[0].step->task.has_train());
}

std::vector<std::string> MethodsWithRuns() {
  std::vector<std::string> names;
  const MethodRegistry registry = MethodRegistry::Builtin();
  for (const MethodDeclaration& method : registry.all()) {
    if (method.total_rounds) names.push_back(method.name);
  }
  return names;
}

INSTANTIATE_TEST_SUITE_P(Methods, RunsConformanceTest, testing::ValuesIn(MethodsWithRuns()));

}  // namespace
}  // namespace espalier::server::methods
