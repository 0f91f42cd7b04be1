// A worker with a policy, and a coordinator that does not keep to it.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "tests/unit/worker/session/session_fixture.h"

namespace espalier::worker::session {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

v1::WorkerPolicy AllowSubmitter(const std::string& name) {
  v1::WorkerPolicy policy;
  v1::WorkerPolicy::Rule& rule = *policy.add_allow();
  rule.add_submitters(name);
  rule.add_methods("set");
  rule.add_datasets("small");
  return policy;
}

class PolicyTest : public SessionTest {
 protected:
  SessionOptions Options() override {
    folder_.Write("secret/train.csv", "0,1,0\n1,0,1\n0.5,0.2,0\n0.1,0.9,1\n");
    SessionOptions options = SessionTest::Options();
    for (const char* name : {"secret", "small"}) options.datasets.emplace_back().set_name(name);
    options.policy = AllowSubmitter("ada");
    return options;
  }

  static v1::Task Of(v1::Task task, const std::string& submitter, const std::string& method,
                     const std::string& dataset) {
    task.set_submitter(submitter);
    task.set_method(method);
    task.mutable_data()->set_dataset(dataset);
    return task;
  }
  static v1::Task OfAda(v1::Task task) { return Of(std::move(task), "ada", "set", "small"); }
};

TEST_F(PolicyTest, RegistrationSaysThePolicyAndOffersWhatItCouldAllow) {
  const v1::Register said = coordinator_.registrations().front();
  ASSERT_EQ(said.policy().allow_size(), 1);
  EXPECT_EQ(said.policy().allow(0).submitters(0), "ada");
  ASSERT_EQ(said.datasets_size(), 1);
  EXPECT_EQ(said.datasets(0).name(), "small");
}

TEST_F(PolicyTest, TasksThatTheCoordinatorMayNotGiveAreRefusedBeforeAnythingIsFetched) {
  struct Case {
    std::string submitter, method, dataset, refused;
  };
  const std::vector<Case> cases = {{"bob", "set", "small", "jobs of 'bob'"},
                                   {"", "set", "small", "jobs without an owner"},
                                   {"ada", "dense", "small", "jobs of method 'dense'"},
                                   {"ada", "set", "secret", "jobs about data set 'secret'"},
                                   {"ada", "set", "", "jobs without a data set"}};
  for (const Case& given : cases) {
    const std::string id = given.submitter + given.method + given.dataset;
    const v1::Task task = Of(Fetched(id, "p", 2), given.submitter, given.method, given.dataset);
    coordinator_.Give(task);
    coordinator_.AwaitEvent("failed " + id + " TASK_NOT_ALLOWED");
    EXPECT_THAT(coordinator_.failure(id), HasSubstr("does not allow " + given.refused));
    EXPECT_THAT(coordinator_.events(), Not(Contains("fetch " + Digest(task))));
  }
  coordinator_.Give(OfAda(Fetched("good", "p", 2)));
  coordinator_.AwaitEvent("acknowledged good");
}

TEST_F(PolicyTest, DataSetsThatNoRuleAllowsAreNotDescribed) {
  const v1::DatasetInfo secret = coordinator_.Describe("secret");
  EXPECT_THAT(secret.problem(), HasSubstr("policy"));
  EXPECT_EQ(secret.train_examples(), 0);
  EXPECT_EQ(secret.format(), "");
  const v1::DatasetInfo small = coordinator_.Describe("small");
  EXPECT_EQ(small.problem(), "");
  EXPECT_EQ(small.train_examples(), 4);
}

TEST_F(PolicyTest, ChangedPolicyEndsTheTaskInWorkAndIsTold) {
  const v1::Task task = OfAda(Slow("slow", "p", 100'000'000));
  coordinator_.Give(task);
  coordinator_.AwaitHeartbeatOf("slow");
  session_->SetPolicy(AllowSubmitter("bob"));
  const v1::Register said = coordinator_.AwaitRegistration(1);
  EXPECT_EQ(said.policy().allow(0).submitters(0), "bob");
  // It takes another task at once, and not the same again.
  coordinator_.Give(As("again", task));
  coordinator_.AwaitEvent("failed again TASK_NOT_ALLOWED");
}

TEST_F(PolicyTest, ResultThatIsNotAllowedAnyMoreIsNotHandedIn) {
  coordinator_.Hold("a");
  const v1::Task task = OfAda(Quick("a", "p"));
  coordinator_.Give(task);
  coordinator_.AwaitEvent("result a");
  session_->SetPolicy(AllowSubmitter("bob"));
  coordinator_.AwaitRegistration(1);
  coordinator_.Give(As("b", task));
  coordinator_.AwaitEvent("failed b TASK_NOT_ALLOWED");
  EXPECT_THAT(coordinator_.events(), Not(Contains("result b")));
}

}  // namespace
}  // namespace espalier::worker::session
