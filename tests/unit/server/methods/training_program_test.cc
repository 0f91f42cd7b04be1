#include <gtest/gtest.h>

#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

test::JobTrace Trace(const v1::JobSpec& spec) {
  return test::RunJob(*MethodRegistry::Builtin().Make(spec).value(), test::FakeFleet(3)).value();
}

TEST(TrainingProgramTest, EvaluatesCentrallyWhenNothingIsSaid) {
  const auto trace = Trace(SmallJob("dense"));
  const Step& evaluate = *trace.transitions[1].step;
  ASSERT_TRUE(evaluate.task.has_evaluate());
  EXPECT_TRUE(evaluate.task.evaluate().whole_test_split());
  EXPECT_EQ(evaluate.participants, Participants::kAnyOne);
  EXPECT_EQ(evaluate.reducer, reduce::ReducerKind::kMetrics);
  EXPECT_EQ(evaluate.round, 1);
  EXPECT_TRUE(trace.transitions[2].committed);
}

TEST(TrainingProgramTest, FederatedEvaluationComesBeforeTheCentralOne) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_evaluation()->set_federated(true);
  spec.mutable_evaluation()->set_central(true);
  const auto trace = Trace(spec);
  EXPECT_EQ(trace.transitions[1].step->participants, Participants::kAll);
  EXPECT_FALSE(trace.transitions[1].step->task.evaluate().whole_test_split());
  EXPECT_EQ(trace.transitions[2].step->participants, Participants::kAnyOne);
  EXPECT_TRUE(trace.transitions[3].committed);
}

TEST(TrainingProgramTest, FederatedEvaluationAloneCommits) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_evaluation()->set_federated(true);
  const auto trace = Trace(spec);
  EXPECT_TRUE(trace.transitions[2].committed);
  EXPECT_FALSE(trace.rounds[0].has_test_loss());
  EXPECT_TRUE(trace.rounds[0].has_federated_test_loss());
}

TEST(TrainingProgramTest, LastRoundIsAlwaysEvaluated) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_evaluation()->set_every_rounds(7);
  const auto trace = Trace(spec);
  for (const v1::RoundSummary& summary : trace.rounds) {
    EXPECT_EQ(summary.has_test_loss(), summary.round() % 7 == 0 || summary.round() == 20);
  }
}

TEST(TrainingProgramTest, ScheduleAndFirstStepGoIntoTheTask) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_training()->set_local_steps(11);
  spec.mutable_training()->mutable_schedule()->set_kind(v1::LearningRateSchedule::KIND_STEP);
  spec.mutable_training()->mutable_schedule()->add_milestones(3);
  for (const Transition& transition : Trace(spec).transitions) {
    if (!transition.step || !transition.step->task.has_train()) continue;
    const v1::TrainTask& train = transition.step->task.train();
    EXPECT_EQ(train.first_step(), (transition.step->round - 1) * 11);
    EXPECT_DOUBLE_EQ(train.learning_rate(), transition.step->round < 3 ? 0.3 : 0.03);
    EXPECT_EQ(train.training().batch_size(), 32);
  }
}

TEST(TrainingProgramTest, EchoLeavesTheModelAsItIs) {
  const auto trace = Trace(SmallJob("echo"));
  EXPECT_EQ(trace.final_state.model.values, trace.transitions[0].state.model.values);
  EXPECT_EQ(trace.transitions.size(), 21u);
}

TEST(TrainingProgramTest, TrainingApproachesTheTargets) {
  const auto trace = Trace(SmallJob("dense"));
  EXPECT_LT(trace.rounds.back().train_loss(), trace.rounds.front().train_loss());
}

}  // namespace
}  // namespace espalier::server::methods
