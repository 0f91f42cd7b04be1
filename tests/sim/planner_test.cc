// Jobs whose structure is decided outside of their program: the planner's lease and its answers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/wire/values_codec.h"
#include "server/methods/parameters/params.h"
#include "server/methods/planning/decision.h"
#include "server/methods/planning/planned_program.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using server::jobs::PlannerSeat;
using server::jobs::Question;
using server::methods::Evolution;
using testing::HasSubstr;

constexpr double kZeta = 0.3;

server::methods::MethodDeclaration PlannedMethod() {
  return {.name = "planned",
          .summary = "A structure that a planner decides.",
          .source = "none",
          .parameters = server::methods::StructureParameters("set_epsilon"),
          .validate = nullptr,
          .make =
              [](const v1::JobSpec& spec, const config::Parameters& parameters) {
                server::methods::PlannedOptions options{
                    .budget = server::methods::BudgetOf(spec, parameters)};
                return std::make_unique<server::methods::PlannedProgram>(spec, options);
              },
          .stored_counts = server::methods::StoredCountsOf};
}

v1::JobSpec PlannedSpec() {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_method()->set_name("planned");
  return spec;
}

// As Mocanu et al. decide: the weakest weights go, and as many grow at random.
std::string DecideAsSet(const Question& question, uint64_t seed) {
  const auto values =
      wire::DecodeValues(question.values->bytes(), question.structure->total_stored());
  EXPECT_TRUE(values.ok()) << values.status();
  Evolution decision;
  for (size_t i = 0; i < question.structure->num_tensors(); ++i) {
    if (!question.structure->is_sparse(i)) continue;
    server::methods::StructureChange::Tensor change;
    change.tensor = i;
    change.diff.dropped = sparsity::DropSetSigned(
        std::span(*values).subspan(question.structure->offset(i), question.structure->stored(i)),
        kZeta);
    change.growth_key = base::StreamKey(seed, "grow", {i, static_cast<uint64_t>(question.round)});
    if (!change.diff.dropped.empty()) decision.push_back(std::move(change));
  }
  return server::methods::EncodeDecision(decision);
}

class PlannerSimTest : public testing::Test {
 protected:
  explicit PlannerSimTest(Simulation::Memory memory = Simulation::Memory::kKept)
      : sim(0, 1, memory, {PlannedMethod()}) {
    sim.AddWorkers(2);
  }

  // Starts a job and does its first round's training.
  std::string Begin(const v1::JobSpec& spec) {
    const std::string name = sim.Start(spec);
    sim.Run(name);
    return name;
  }
  std::shared_ptr<PlannerSeat> SeatOf(const std::string& name) {
    return sim.jobs.PlannerOf(name).value();
  }
  // Answers all questions, and has workers do what follows, until the job has ended.
  void RunWithSet(const std::string& name, const std::string& lease, uint64_t seed) {
    for (int i = 0; i < 100 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
      sim.Run(name);
      const auto open = SeatOf(name)->Open(lease);
      if (!open.ok()) return;
      for (const Question& question : *open) {
        const absl::Status answered =
            SeatOf(name)->Answer(lease, question.id, DecideAsSet(question, seed));
        EXPECT_TRUE(answered.ok()) << answered;
      }
      sim.Settle();
    }
  }

  Simulation sim;
};

class PlannerFromSavedStatesSimTest : public PlannerSimTest {
 protected:
  PlannerFromSavedStatesSimTest() : PlannerSimTest(Simulation::Memory::kSavedStates) {}
};

std::string HashOfSet() {
  Simulation sim;
  sim.AddWorkers(2);
  v1::JobSpec spec = SmallSpec();
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters["zeta"].set_double_value(kZeta);
  parameters["grown_weights"].set_string_value("zero");
  const std::string name = sim.Start(spec);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  return sim.Job(name).model_hash();
}

TEST_F(PlannerSimTest, PlannerThatDecidesAsSetGivesItsModel) {
  const v1::JobSpec spec = PlannedSpec();
  const std::string name = Begin(spec);
  RunWithSet(name, SeatOf(name)->Take("set").value(), spec.seed());
  const v1::Job job = sim.Job(name);
  ASSERT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
  EXPECT_EQ(job.model_hash(), HashOfSet());
  EXPECT_GT(job.history(0).weights_changed(), 0);
}

TEST_F(PlannerFromSavedStatesSimTest, ModelIsTheSame) {
  const v1::JobSpec spec = PlannedSpec();
  const std::string name = Begin(spec);
  RunWithSet(name, SeatOf(name)->Take("set").value(), spec.seed());
  ASSERT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
  EXPECT_EQ(sim.Job(name).model_hash(), HashOfSet());
}

TEST_F(PlannerSimTest, JobWaitsForAPlannerAndSaysSo) {
  const std::string name = Begin(PlannedSpec());
  sim.Pass(absl::Hours(2));
  const v1::Job job = sim.Job(name);
  ASSERT_EQ(job.state(), v1::Job::STATE_RUNNING) << job.failure_message();
  ASSERT_EQ(job.conditions_size(), 1);
  EXPECT_EQ(job.conditions(0).type(), "WAITING_PLANNER");
  EXPECT_THAT(job.conditions(0).message(), HasSubstr("round 1"));
  RunWithSet(name, SeatOf(name)->Take("set").value(), 7);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST_F(PlannerSimTest, NextPlannerFindsWhatTheDeadOneLeft) {
  const std::string name = Begin(PlannedSpec());
  const auto seat = SeatOf(name);
  const std::string dead = seat->Take("first").value();
  const auto asked = seat->Open(dead);
  ASSERT_TRUE(asked.ok() && asked->size() == 1);
  EXPECT_EQ(base::ReasonOf(seat->Take("second").status()), "SEAT_TAKEN");
  sim.Pass(absl::Minutes(1));
  const auto taken = seat->Take("second");
  ASSERT_TRUE(taken.ok()) << taken.status();
  // What the first one answers now would be about a job that another decides for.
  const std::string question = asked->front().id;
  EXPECT_EQ(base::ReasonOf(seat->Answer(dead, question, "")), "LEASE_ENDED");
  const auto open = seat->Open(*taken);
  ASSERT_TRUE(open.ok() && open->size() == 1);
  EXPECT_EQ(open->front().id, question);
  RunWithSet(name, *taken, 7);
  EXPECT_EQ(sim.Job(name).model_hash(), HashOfSet());
}

TEST_F(PlannerSimTest, LeaseLastsAsLongAsItIsRenewed) {
  const std::string name = Begin(PlannedSpec());
  const auto seat = SeatOf(name);
  const std::string lease = seat->Take("slow").value();
  for (int i = 0; i < 10; ++i) {
    sim.Pass(absl::Seconds(20));
    ASSERT_TRUE(seat->Renew(lease).ok());
  }
  EXPECT_TRUE(sim.Job(name).conditions().empty());
  ASSERT_TRUE(seat->Leave(lease).ok());
  EXPECT_EQ(base::ReasonOf(seat->Renew(lease)), "LEASE_ENDED");
  EXPECT_TRUE(seat->Take("next").ok()) << "whoever leaves makes room at once";
}

TEST_F(PlannerSimTest, RefusedDecisionLeavesTheQuestionOpen) {
  const std::string name = Begin(PlannedSpec());
  const auto seat = SeatOf(name);
  const std::string lease = seat->Take("careless").value();
  const std::string question = seat->Open(lease).value().front().id;
  const std::string hash = sim.Job(name).model_hash();
  EXPECT_EQ(base::ReasonOf(seat->Answer(lease, question, "nonsense")), "INVALID_DECISION");
  EXPECT_EQ(base::ReasonOf(seat->Answer(lease, "round-9", "")), "NO_SUCH_QUESTION");
  sim.Settle();
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  EXPECT_EQ(sim.Job(name).model_hash(), hash);
  RunWithSet(name, lease, 7);
  EXPECT_EQ(sim.Job(name).model_hash(), HashOfSet());
}

TEST_F(PlannerSimTest, AnswerThatCountedIsNotTakenTwice) {
  const std::string name = Begin(PlannedSpec());
  const auto seat = SeatOf(name);
  const std::string lease = seat->Take("twice").value();
  const Question question = seat->Open(lease).value().front();
  const std::string decision = DecideAsSet(question, 7);
  ASSERT_TRUE(seat->Answer(lease, question.id, decision).ok());
  EXPECT_EQ(base::ReasonOf(seat->Answer(lease, question.id, decision)), "NO_SUCH_QUESTION");
  sim.Settle();
  RunWithSet(name, lease, 7);
  EXPECT_EQ(sim.Job(name).model_hash(), HashOfSet());
}

class PlannerDeadlineSimTest : public PlannerSimTest,
                               public testing::WithParamInterface<v1::Federation::QuorumPolicy> {};

TEST_P(PlannerDeadlineSimTest, PolicySaysWhatFollowsWhenThePlannerIsSilent) {
  v1::JobSpec spec = PlannedSpec();
  spec.mutable_federation()->mutable_round_deadline()->set_seconds(60);
  spec.mutable_federation()->set_on_quorum_loss(GetParam());
  spec.mutable_federation()->set_max_extensions(1);
  const std::string name = Begin(spec);
  const auto seat = SeatOf(name);
  const std::string lease = seat->Take("silent").value();
  const auto pass = [&](int seconds) {
    for (int i = 0; i < seconds / 10; ++i) {
      sim.Pass(absl::Seconds(10));
      (void)seat->Renew(lease);
    }
  };
  pass(50);
  EXPECT_TRUE(sim.Events(name, v1::JobEvent::kQuorumMissed).empty());
  pass(20);
  const auto missed = sim.Events(name, v1::JobEvent::kQuorumMissed);
  ASSERT_EQ(missed.size(), 1U);
  EXPECT_EQ(missed[0].quorum_missed().needed(), 1);
  if (GetParam() == v1::Federation::QUORUM_POLICY_PROCEED) {
    EXPECT_EQ(missed[0].quorum_missed().decision(), "proceed");
    sim.Run(name);
    EXPECT_EQ(sim.Job(name).history(0).weights_changed(), 0) << "nothing was decided";
    return;
  }
  if (GetParam() == v1::Federation::QUORUM_POLICY_EXTEND) {
    EXPECT_EQ(missed[0].quorum_missed().decision(), "extend");
    EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
    pass(60);
  }
  const v1::Job job = sim.Job(name);
  EXPECT_EQ(job.state(), v1::Job::STATE_FAILED);
  EXPECT_EQ(job.failure_reason(), "PLANNER_SILENT");
  EXPECT_EQ(base::ReasonOf(seat->Renew(lease)), "JOB_ENDED");
}

INSTANTIATE_TEST_SUITE_P(Policies, PlannerDeadlineSimTest,
                         testing::Values(v1::Federation::QUORUM_POLICY_EXTEND,
                                         v1::Federation::QUORUM_POLICY_PROCEED,
                                         v1::Federation::QUORUM_POLICY_FAIL));

TEST_F(PlannerSimTest, CancelledJobHasNoSeat) {
  const std::string name = Begin(PlannedSpec());
  const auto seat = SeatOf(name);
  const std::string lease = seat->Take("late").value();
  const std::string question = seat->Open(lease).value().front().id;
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  sim.Settle();
  EXPECT_EQ(base::ReasonOf(seat->Answer(lease, question, "")), "JOB_ENDED");
  EXPECT_EQ(base::ReasonOf(seat->Take("later").status()), "JOB_ENDED");
  EXPECT_EQ(sim.State(name), v1::Job::STATE_CANCELLED);
}

TEST_F(PlannerSimTest, JobThatDecidesByItselfHasNoSeat) {
  const std::string name = sim.Start(SmallSpec());
  EXPECT_EQ(base::ReasonOf(sim.jobs.PlannerOf(name).status()), "NO_PLANNER");
  EXPECT_EQ(base::ReasonOf(sim.jobs.PlannerOf("jobs/none").status()), "JOB_NOT_FOUND");
}

}  // namespace
}  // namespace espalier::test
