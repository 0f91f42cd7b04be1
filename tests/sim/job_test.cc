// A job from its acceptance to its end, with workers that do what they should.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "server/jobs/site_evaluations.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

std::vector<v1::JobEvent::KindCase> Kinds(const std::vector<v1::JobEvent>& events) {
  std::vector<v1::JobEvent::KindCase> kinds;
  for (const v1::JobEvent& event : events) kinds.push_back(event.kind_case());
  return kinds;
}

std::string HashWith(const v1::JobSpec& spec, int workers, const Simulation::Order& order = {}) {
  Simulation sim;
  sim.AddWorkers(workers);
  const std::string job = sim.Start(spec);
  sim.Run(job, order);
  EXPECT_EQ(sim.State(job), v1::Job::STATE_SUCCEEDED);
  return sim.Job(job).model_hash();
}

TEST(JobSimTest, FourShardsOnTwoWorkersRunToTheEnd) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  sim.Run(name);
  const v1::Job job = sim.Job(name);
  EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(job.round(), 3);
  ASSERT_THAT(job.history(), SizeIs(3));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(job.history(i).round(), i + 1);
    EXPECT_EQ(job.history(i).participants(), 4);
    EXPECT_EQ(job.history(i).examples(), 10 + 20 + 30 + 40);
    EXPECT_TRUE(job.history(i).has_test_accuracy());
    EXPECT_GT(job.history(i).bytes_sent(), 0);
    EXPECT_GT(job.history(i).bytes_received(), 0);
  }
  EXPECT_EQ(job.conditions_size(), 0);
}

TEST(JobSimTest, EventsComeInOrderAndCanBeReadFromAnySequence) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  sim.Run(name);
  using K = v1::JobEvent;
  const std::vector<v1::JobEvent> events = sim.Events(name);
  EXPECT_THAT(Kinds(events),
              ElementsAre(K::kStateChanged, K::kStateChanged, K::kRoundStarted, K::kRoundCommitted,
                          K::kRoundStarted, K::kRoundCommitted, K::kRoundStarted,
                          K::kCheckpointWritten, K::kRoundCommitted, K::kStateChanged));
  const auto log = sim.Find(name)->events();
  EXPECT_TRUE(log->closed());
  EXPECT_EQ(log->last_sequence(), static_cast<int64_t>(events.size()));
  for (size_t after = 0; after < events.size(); ++after) {
    EXPECT_EQ(log->After(static_cast<int64_t>(after))->sequence(), static_cast<int64_t>(after) + 1);
  }
  EXPECT_FALSE(log->After(log->last_sequence()).has_value());
}

TEST(JobSimTest, CheckpointHoldsTheModelOfTheLastRound) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  sim.Run(name);
  const v1::Job job = sim.Job(name);
  const auto loaded = sim.checkpoints().Load(job.latest_checkpoint());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->metadata.round, 3);
  EXPECT_EQ(loaded->state.topology->total_stored(), job.stored_parameters());
}

TEST(JobSimTest, CheckpointsAreKeptAsThePolicySays) {
  Simulation sim;
  sim.AddWorkers(1);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(6);
  spec.mutable_checkpoint()->set_every_rounds(1);
  spec.mutable_checkpoint()->set_keep(2);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  EXPECT_THAT(sim.Events(name, v1::JobEvent::kCheckpointWritten), SizeIs(6));
  // The best one is the first of equals, and stays beside the newest two.
  EXPECT_THAT(sim.checkpoints().List(name.substr(5)), SizeIs(3));
}

TEST(JobSimTest, ModelIsTheSameForAnyNumberOfWorkersAndOrderOfArrival) {
  const std::string expected = HashWith(SmallSpec(), 1);
  EXPECT_EQ(HashWith(SmallSpec(), 2), expected);
  EXPECT_EQ(HashWith(SmallSpec(), 5), expected);
  EXPECT_EQ(HashWith(SmallSpec(), 4, [](const auto& busy) { return busy.size() - 1; }), expected);
  EXPECT_EQ(HashWith(SmallSpec(), 4, [](const auto& busy) { return busy.size() / 2; }), expected);
}

TEST(JobSimTest, AnotherSeedGivesAnotherModel) {
  v1::JobSpec other = SmallSpec();
  other.set_seed(8);
  EXPECT_NE(HashWith(other, 2), HashWith(SmallSpec(), 2));
}

TEST(JobSimTest, LargeModelGoesThroughThePoolWithTheSameResult) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(LargeSpec());
  ASSERT_THAT(sim.busy(), SizeIs(4));
  ASSERT_GT(sim.Job(name).stored_parameters(), 65'536);
  // All arrive before the first is merged.
  std::vector<std::shared_ptr<Answer>> answers;
  for (FakeWorker* worker : sim.busy()) answers.push_back(worker->Finish());
  for (const auto& answer : answers) EXPECT_FALSE(answer->answered);
  sim.Settle();
  for (const auto& answer : answers) {
    EXPECT_TRUE(answer->answered);
    EXPECT_TRUE(answer->status.ok()) << answer->status;
  }
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).model_hash(), HashWith(LargeSpec(), 1));
}

TEST(JobSimTest, LargeJobCancelledWhileItMergesEndsCleanly) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(LargeSpec());
  const auto first = sim.busy()[0]->Finish();
  const auto second = sim.busy()[0]->Finish();
  EXPECT_TRUE(sim.jobs.Cancel(name).ok());
  sim.Settle();
  EXPECT_TRUE(first->answered);
  EXPECT_TRUE(second->answered);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_CANCELLED);
  EXPECT_THAT(sim.busy(), SizeIs(0));
}

TEST(JobSimTest, FederatedEvaluationAsksEveryShard) {
  Simulation sim;
  sim.AddWorkers(2);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_evaluation()->set_federated(true);
  spec.mutable_federation()->set_cohort_size(2);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  const v1::Job job = sim.Job(name);
  ASSERT_THAT(job.history(), SizeIs(3));
  EXPECT_EQ(job.history(0).participants(), 2);
  EXPECT_TRUE(job.history(0).has_federated_test_accuracy());
  EXPECT_FALSE(job.history(0).has_test_accuracy());
}

std::vector<std::set<std::string>> Cohorts(uint64_t seed) {
  Simulation sim;
  sim.AddWorkers(1);
  v1::JobSpec spec = SmallSpec();
  spec.set_seed(seed);
  spec.mutable_data()->mutable_partition()->set_shards(10);
  spec.mutable_federation()->set_cohort_size(3);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  std::vector<std::set<std::string>> cohorts(3);
  for (const v1::Task& task : sim.worker("w0").received()) {
    if (task.has_train()) cohorts[task.round() - 1].insert(task.participant());
  }
  return cohorts;
}

TEST(JobSimTest, CohortIsDrawnAnewEachRoundAndFollowsFromTheSeed) {
  const auto cohorts = Cohorts(7);
  for (const auto& cohort : cohorts) EXPECT_THAT(cohort, SizeIs(3));
  EXPECT_TRUE(cohorts[0] != cohorts[1] || cohorts[1] != cohorts[2]);
  EXPECT_EQ(Cohorts(7), cohorts);
  EXPECT_NE(Cohorts(8), cohorts);
}

TEST(JobSimTest, EndedJobHoldsNoModelAnyMore) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SmallSpec());
  const std::string topology = sim.worker("w0").task().model().topology().digest();
  EXPECT_NE(sim.blobs.Get(topology, name), nullptr);
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  EXPECT_EQ(sim.blobs.Get(topology, name), nullptr);
}

// SmallSpec() over workers with data of their own, evaluated by all of them in some rounds.
v1::JobSpec LocalSpec(int rounds, int every_rounds) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->mutable_partition()->clear_shards();
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  spec.mutable_federation()->set_rounds(rounds);
  spec.mutable_evaluation()->set_central(false);
  spec.mutable_evaluation()->set_federated(true);
  spec.mutable_evaluation()->set_every_rounds(every_rounds);
  return spec;
}

// Workers finish; of evaluations the site `w<i>` reports 100 examples of which `correct(i, round)`
// are right.
void RunSites(Simulation& sim, const std::string& name,
              const std::function<int64_t(int site, int round)>& correct) {
  while (sim.State(name) == v1::Job::STATE_RUNNING && !sim.busy().empty()) {
    FakeWorker& worker = *sim.busy().front();
    Update update = worker.Compute();
    if (worker.task().has_evaluate()) {
      const int site = std::stoi(worker.id().substr(1));
      update.header.set_examples(100);
      update.header.set_loss_sum(25.0 * site);
      update.header.set_correct(correct(site, worker.task().round()));
    }
    worker.Send(update);
    sim.Settle();
  }
}

TEST(SitesTest, LastAndBestEvaluationKeepWhatEachSiteFound) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(LocalSpec(3, 1));
  RunSites(sim, name, [](int site, int round) { return round == 2 ? 90 : 40 + 10 * site; });
  const v1::Job job = sim.Job(name);
  ASSERT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
  EXPECT_EQ(job.best_round(), 2);
  EXPECT_EQ(job.best_sites().round(), 2);
  EXPECT_EQ(job.last_sites().round(), 3);
  ASSERT_EQ(job.last_sites().sites_size(), 3);
  double mean = 0;
  for (int i = 0; i < 3; ++i) {
    const v1::SiteEvaluation& site = job.last_sites().sites(i);
    // The lowest accuracy first.
    EXPECT_EQ(site.worker(), "workers/w" + std::to_string(i));
    EXPECT_EQ(site.examples(), 100);
    EXPECT_DOUBLE_EQ(site.main_metric(), 0.4 + 0.1 * i);
    EXPECT_DOUBLE_EQ(site.loss(), 0.25 * i);
    mean += site.main_metric() / 3;
  }
  EXPECT_NEAR(job.history().rbegin()->federated_test_accuracy(), mean, 1e-12);
  EXPECT_FALSE(sim.List().front().has_last_sites());
  EXPECT_FALSE(sim.List().front().has_best_sites());
}

TEST(SitesTest, RoundsWithoutEvaluationChangeNothing) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(LocalSpec(5, 2));
  std::vector<int> rounds;
  RunSites(sim, name, [&](int, int round) {
    rounds.push_back(sim.Job(name).last_sites().round());
    return 100 - round;
  });
  EXPECT_EQ(rounds, (std::vector<int>{0, 0, 2, 2, 4, 4}));
  EXPECT_EQ(sim.Job(name).best_sites().round(), 2);
  EXPECT_EQ(sim.Job(name).last_sites().round(), 5);
}

TEST(SitesTest, OfManySitesTheWorstAreKeptAndTheRestIsCounted) {
  Simulation sim;
  sim.AddWorkers(70);
  v1::JobSpec spec = LocalSpec(1, 1);
  spec.mutable_federation()->set_min_workers(70);
  const std::string name = sim.Start(spec);
  RunSites(sim, name, [](int site, int) { return 100 - site; });
  const v1::SiteEvaluations sites = sim.Job(name).last_sites();
  ASSERT_EQ(sites.sites_size(), 64);
  EXPECT_EQ(sites.sites_left_out(), 6);
  EXPECT_EQ(sites.sites(0).worker(), "workers/w69");
  EXPECT_EQ(sites.sites(63).worker(), "workers/w6");
}

TEST(SitesTest, ASiteWithoutTestExamplesHasNoAccuracy) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(LocalSpec(1, 1));
  while (sim.State(name) == v1::Job::STATE_RUNNING) {
    FakeWorker& worker = *sim.busy().front();
    Update update = worker.Compute();
    if (worker.task().has_evaluate() && worker.id() == "w1") {
      update.header.set_examples(0);
      update.header.set_loss_sum(0);
      update.header.set_correct(0);
    }
    worker.Send(update);
    sim.Settle();
  }
  const v1::SiteEvaluations sites = sim.Job(name).last_sites();
  ASSERT_EQ(sites.sites_size(), 2);
  EXPECT_EQ(sites.sites(1).worker(), "workers/w1");
  EXPECT_FALSE(sites.sites(1).has_main_metric());
  EXPECT_FALSE(sites.sites(1).has_loss());
}

TEST(SitesTest, OfARecommenderTheMainMetricCounts) {
  v1::JobSpec spec;
  spec.mutable_model()->mutable_recommender();
  spec.mutable_evaluation()->set_main_metric("recall@5");
  const std::vector<server::reduce::Score> scores = {
      {.participant = "a", .examples = 4, .metric_sums = {{"ndcg@5", 1}, {"recall@5", 3}}},
      {.participant = "b", .examples = 4, .metric_sums = {{"ndcg@5", 2}, {"recall@5", 1}}}};
  const v1::SiteEvaluations sites = server::jobs::EvaluationsOf(scores, spec);
  ASSERT_EQ(sites.sites_size(), 2);
  EXPECT_EQ(sites.sites(0).worker(), "workers/b");
  EXPECT_DOUBLE_EQ(sites.sites(0).main_metric(), 0.25);
  EXPECT_DOUBLE_EQ(sites.sites(1).main_metric(), 0.75);
  EXPECT_FALSE(sites.sites(0).has_loss());
}

TEST(SitesTest, DividedDataHasNoSites) {
  Simulation sim;
  sim.AddWorkers(2);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_evaluation()->set_federated(true);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  EXPECT_FALSE(sim.Job(name).has_last_sites());
}

}  // namespace
}  // namespace espalier::test
