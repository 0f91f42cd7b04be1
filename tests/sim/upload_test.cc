// Uploads that are wrong, late or repeated.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <set>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::SizeIs;

class UploadSimTest : public testing::Test {
 protected:
  UploadSimTest() {
    sim_.AddWorkers(2);
    name_ = sim_.Start(SmallSpec());
  }

  // The job ends as if nothing had happened.
  void ExpectUnharmed() {
    sim_.Run(name_);
    EXPECT_EQ(sim_.State(name_), v1::Job::STATE_SUCCEEDED);
    Simulation other;
    other.AddWorkers(1);
    const std::string name = other.Start(SmallSpec());
    other.Run(name);
    EXPECT_EQ(sim_.Job(name_).model_hash(), other.Job(name).model_hash());
    for (int i = 0; i < 3; ++i) EXPECT_EQ(sim_.Job(name_).history(i).participants(), 4);
  }

  void ExpectRefused(const Update& update, absl::StatusCode code, const std::string& reason) {
    const auto answer = worker().Send(update);
    ASSERT_TRUE(answer->answered);
    EXPECT_EQ(answer->status.code(), code) << answer->status;
    EXPECT_EQ(base::ReasonOf(answer->status), reason);
    EXPECT_TRUE(worker().busy());
    ExpectUnharmed();
  }

  FakeWorker& worker() { return sim_.worker("w0"); }

  Simulation sim_;
  std::string name_;
};

void Poison(Update& update, float value) {
  std::memcpy(update.body.data() + 5 * sizeof(float), &value, sizeof value);
  update.header.set_body_sha256(io::Sha256Hex(update.body));
}

TEST_F(UploadSimTest, NotANumberIsRejectedAndAnotherWorkerRedoesTheShard) {
  Update update = worker().Compute();
  const std::string participant = worker().task().participant();
  Poison(update, std::nanf(""));
  const auto answer = worker().Send(update);
  EXPECT_EQ(answer->status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(answer->status), "NON_FINITE");
  const auto rejected = sim_.Events(name_, v1::JobEvent::kUpdateRejected);
  ASSERT_THAT(rejected, SizeIs(1));
  EXPECT_EQ(rejected[0].update_rejected().reason(), "NON_FINITE");
  EXPECT_EQ(rejected[0].update_rejected().worker(), "w0");
  EXPECT_EQ(rejected[0].update_rejected().participant(), participant);
  ExpectUnharmed();
  const auto loaded = sim_.checkpoints().Load(sim_.Job(name_).latest_checkpoint());
  ASSERT_TRUE(loaded.ok());
  for (const float value : loaded->state.values) EXPECT_TRUE(std::isfinite(value));
}

TEST_F(UploadSimTest, ATimeThatHasNotPassedCountsOnlyAsFarAsItHas) {
  for (FakeWorker* each : sim_.busy()) {
    Update update = each->Compute();
    update.header.mutable_compute_time()->set_seconds(1'000'000);
    sim_.Pass(absl::Seconds(2));
    each->Send(update);
  }
  ExpectUnharmed();
  // The second worker had its task for four seconds, the first one for two.
  EXPECT_EQ(sim_.Job(name_).history(0).compute_time().seconds(), 6);
}

TEST_F(UploadSimTest, InfinityFromEveryWorkerFailsTheJob) {
  for (int i = 0; i < 8 && sim_.State(name_) == v1::Job::STATE_RUNNING; ++i) {
    for (FakeWorker* poisoner : sim_.busy()) {
      if (!poisoner->busy()) continue;
      Update update = poisoner->Compute();
      Poison(update, std::numeric_limits<float>::infinity());
      poisoner->Send(update);
    }
  }
  EXPECT_EQ(sim_.State(name_), v1::Job::STATE_FAILED);
  EXPECT_EQ(sim_.Job(name_).failure_reason(), "NON_FINITE");
}

TEST_F(UploadSimTest, NoExamplesIsRejected) {
  Update update = worker().Compute();
  update.header.set_examples(0);
  update.header.set_correct(0);
  EXPECT_EQ(base::ReasonOf(worker().Send(update)->status), "NO_EXAMPLES");
  ExpectUnharmed();
}

TEST_F(UploadSimTest, DuplicateIsAcknowledgedAndCountedOnce) {
  const Update update = worker().Compute();
  const auto first = worker().Send(update);
  EXPECT_TRUE(first->status.ok());
  EXPECT_FALSE(first->duplicate);
  const auto second = worker().Send(update);
  EXPECT_TRUE(second->status.ok());
  EXPECT_TRUE(second->duplicate);
  ExpectUnharmed();
  EXPECT_TRUE(worker().Send(update)->duplicate);  // still, after the job ended
}

TEST_F(UploadSimTest, OtherBytesUnderAnIdThatWasCountedAreRefusedAndTheFirstStand) {
  const Update update = worker().Compute();
  EXPECT_TRUE(worker().Send(update)->status.ok());
  Update other = update;
  Poison(other, 3.0F);
  const auto answer = worker().Send(other);
  EXPECT_EQ(answer->status.code(), absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(base::ReasonOf(answer->status), "UPDATE_ID_REUSED");
  // Also from another worker, and for another task.
  FakeWorker& thief = sim_.worker("w1");
  Update stolen = thief.Compute();
  stolen.header.set_update_id(update.header.update_id());
  EXPECT_EQ(base::ReasonOf(thief.Send(stolen)->status), "UPDATE_ID_REUSED");
  ExpectUnharmed();
}

TEST_F(UploadSimTest, UpdateOfAFormerLifeIsRefused) {
  const Update old = worker().Compute();
  Simulation restarted(/*memory_budget=*/0, /*seed=*/2);
  restarted.AddWorkers(2);
  const std::string name = restarted.Start(SmallSpec());
  FakeWorker& worker_again = restarted.worker("w0");
  // The same job, task and number of lease as in the life before.
  ASSERT_EQ(worker_again.task().task_id(), old.header.task_id());
  ASSERT_EQ(worker_again.task().epoch().counter(), old.header.epoch().counter());
  EXPECT_EQ(base::ReasonOf(worker_again.Send(old)->status), "LEASE_EXPIRED");
  // Even if the worker has a session of this life by now.
  Update mixed = old;
  mixed.header.set_session(worker_again.session());
  EXPECT_EQ(base::ReasonOf(worker_again.Send(mixed)->status), "LEASE_EXPIRED");
  restarted.Run(name);
  EXPECT_EQ(restarted.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST_F(UploadSimTest, SessionsAre128BitsOfWhichNoneIsTheSame) {
  std::set<std::string> sessions;
  for (int i = 0; i < 100; ++i) {
    worker().Vanish();
    sim_.clock.Advance(absl::Minutes(1));
    ASSERT_TRUE(worker().Connect().ok());
    EXPECT_EQ(worker().session().size(), 16U);
    sessions.insert(worker().session());
  }
  EXPECT_EQ(sessions.size(), 100U);
  ExpectUnharmed();
}

TEST_F(UploadSimTest, TwoCopiesAtOnceAreCountedOnce) {
  const Update update = worker().Compute();
  EXPECT_FALSE(sim_.jobs.Admit(update.header).value());  // the copy's header is there already
  EXPECT_TRUE(worker().Send(update)->status.ok());
  server::round::Upload copy;
  copy.header = update.header;
  absl::Status status = absl::UnknownError("not answered");
  sim_.jobs.Accept(std::move(copy), [&status](absl::Status answer) { status = answer; });
  EXPECT_TRUE(status.ok()) << status;
  ExpectUnharmed();
}

// An update that arrives once more when its worker has the next task already.
std::shared_ptr<Answer> SendCopy(Simulation& sim, const Update& update) {
  const auto answer = std::make_shared<Answer>();
  EXPECT_FALSE(sim.jobs.Admit(update.header).value());
  server::round::Upload copy;
  copy.header = update.header;
  sim.jobs.Accept(std::move(copy), [answer](const absl::Status& status) {
    answer->answered = true;
    answer->status = status;
  });
  return answer;
}

// The numbers of a large update are merged on the pool, after its lease has ended.
TEST(LargeUploadSimTest, CopyOfAnUpdateThatIsBeingCountedGetsTheAnswerOfTheFirst) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(LargeSpec());
  FakeWorker& worker = sim.worker("w0");
  const Update update = worker.Compute();
  const auto first = worker.Send(update);
  const auto copy = SendCopy(sim, update);
  EXPECT_FALSE(first->answered);
  EXPECT_FALSE(copy->answered);
  Update other = update;
  Poison(other, 3.0F);
  EXPECT_EQ(base::ReasonOf(worker.Send(other)->status), "UPDATE_ID_REUSED");
  sim.Settle();
  EXPECT_TRUE(first->answered && first->status.ok()) << first->status;
  EXPECT_TRUE(copy->answered && copy->status.ok()) << copy->status;
  EXPECT_TRUE(worker.Send(update)->duplicate);
  // Of one that is refused, both are.
  FakeWorker& poisoner = sim.worker("w1");
  Update poison = poisoner.Compute();
  Poison(poison, std::nanf(""));
  const auto refused = poisoner.Send(poison);
  const auto refused_too = SendCopy(sim, poison);
  sim.Settle();
  EXPECT_EQ(base::ReasonOf(refused->status), "NON_FINITE");
  EXPECT_EQ(base::ReasonOf(refused_too->status), "NON_FINITE");
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST_F(UploadSimTest, StaleEpochIsRefused) {
  Update update = worker().Compute();
  update.header.mutable_epoch()->set_counter(update.header.epoch().counter() - 1);
  ExpectRefused(update, absl::StatusCode::kAborted, "LEASE_EXPIRED");
}

TEST_F(UploadSimTest, SessionOfAnotherWorkerIsRefused) {
  Update update = worker().Compute();
  update.header.set_session(sim_.worker("w1").session());
  ExpectRefused(update, absl::StatusCode::kPermissionDenied, "LEASE_OF_ANOTHER");
}

TEST_F(UploadSimTest, ClaimsThatCannotBeTrueAreRefused) {
  using Lie = std::function<void(v1::PartialHeader&)>;
  const std::vector<std::pair<std::string, Lie>> lies = {
      {"INVALID_UPDATE_ID", [](auto& header) { header.set_update_id(std::string(65, 'x')); }},
      {"INVALID_UPDATE_ID", [](auto& header) { header.clear_update_id(); }},
      {"EXAMPLES_OUT_OF_RANGE", [](auto& header) { header.set_examples(-1); }},
      {"EXAMPLES_OUT_OF_RANGE", [](auto& header) { header.set_examples(int64_t{1} << 40); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.set_loss_sum(1e300); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.set_loss_sum(-1e300); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.set_loss_sum(std::nan("")); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.set_correct(header.examples() + 1); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.set_correct(-1); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.set_peak_memory_bytes(-1); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.add_metric_sums()->set_value(1e9); }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.add_metric_sums()->set_value(-1); }},
      {"CLAIM_OUT_OF_RANGE",
       [](auto& header) { header.add_metric_sums()->set_name(std::string(100, 'x')); }},
      {"CLAIM_OUT_OF_RANGE",
       [](auto& header) {
         for (int i = 0; i < 2000; ++i) header.add_metric_sums();
       }},
      {"CLAIM_OUT_OF_RANGE", [](auto& header) { header.add_recommended(); }},
  };
  for (const auto& [reason, lie] : lies) {
    Update update = worker().Compute();
    lie(update.header);
    const auto answer = worker().Send(update);
    ASSERT_TRUE(answer->answered);
    EXPECT_EQ(answer->status.code(), absl::StatusCode::kInvalidArgument) << answer->status;
    EXPECT_EQ(base::ReasonOf(answer->status), reason) << answer->status;
    EXPECT_TRUE(worker().busy());
  }
  ExpectUnharmed();
}

// A worker claims more examples than the shard can hold; another one a larger data set.
TEST(UploadClaimsSimTest, ExamplesAreBoundedByWhatTheShardHolds) {
  Simulation sim;
  for (const char* id : {"w0", "w1", "boaster", "liar"}) {
    FakeWorker& worker = sim.Add(id);
    worker.Vanish();
    worker.dataset(0).set_train_examples(id == std::string("boaster") ? int64_t{1} << 40 : 160);
    worker.dataset(0).set_test_examples(40);
    worker.dataset(0).set_features(8);
    ASSERT_TRUE(worker.Connect().ok());
  }
  const std::string name = sim.Start(SmallSpec());
  ASSERT_EQ(sim.Job(name).left_out_workers_size(), 1);
  EXPECT_EQ(sim.Job(name).left_out_workers(0).worker(), "workers/boaster");
  EXPECT_FALSE(sim.worker("boaster").busy());
  FakeWorker& liar = sim.worker("liar");
  ASSERT_TRUE(liar.busy());
  Update update = liar.Compute();
  update.header.set_examples(41);
  EXPECT_EQ(base::ReasonOf(liar.Send(update)->status), "EXAMPLES_OUT_OF_RANGE");
  update.header.set_examples(40);
  EXPECT_TRUE(liar.Send(update)->status.ok());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST_F(UploadSimTest, UnknownTaskIsRefused) {
  Update update = worker().Compute();
  update.header.set_task_id("task-999");
  ExpectRefused(update, absl::StatusCode::kAborted, "LEASE_EXPIRED");
}

TEST_F(UploadSimTest, OtherTopologyIsRefused) {
  Update update = worker().Compute();
  update.header.set_topology_hash(std::string(64, 'a'));
  ExpectRefused(update, absl::StatusCode::kInvalidArgument, "TOPOLOGY_VERSION_MISMATCH");
}

TEST_F(UploadSimTest, OtherNumberOfValuesIsRefused) {
  Update update = worker().Compute();
  v1::Section& section = *update.header.mutable_sections(0);
  section.set_count(section.count() + 1);
  ExpectRefused(update, absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH");
}

TEST_F(UploadSimTest, BodyLongerThanTheTaskAllowsIsRefused) {
  Update update = worker().Compute();
  update.header.set_body_bytes(update.header.body_bytes() + 1);
  ExpectRefused(update, absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH");
}

TEST_F(UploadSimTest, BodyShorterThanItsValuesIsRefused) {
  Update update = worker().Compute();
  update.header.set_body_bytes(update.header.body_bytes() - 1);
  ExpectRefused(update, absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH");
}

TEST_F(UploadSimTest, OtherSectionsAreRefused) {
  const Update good = worker().Compute();
  const auto reason = [&](const Update& update) {
    return base::ReasonOf(worker().Send(update)->status);
  };
  Update none = good;
  none.header.clear_sections();
  EXPECT_EQ(reason(none), "SHAPE_MISMATCH");
  Update twice = good;
  *twice.header.add_sections() = good.header.sections(0);
  EXPECT_EQ(reason(twice), "SHAPE_MISMATCH");
  Update other = good;
  other.header.mutable_sections(0)->set_kind(v1::SECTION_KIND_GRADIENTS);
  ExpectRefused(other, absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH");
}

TEST_F(UploadSimTest, HugeNumberOfValuesIsRefused) {
  Update update = worker().Compute();
  update.header.mutable_sections(0)->set_count(std::numeric_limits<uint64_t>::max() / 4 + 1);
  update.header.set_body_bytes(0);
  ExpectRefused(update, absl::StatusCode::kInvalidArgument, "SHAPE_MISMATCH");
}

}  // namespace
}  // namespace espalier::test
