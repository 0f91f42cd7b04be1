#include "common/config/access/worker_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/base/status.h"

namespace espalier::config {
namespace {

using ::testing::HasSubstr;

constexpr char kPolicy[] = R"(# whose data, whose rules
allow:
  - submitters: [ada, bob]
    datasets: [ward-7]
  - methods: [set]
    datasets: [digits, iris]
)";

v1::WorkerPolicy Policy() { return ParseWorkerPolicy(kPolicy, "policy.yaml").value(); }

std::string ErrorOf(const std::string& text) {
  const auto policy = ParseWorkerPolicy(text, "policy.yaml");
  EXPECT_EQ(base::ReasonOf(policy.status()), "INVALID_POLICY") << text;
  return base::MessageOf(policy.status());
}

TEST(WorkerPolicyTest, JobIsAllowedByOneRuleThatFitsInAllItsLists) {
  const v1::WorkerPolicy policy = Policy();
  EXPECT_EQ(RefusedBy(policy, {"ada", "dense", "ward-7"}), "");
  EXPECT_EQ(RefusedBy(policy, {"carl", "set", "iris"}), "");
  EXPECT_EQ(RefusedBy(policy, {"carl", "set", "ward-7"}), "jobs of 'carl'");
  EXPECT_EQ(RefusedBy(policy, {"", "set", "ward-7"}), "jobs without an owner");
  // What one rule says of the submitter and another of the data set does not add up.
  EXPECT_EQ(RefusedBy(policy, {"ada", "dense", "digits"}), "jobs of method 'dense'");
  EXPECT_EQ(RefusedBy(policy, {"ada", "set", "ward-8"}), "jobs about data set 'ward-8'");
  EXPECT_EQ(RefusedBy(policy, {"ada", "echo", ""}), "jobs without a data set");
}

TEST(WorkerPolicyTest, PolicyWithoutRulesAllowsNothing) {
  const v1::WorkerPolicy policy = ParseWorkerPolicy("allow: []\n", "policy.yaml").value();
  EXPECT_NE(RefusedBy(policy, {"ada", "set", "digits"}), "");
  EXPECT_FALSE(MayAllowDataset(policy, "digits"));
}

TEST(WorkerPolicyTest, RuleWithoutListsAllowsEverything) {
  const v1::WorkerPolicy policy = ParseWorkerPolicy("allow:\n  - {}\n", "policy.yaml").value();
  EXPECT_EQ(RefusedBy(policy, {"", "echo", ""}), "");
  EXPECT_TRUE(MayAllowDataset(policy, "digits"));
}

TEST(WorkerPolicyTest, DataSetsOfAllRulesMayBeAllowed) {
  EXPECT_TRUE(MayAllowDataset(Policy(), "ward-7"));
  EXPECT_TRUE(MayAllowDataset(Policy(), "iris"));
  EXPECT_FALSE(MayAllowDataset(Policy(), "ward-8"));
}

TEST(WorkerPolicyTest, MistakesSayTheirLineAndWhatIsMeant) {
  const std::string unknown = ErrorOf("allow:\n  - submiters: [ada]\n");
  EXPECT_THAT(unknown, HasSubstr("\"policy.yaml\" has 1 problem"));
  EXPECT_THAT(unknown,
              HasSubstr("line 2: unknown field \"submiters\"; did you mean \"submitters\""));
  EXPECT_THAT(ErrorOf("alow: []\n"), HasSubstr("did you mean \"allow\""));
  EXPECT_THAT(ErrorOf("allow:\n  - submitters: ada\n"), HasSubstr("line 2: expected a list"));
  EXPECT_THAT(ErrorOf("allow:\n  - submitters: [Ada]\n"),
              HasSubstr("allow[0].submitters[0]: line 2: expected a name of 1 to 63"));
  EXPECT_THAT(ErrorOf("allow:\n  - methods: [set]\n    datasets: ['../x']\n"),
              HasSubstr("allow[0].datasets[0]: line 3"));
}

TEST(WorkerPolicyTest, WhatCouldMeanTwoThingsIsRefused) {
  EXPECT_THAT(ErrorOf(""), HasSubstr("found nothing"));
  EXPECT_THAT(ErrorOf("# allow:\n"), HasSubstr("found nothing"));
  EXPECT_THAT(ErrorOf("{}\n"), HasSubstr("`allow: []` allows nothing"));
  EXPECT_THAT(ErrorOf("- submitters: [ada]\n"), HasSubstr("found something else"));
  EXPECT_THAT(ErrorOf("allow:\n  - submitters: []\n"),
              HasSubstr("line 2: expected at least one name, found none"));
  EXPECT_THAT(ErrorOf("allow:\n  - submitters: [ada]\n    submitters: [bob]\n"),
              HasSubstr("line 3"));
}

TEST(WorkerPolicyTest, SizesHaveLimits) {
  v1::WorkerPolicy policy;
  for (int i = 0; i <= kMaxPolicyRules; ++i) policy.add_allow();
  EXPECT_THAT(ProblemOf(policy), HasSubstr("expected at most 256 rules, found 257"));
  policy.mutable_allow()->RemoveLast();
  EXPECT_EQ(ProblemOf(policy), "");
  for (int i = 0; i <= kMaxPolicyNames; ++i) policy.mutable_allow(0)->add_methods("set");
  EXPECT_THAT(ProblemOf(policy), HasSubstr("expected at most 4096 names"));
  policy.mutable_allow(0)->clear_methods();
  policy.mutable_allow(0)->add_datasets(std::string(1000, 'a'));
  EXPECT_THAT(ProblemOf(policy), HasSubstr("allow[0].datasets[0]"));
}

}  // namespace
}  // namespace espalier::config
