// Jobs whose updates are not just averaged: hostile participants, server optimizers, and control
// variates, which every participant gets its own of.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <set>

#include "common/io/sha256.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/values_codec.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

const v1::Correction& CorrectionOf(const v1::Task& task) {
  return wire::AdditionOf(task.train(), v1::TrainAddition::kCorrection).correction();
}

v1::JobSpec Scaffold(v1::JobSpec spec) {
  spec.mutable_training()->set_control_variates(true);
  return spec;
}

struct Ran {
  v1::Job job;
  std::vector<v1::Task> tasks;  // of training
};

Ran RunJob(const v1::JobSpec& spec, int workers, const Simulation::Order& order = {}) {
  Simulation sim;
  sim.AddWorkers(workers);
  const std::string name = sim.Start(spec);
  sim.Run(name, order);
  Ran ran{sim.Job(name), {}};
  EXPECT_EQ(ran.job.state(), v1::Job::STATE_SUCCEEDED) << ran.job.failure_message();
  for (const FakeWorker* worker : sim.workers()) {
    for (const v1::Task& task : worker->received()) {
      if (task.has_train()) ran.tasks.push_back(task);
    }
  }
  return ran;
}

size_t Last(const std::vector<FakeWorker*>& busy) { return busy.size() - 1; }

TEST(ControlVariatesSimTest, EveryParticipantGetsItsOwnCorrectionFromTheSecondRoundOn) {
  const Ran ran = RunJob(Scaffold(SmallSpec()), 2);
  std::set<std::string> digests;
  int corrected = 0;
  for (const v1::Task& task : ran.tasks) {
    EXPECT_EQ(CorrectionOf(task).has_values(), task.round() > 1) << task.participant();
    if (!CorrectionOf(task).has_values()) continue;
    EXPECT_EQ(CorrectionOf(task).values().size_bytes(), task.model().values().size_bytes());
    digests.insert(CorrectionOf(task).values().digest());
    ++corrected;
  }
  EXPECT_EQ(corrected, 8);
  EXPECT_EQ(digests.size(), 8u);
}

TEST(ControlVariatesSimTest, UploadsAreNoLarger) {
  const Ran plain = RunJob(SmallSpec(), 2);
  const Ran corrected = RunJob(Scaffold(SmallSpec()), 2);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(plain.job.history(i).bytes_received(), corrected.job.history(i).bytes_received());
  }
  EXPECT_GT(corrected.job.history(1).bytes_sent(), plain.job.history(1).bytes_sent());
  EXPECT_NE(plain.job.model_hash(), corrected.job.model_hash());
}

TEST(ControlVariatesSimTest, ModelDoesNotDependOnWorkersOrTheirOrder) {
  for (const v1::JobSpec& spec : {Scaffold(SmallSpec()), Scaffold(LargeSpec())}) {
    const std::string expected = RunJob(spec, 1).job.model_hash();
    EXPECT_EQ(RunJob(spec, 4).job.model_hash(), expected);
    EXPECT_EQ(RunJob(spec, 3, Last).job.model_hash(), expected);
  }
}

TEST(ControlVariatesSimTest, TaskOfALostWorkerKeepsItsCorrection) {
  const std::string expected = RunJob(Scaffold(LargeSpec()), 2).job.model_hash();
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(Scaffold(LargeSpec()));
  bool vanished = false;
  while (!sim.busy().empty()) {
    FakeWorker* worker = sim.busy().front();
    if (!vanished && CorrectionOf(worker->task()).has_values()) {
      vanished = true;
      worker->Vanish();
      sim.Settle();
      continue;
    }
    ASSERT_TRUE(worker->Finish());
    sim.Settle();
  }
  EXPECT_TRUE(vanished);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).model_hash(), expected);
}

TEST(ControlVariatesSimTest, PartialCohortsShareTheMeanUntilTheyHaveTheirOwn) {
  v1::JobSpec spec = Scaffold(SmallSpec());
  spec.mutable_federation()->set_cohort_size(2);
  spec.mutable_federation()->set_rounds(4);
  const Ran ran = RunJob(spec, 2);
  EXPECT_EQ(RunJob(spec, 1).job.model_hash(), ran.job.model_hash());
  for (const v1::Task& task : ran.tasks) {
    EXPECT_EQ(CorrectionOf(task).has_values(), task.round() > 1);
  }
}

// Sends back `factor` times the difference from the round's model.
Update Scaled(FakeWorker& worker, float factor) {
  Update update = worker.Compute();
  const uint64_t count = update.header.sections(0).count();
  std::vector<float> values = wire::DecodeValues(update.body, count).value();
  for (float& value : values) value *= factor;
  update.body = std::string(wire::ValuesAsBytes(values));
  update.header.set_body_sha256(io::Sha256Hex(update.body));
  return update;
}

// Largest |value| of the last model when shard 3 of five multiplies its updates by −1000.
float LargestUnderAttack(v1::JobSpec spec) {
  spec.mutable_data()->mutable_partition()->set_shards(5);
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(spec);
  while (!sim.busy().empty()) {
    FakeWorker* worker = sim.busy().front();
    const bool hostile = worker->task().has_train() && worker->task().shard() == 3;
    const auto answer = worker->Send(hostile ? Scaled(*worker, -1000) : worker->Compute());
    sim.Settle();
    EXPECT_TRUE(answer->status.ok()) << answer->status;
  }
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
  const auto loaded = sim.checkpoints().Load(sim.Job(name).latest_checkpoint());
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  float largest = 0;
  for (const float value : loaded->state.values) largest = std::max(largest, std::abs(value));
  return largest;
}

TEST(RobustSimTest, OneParticipantRuinsTheMeanButNotTheRobustRules) {
  EXPECT_GT(LargestUnderAttack(SmallSpec()), 1000);
  using A = v1::Aggregation;
  for (const A::Rule rule :
       {A::RULE_MEDIAN, A::RULE_TRIMMED_MEAN, A::RULE_KRUM, A::RULE_MULTI_KRUM}) {
    v1::JobSpec spec = SmallSpec();
    spec.mutable_aggregation()->set_rule(rule);
    const bool krum = rule == A::RULE_KRUM || rule == A::RULE_MULTI_KRUM;
    if (krum) spec.mutable_aggregation()->set_byzantine(1);
    EXPECT_LT(LargestUnderAttack(spec), 10) << A::Rule_Name(rule);
  }
  v1::JobSpec clipped = SmallSpec();
  clipped.mutable_aggregation()->set_clip_norm(1);
  EXPECT_LT(LargestUnderAttack(clipped), 10);
}

// A rule that tolerates one hostile update also tolerates one that is refused.
TEST(RobustSimTest, ParticipantWhoseUpdatesAreAllRefusedIsToleratedLikeAHostileOne) {
  using A = v1::Aggregation;
  for (const auto rule :
       {A::RULE_KRUM, A::RULE_MULTI_KRUM, A::RULE_MEDIAN, A::RULE_TRIMMED_MEAN, A::RULE_MEAN}) {
    SCOPED_TRACE(A::Rule_Name(rule));
    v1::JobSpec spec = SmallSpec();
    spec.mutable_data()->mutable_partition()->clear_shards();
    spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
    spec.mutable_federation()->set_min_workers(5);
    spec.mutable_aggregation()->set_rule(rule);
    if (rule == A::RULE_KRUM || rule == A::RULE_MULTI_KRUM) {
      spec.mutable_aggregation()->set_byzantine(1);
    }
    Simulation sim;
    sim.AddWorkers(5);
    const std::string name = sim.Start(spec);
    for (int i = 0; i < 100 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
      for (FakeWorker* worker : sim.busy()) {
        if (!worker->busy()) continue;
        Update update = worker->Compute();
        if (worker->id() == "w2" && worker->task().has_train()) {
          const float poison = std::nanf("");
          std::memcpy(update.body.data(), &poison, sizeof poison);
        }
        worker->Send(update);
        sim.Settle();
      }
      sim.Tick();
    }
    const v1::Job job = sim.Job(name);
    if (rule == A::RULE_MEAN) {
      EXPECT_EQ(job.state(), v1::Job::STATE_FAILED);
      EXPECT_EQ(job.failure_reason(), "NON_FINITE");
      continue;
    }
    EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
    for (const v1::RoundSummary& round : job.history()) EXPECT_EQ(round.participants(), 4);
  }
}

TEST(RobustSimTest, KrumFailsTheJobWhenTooFewWorkersWithLocalDataAreLeft) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->mutable_partition()->clear_shards();
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  spec.mutable_federation()->set_min_workers(5);
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_KRUM);
  spec.mutable_aggregation()->set_byzantine(1);
  Simulation sim;
  sim.AddWorkers(5);
  const std::string name = sim.Start(spec);
  while (sim.Job(name).round() == 0) {
    sim.busy().front()->Finish();
    sim.Settle();
  }
  // One leaves in the second round for good, and four are not enough.
  ASSERT_TRUE(sim.worker("w4").busy());
  sim.worker("w4").Vanish();
  sim.Run(name);
  sim.Pass(absl::Hours(1));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_FAILED);
  EXPECT_THAT(sim.Job(name).failure_message(), testing::HasSubstr("expected"));
  EXPECT_EQ(sim.Job(name).round(), 1);
}

TEST(RobustSimTest, LargeModelsAreReducedOnThePool) {
  v1::JobSpec spec = LargeSpec();
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
  const std::string expected = RunJob(spec, 1).job.model_hash();
  EXPECT_EQ(RunJob(spec, 4, Last).job.model_hash(), expected);
}

TEST(ServerOptimizerSimTest, MomentumZeroAtRateOneIsPlainAveraging) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_aggregation()->set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_MOMENTUM);
  spec.mutable_aggregation()->set_server_momentum(0);
  EXPECT_EQ(RunJob(spec, 2).job.model_hash(), RunJob(SmallSpec(), 2).job.model_hash());
  spec.mutable_aggregation()->set_server_momentum(0.5);
  EXPECT_NE(RunJob(spec, 2).job.model_hash(), RunJob(SmallSpec(), 2).job.model_hash());
}

}  // namespace
}  // namespace espalier::test
