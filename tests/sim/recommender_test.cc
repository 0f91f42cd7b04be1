// Recommenders: shards whose users' rows are private, and questions to checkpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::HasSubstr;

// Four shards of users, three rounds.
v1::JobSpec RecommenderSpec(bool private_users) {
  v1::JobSpec spec = SmallSpec();
  spec.clear_model();
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(40);
  model.set_items(30);
  model.set_private_users(private_users);
  model.mutable_lightgcn()->set_dimensions(4);
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_USERS);
  spec.mutable_method()->set_name("static");
  spec.mutable_method()->clear_parameters();
  spec.mutable_evaluation()->set_central(!private_users);
  return spec;
}

// The worker that did each shard's training, if it was always the same.
std::map<int, std::string> Owners(Simulation& sim) {
  std::map<int, std::string> owners;
  for (FakeWorker* worker : sim.workers()) {
    for (const v1::Task& task : worker->received()) {
      const auto [known, is_new] = owners.try_emplace(task.shard(), worker->id());
      EXPECT_EQ(known->second, worker->id()) << "shard " << task.shard();
    }
  }
  return owners;
}

TEST(RecommenderSimTest, PrivateShardsStayWithTheirWorkers) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(RecommenderSpec(true));
  // A worker that comes later gets nothing, whoever finishes first.
  sim.Add("late");
  sim.Run(name, [](const auto& busy) { return busy.size() - 1; });
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  const auto owners = Owners(sim);
  EXPECT_EQ(owners.size(), 4u);
  for (const auto& [shard, worker] : owners) EXPECT_NE(worker, "late");
}

TEST(RecommenderSimTest, APrivateShardWaitsForItsWorkerToComeBack) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(RecommenderSpec(true));
  FakeWorker& lost = sim.worker("w1");
  lost.Vanish();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  EXPECT_EQ(sim.Job(name).round(), 0);
  ASSERT_TRUE(lost.Connect().ok());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  Owners(sim);
}

// A simulation with the checkpoint of a job, and one question about it.
class QuestionTest : public ::testing::Test {
 protected:
  void Train(bool private_users = false) {
    sim.AddWorkers(1);
    const std::string name = sim.Start(RecommenderSpec(private_users));
    sim.Run(name);
    checkpoint = sim.Job(name).latest_checkpoint();
    ASSERT_FALSE(checkpoint.empty());
  }
  void Ask(const std::string& user, int32_t k = 0, const std::string& dataset = "") {
    v1::RecommendRequest request;
    request.set_checkpoint(checkpoint);
    request.set_user(user);
    request.set_k(k);
    request.set_dataset(dataset);
    sim.jobs.questions().Recommend(request, [this](absl::StatusOr<v1::RecommendResponse> answer) {
      ++answers;
      status = answer.status();
      if (answer.ok()) response = *std::move(answer);
    });
    sim.Settle();
  }

  Simulation sim;
  std::string checkpoint;
  int answers = 0;
  absl::Status status;
  v1::RecommendResponse response;
};

TEST_F(QuestionTest, AWorkerAnswersWithTheCheckpointsModelAndData) {
  Train();
  for (const char* user : {"ann", "bob"}) {
    Ask(user);
    FakeWorker& worker = sim.worker("w0");
    ASSERT_TRUE(worker.busy());
    const v1::Task& task = worker.task();
    EXPECT_EQ(task.data().dataset(), "toy");
    EXPECT_EQ(task.recommend().k(), 20);
    EXPECT_TRUE(task.model().spec().has_recommender());
    EXPECT_NE(sim.blobs.Get(task.model().values().digest(), task.job()), nullptr);
    worker.Finish();
    sim.Settle();
    EXPECT_TRUE(status.ok()) << status;
    ASSERT_EQ(response.items_size(), 20);
    EXPECT_EQ(response.items(0).item(), std::string("item-0-for-") + user);
  }
  EXPECT_EQ(answers, 2);
}

TEST_F(QuestionTest, AnotherWorkerAnswersForOneThatVanished) {
  Train();
  sim.Add("w1");
  Ask("ann", 3);
  FakeWorker& first = *sim.busy().at(0);
  first.Vanish();
  sim.Settle();
  ASSERT_EQ(sim.busy().size(), 1u);
  EXPECT_NE(sim.busy()[0], &first);
  sim.busy()[0]->Finish();
  sim.Settle();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(response.items_size(), 3);
}

TEST_F(QuestionTest, AWorkersErrorIsTheAnswer) {
  Train();
  Ask("nobody");
  sim.worker("w0").Fail("USER_NOT_FOUND", "expected a user");
  sim.Settle();
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(base::ReasonOf(status), "USER_NOT_FOUND");
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
}

TEST_F(QuestionTest, NoAnswerInTimeIsAnError) {
  Train();
  Ask("ann");
  sim.Pass(absl::Seconds(62));
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(base::ReasonOf(status), "NO_ANSWER");
}

TEST_F(QuestionTest, QuestionsThatCannotBeAnsweredAreRefused) {
  Train();
  Ask("");
  EXPECT_EQ(base::ReasonOf(status), "INVALID_USER");
  Ask("ann", 1001);
  EXPECT_EQ(base::ReasonOf(status), "INVALID_K");
  sim.worker("w0").Vanish();
  Ask("ann");
  EXPECT_EQ(base::ReasonOf(status), "WAITING_WORKERS");
  checkpoint = "checkpoints/other-1";
  Ask("ann");
  EXPECT_EQ(base::ReasonOf(status), "CHECKPOINT_NOT_FOUND");
}

TEST_F(QuestionTest, PrivateRowsAreLookedForOnAllWorkers) {
  Train(/*private_users=*/true);
  for (const char* id : {"w1", "w2", "w3", "w4"}) sim.Add(id);
  Ask("ann", 3);
  std::set<const FakeWorker*> asked;
  for (int n = 0; n < 4; ++n) {
    ASSERT_EQ(sim.busy().size(), 1u);
    FakeWorker& worker = *sim.busy()[0];
    EXPECT_EQ(checkpoint, "checkpoints/" + worker.task().job().substr(5) + "-" +
                              std::to_string(worker.task().round()));
    asked.insert(&worker);
    worker.Fail("PRIVATE_ROWS_MISSING", "elsewhere");
    sim.Settle();
  }
  EXPECT_EQ(asked.size(), 4u);
  ASSERT_EQ(sim.busy().size(), 1u);
  EXPECT_FALSE(asked.contains(sim.busy()[0]));
  sim.busy()[0]->Finish();
  sim.Settle();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(response.items_size(), 3);
}

TEST_F(QuestionTest, RowsOfUsersBelongToTheirDataSet) {
  Train(/*private_users=*/true);
  Ask("ann", 3, "other");
  EXPECT_EQ(base::ReasonOf(status), "PRIVATE_USERS");
  EXPECT_THAT(base::MessageOf(status), HasSubstr("leave --data"));
}

}  // namespace
}  // namespace espalier::test
