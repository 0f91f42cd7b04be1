// Whose jobs are, over the lives of coordinators.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::SizeIs;

class OwnersTest : public testing::Test {
 protected:
  OwnersTest() { Again(); }

  Simulation& sim() { return *sim_; }
  // The coordinator is killed, and another one begins.
  void Again() {
    sim_.reset();
    sim_ = std::make_unique<Simulation>(disk_, ++lives_);
    sim_->AddWorkers(2);
    sim_->Settle();
  }
  absl::StatusOr<v1::Job> Create(const std::string& owner, const std::string& request_id) {
    v1::CreateJobRequest request;
    *request.mutable_spec() = SmallSpec();
    request.set_request_id(request_id);
    std::vector<config::Violation> violations;
    return sim().Create(request, violations, owner);
  }

 private:
  Disk disk_;
  uint64_t lives_ = 0;
  std::unique_ptr<Simulation> sim_;
};

TEST_F(OwnersTest, JobsKeepTheirOwnersAndRequestIdsOverRestarts) {
  const std::string ended = Create("ada", "first")->name();
  sim().Run(ended);
  const std::string in_work = Create("bob", "first")->name();
  ASSERT_NE(ended, in_work);
  for (int life = 0; life < 2; ++life) {
    Again();
    EXPECT_EQ(sim().Job(ended).owner(), "ada");
    EXPECT_EQ(sim().Job(in_work).owner(), "bob");
    EXPECT_EQ(*sim().jobs.OwnerOfJob(ended), "ada");
    for (const v1::Job& job : sim().List()) {
      EXPECT_EQ(job.owner(), job.name() == ended ? "ada" : "bob");
    }
    EXPECT_THAT(*sim().jobs.Select({}, "bob"), SizeIs(1));
    EXPECT_EQ(Create("ada", "first")->name(), ended);
    EXPECT_EQ(Create("bob", "first")->name(), in_work);
  }
  EXPECT_THAT(sim().List(), SizeIs(2));
}

TEST_F(OwnersTest, JobThatIsResumedOrRetriedStaysItsOwners) {
  const std::string name = Create("ada", "")->name();
  ASSERT_TRUE(sim().jobs.Pause(name).ok());
  sim().Settle();
  Again();
  std::optional<absl::StatusOr<v1::Job>> resumed;
  sim().jobs.Resume(name, [&resumed](const auto& job) { resumed = job; });
  sim().Settle();
  ASSERT_TRUE(resumed.has_value() && resumed->ok()) << (*resumed).status();
  EXPECT_EQ((*resumed)->owner(), "ada");
  sim().Settle();
  ASSERT_TRUE(sim().worker("w0").busy());
  EXPECT_EQ(sim().worker("w0").task().submitter(), "ada");
  // Every worker reports the same, and the job fails.
  for (int i = 0; i < 10; ++i) {
    for (FakeWorker* worker : sim().busy()) worker->Fail("DIVERGED", "the loss is not finite");
    sim().Tick();
  }
  ASSERT_EQ(sim().State(name), v1::Job::STATE_FAILED);
  std::optional<absl::StatusOr<v1::Job>> retried;
  sim().jobs.Retry(name, [&retried](const auto& job) { retried = job; });
  sim().Settle();
  ASSERT_TRUE(retried.has_value() && retried->ok()) << (*retried).status();
  EXPECT_EQ((*retried)->owner(), "ada");
  EXPECT_EQ(*sim().jobs.OwnerOfJob(name), "ada");
}

}  // namespace
}  // namespace espalier::test
