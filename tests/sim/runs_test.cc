// Jobs that train several models: side by side on the fleet, told apart in events and checkpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::ElementsAre;

// Dense, then two levels with both controls; two rounds each.
v1::JobSpec ImpSpec(int shards = 2) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_method()->set_name("imp");
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters.clear();
  parameters["levels"].set_int_value(2);
  spec.mutable_federation()->set_rounds(2);
  spec.mutable_data()->mutable_partition()->set_shards(shards);
  return spec;
}

std::string HashAfter(Simulation& sim, const v1::JobSpec& spec,
                      const Simulation::Order& order = {}) {
  const std::string name = sim.Start(spec);
  sim.Run(name, order);
  const v1::Job job = sim.Job(name);
  EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
  return job.model_hash();
}

// Finishes tasks, one at a time, until a worker has one of a run other than the first.
void RunToTheFirstLevel(Simulation& sim) {
  for (int i = 0; i < 100 && sim.busy().front()->task().run() == "dense"; ++i) {
    sim.busy().front()->Finish();
    sim.Settle();
  }
}

TEST(RunsSimTest, RunsAreSideBySideOnTheFleet) {
  Simulation sim;
  sim.AddWorkers(3);
  sim.Start(ImpSpec(/*shards=*/1));
  sim.Settle();
  EXPECT_EQ(sim.busy().size(), 1u) << "one model, one shard: the others have nothing to do";
  RunToTheFirstLevel(sim);
  std::set<std::string> runs;
  for (const FakeWorker* worker : sim.busy()) runs.insert(worker->task().run());
  EXPECT_EQ(runs, (std::set<std::string>{"ticket-1", "reinit-1", "random-1"}));
}

TEST(RunsSimTest, JobEventsAndRoundsSayTheRun) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(ImpSpec());
  EXPECT_EQ(sim.Job(name).total_rounds(), 2 + 2 * 3 * 2);
  sim.Run(name);
  const v1::Job job = sim.Job(name);
  ASSERT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
  EXPECT_EQ(job.round(), job.total_rounds());
  EXPECT_EQ(job.spec().federation().rounds(), 2);
  std::vector<std::string> names;
  for (const v1::Run& run : job.runs()) {
    names.push_back(run.name());
    EXPECT_EQ(run.round(), 2);
    EXPECT_EQ(run.rounds(), 2);
    EXPECT_TRUE(run.has_last_metric());
    EXPECT_GE(run.best_round(), 1);
    EXPECT_FALSE(run.model_hash().empty());
    const auto checkpoint = sim.checkpoints().Get(run.latest_checkpoint());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    EXPECT_EQ(checkpoint->run, run.name());
    EXPECT_NEAR(checkpoint->density, run.density(), 1e-9);
  }
  EXPECT_THAT(names, ElementsAre("dense", "ticket-1", "reinit-1", "random-1", "ticket-2",
                                 "reinit-2", "random-2"));
  EXPECT_EQ(sim.List()[0].runs_size(), 0);
  std::map<std::string, int> begun;
  for (const v1::JobEvent& event : sim.Events(name, v1::JobEvent::kRoundStarted)) {
    ++begun[event.round_started().run()];
  }
  EXPECT_EQ(begun.size(), names.size());
  EXPECT_EQ(begun["reinit-2"], 2);
  int64_t sent = 0;
  for (const v1::JobEvent& event : sim.Events(name, v1::JobEvent::kRoundCommitted)) {
    const v1::RoundSummary& round = event.round_committed().summary();
    EXPECT_GT(round.bytes_sent(), 0) << round.run() << " " << round.run_round();
    EXPECT_GT(round.bytes_received(), 0);
    sent += round.bytes_sent();
  }
  EXPECT_GT(sent, 0);
}

TEST(RunsSimTest, WhoDoesWhatAndInWhichOrderMakesNoDifference) {
  Simulation one;
  one.AddWorkers(1);
  const std::string expected = HashAfter(one, ImpSpec());
  Simulation many;
  many.AddWorkers(5);
  EXPECT_EQ(HashAfter(many, ImpSpec()), expected);
  Simulation last_first;
  last_first.AddWorkers(4);
  EXPECT_EQ(HashAfter(last_first, ImpSpec(),
                      [](const std::vector<FakeWorker*>& busy) { return busy.size() - 1; }),
            expected);
  Simulation saved(0, 1, Simulation::Memory::kSavedStates);
  saved.AddWorkers(3);
  EXPECT_EQ(HashAfter(saved, ImpSpec()), expected) << "each step by a new program";
}

TEST(RunsSimTest, LargeModelsGoThroughThePool) {
  v1::JobSpec spec = LargeSpec();
  *spec.mutable_method() = ImpSpec().method();
  spec.mutable_federation()->set_rounds(2);
  Simulation one;
  one.AddWorkers(1);
  Simulation three;
  three.AddWorkers(3);
  EXPECT_EQ(HashAfter(one, spec), HashAfter(three, spec));
}

TEST(RunsSimTest, AWorkerThatVanishesCostsOneRunOneTask) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(ImpSpec(/*shards=*/1));
  sim.Settle();
  RunToTheFirstLevel(sim);
  for (FakeWorker* worker : sim.busy()) {
    if (worker->task().run() != "reinit-1") continue;
    worker->Vanish();
    break;
  }
  sim.Settle();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  const auto moved = sim.Events(name, v1::JobEvent::kTaskReassigned);
  ASSERT_EQ(moved.size(), 1u);
  EXPECT_EQ(moved[0].task_reassigned().run(), "reinit-1");
  EXPECT_EQ(moved[0].task_reassigned().round(), 1);
  Simulation calm;
  calm.AddWorkers(1);
  EXPECT_EQ(sim.Job(name).model_hash(), HashAfter(calm, ImpSpec(1)));
}

TEST(RunsSimTest, ARunThatFailsEndsTheJobAndWithdrawsTheOthersTasks) {
  Simulation sim;
  sim.AddWorkers(2);
  v1::JobSpec spec = ImpSpec(/*shards=*/1);
  spec.mutable_federation()->set_max_retries(0);
  const std::string name = sim.Start(spec);
  sim.Settle();
  RunToTheFirstLevel(sim);
  ASSERT_EQ(sim.busy().size(), 2u);
  // Who trained the dense model has proven itself.
  FakeWorker& proven = *sim.busy().front();
  proven.Finish();
  sim.Settle();
  ASSERT_EQ(sim.busy().size(), 2u);
  proven.Fail("NON_FINITE", "training diverges");
  sim.Settle();
  const v1::Job job = sim.Job(name);
  EXPECT_EQ(job.state(), v1::Job::STATE_FAILED);
  EXPECT_THAT(job.failure_message(), testing::HasSubstr("training diverges"));
  EXPECT_EQ(sim.busy().size(), 0u) << "nobody computes what nobody wants";
}

TEST(RunsSimTest, CancellingWithdrawsTheTasksOfAllRuns) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(ImpSpec(/*shards=*/1));
  sim.Settle();
  RunToTheFirstLevel(sim);
  ASSERT_EQ(sim.busy().size(), 3u);
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  sim.Settle();
  EXPECT_EQ(sim.busy().size(), 0u);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_CANCELLED);
}

TEST(RunsSimTest, AJobOfSeveralRunsIsPricedAsSuch) {
  v1::JobSpec spec = LargeSpec();
  *spec.mutable_method() = ImpSpec().method();
  Simulation sim(/*memory_budget=*/200'000'000);
  sim.AddWorkers(1);
  std::vector<config::Violation> violations;
  EXPECT_TRUE(sim.Create(spec, violations).ok())
      << (violations.empty() ? "" : violations[0].description);
  Simulation small(/*memory_budget=*/60'000'000);
  small.AddWorkers(1);
  EXPECT_FALSE(small.Create(spec, violations).ok());
  ASSERT_FALSE(violations.empty());
  EXPECT_THAT(violations[0].description, testing::HasSubstr("3 models at once"));
}

// The candidates of fedtiny: compared at once, whoever is there to do it.
TEST(RunsSimTest, CandidatesAreComparedSideBySide) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_method()->set_name("fedtiny");
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters.clear();
  parameters["density"].set_double_value(0.5);
  parameters["pool_size"].set_int_value(4);
  parameters["blocks"].set_int_value(1);
  spec.mutable_data()->mutable_partition()->set_shards(1);
  Simulation one;
  one.AddWorkers(1);
  const std::string expected = HashAfter(one, spec);
  Simulation four;
  four.AddWorkers(4);
  const std::string name = four.Start(spec);
  four.Settle();
  std::set<std::string> candidates;
  for (const FakeWorker* worker : four.busy()) candidates.insert(worker->task().run());
  EXPECT_EQ(candidates,
            (std::set<std::string>{"candidate-1", "candidate-2", "candidate-3", "candidate-4"}));
  four.Run(name);
  EXPECT_EQ(four.Job(name).model_hash(), expected);
  EXPECT_EQ(four.Events(name, v1::JobEvent::kPreludeStep).size(), 4u);
  EXPECT_EQ(four.Job(name).runs_size(), 0) << "candidates are not runs of the job";
  EXPECT_GT(four.Job(name).prelude_bytes_sent(), 0);
}

v1::JobSpec FedTinySpec(int candidates) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_method()->set_name("fedtiny");
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters.clear();
  parameters["density"].set_double_value(0.5);
  parameters["pool_size"].set_int_value(candidates);
  parameters["blocks"].set_int_value(1);
  spec.mutable_data()->mutable_partition()->set_shards(2);
  return spec;
}

// Ten steps wait for one worker: their deadlines are those of ten steps.
TEST(RunsSimTest, StepsSideBySideHaveTheTimeOfAllOfThem) {
  v1::JobSpec spec = FedTinySpec(10);
  spec.mutable_federation()->mutable_round_deadline()->set_seconds(60);
  spec.mutable_federation()->set_on_quorum_loss(v1::Federation::QUORUM_POLICY_FAIL);
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(spec);
  for (int i = 0; i < 1000 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
    sim.Pass(absl::Seconds(20));  // for each task
    if (!sim.busy().empty()) sim.busy().front()->Finish();
    sim.Settle();
  }
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
}

// Whatever takes a task of this job ends. That is found out one worker at a time, although ten steps are in work, and the job says so.
TEST(RunsSimTest, TasksThatEndWorkersAreTriedOneAtATimeAmongAllSteps) {
  Simulation sim;
  sim.AddWorkers(4);
  // All have proven themselves.
  v1::JobSpec harmless = SmallSpec();
  sim.Run(sim.Start(harmless));
  const std::string name = sim.Start(FedTinySpec(10));
  int lost = 0;
  size_t at_once = 0;
  for (int second = 0; second < 1800 && sim.State(name) == v1::Job::STATE_RUNNING; ++second) {
    const std::vector<FakeWorker*> busy = sim.busy();
    if (second > 10) at_once = std::max(at_once, busy.size());
    for (FakeWorker* worker : busy) {
      worker->Vanish();
      ++lost;
    }
    sim.Settle();
    sim.Tick();
    for (FakeWorker* worker : sim.workers()) {
      const bool back = worker->connected() || worker->Connect().ok();
      EXPECT_TRUE(back);
    }
    sim.Settle();
  }
  EXPECT_EQ(sim.State(name), v1::Job::STATE_FAILED);
  EXPECT_EQ(sim.Job(name).failure_reason(), "TASK_ENDS_WORKERS");
  EXPECT_THAT(sim.Job(name).failure_message(), testing::HasSubstr("of candidate-"));
  EXPECT_LE(at_once, 1u);
  EXPECT_LE(lost, 60);
}

// The last worker with local data leaves while runs of a level are between steps.
TEST(RunsSimTest, LocalRunsWaitForAWorkerToComeBack) {
  v1::JobSpec spec = LargeSpec();
  *spec.mutable_method() = ImpSpec().method();
  v1::Partition& partition = *spec.mutable_data()->mutable_partition();
  partition.clear_shards();
  partition.set_kind(v1::Partition::KIND_LOCAL);
  spec.mutable_federation()->set_rounds(3);
  spec.mutable_federation()->mutable_round_deadline()->set_seconds(30);
  (*spec.mutable_method()->mutable_parameters())["rewind_round"].set_int_value(1);
  Simulation sim;
  FakeWorker& worker = sim.Add("w0");
  const std::string name = sim.Start(spec);
  for (int i = 0; i < 200 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
    if (worker.busy()) {
      const bool leaves = worker.task().run() != "dense" && i % 5 == 0;
      worker.Finish();
      if (leaves) {
        worker.Vanish();
        sim.Settle();
        sim.Pass(absl::Minutes(10));
        ASSERT_EQ(sim.State(name), v1::Job::STATE_RUNNING) << sim.Job(name).failure_message();
        ASSERT_TRUE(worker.Connect().ok());
      }
    }
    sim.Settle();
    sim.Tick();
  }
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
}

}  // namespace
}  // namespace espalier::test
