// The `aggregation` section and what goes with it: ranges, combinations, defaults.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "common/config/job_file.h"
#include "common/config/validate.h"

namespace espalier::config {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr char kJob[] = R"(
model:
  input_features: 64
  layers:
    - linear: {units: 10}
data:
  dataset: digits
  partition: {kind: iid, shards: 7}
method: {name: dense}
training:
  optimizer: {learning_rate: 0.05}
federation: {rounds: 10}
)";

v1::JobSpec SpecWith(const std::string& overrides) {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
  std::stringstream stream(overrides);
  for (std::string one; std::getline(stream, one, ';');) ApplyOverride(one, spec, violations);
  EXPECT_TRUE(violations.empty()) << overrides;
  return spec;
}

std::vector<std::string> Faults(const v1::JobSpec& spec) {
  std::vector<std::string> lines;
  for (const Violation& violation : ValidateJobSpec(spec)) {
    lines.push_back(violation.field + ": " + violation.description);
  }
  return lines;
}

class ValidAggregationTest : public ::testing::TestWithParam<const char*> {};

TEST_P(ValidAggregationTest, IsAcceptedBeforeAndAfterDefaults) {
  v1::JobSpec spec = SpecWith(GetParam());
  EXPECT_THAT(Faults(spec), IsEmpty());
  ApplyDefaults(spec);
  EXPECT_THAT(Faults(spec), IsEmpty());
  v1::JobSpec again = spec;
  ApplyDefaults(again);
  EXPECT_EQ(again.SerializeAsString(), spec.SerializeAsString());
}

INSTANTIATE_TEST_SUITE_P(
    All, ValidAggregationTest,
    ::testing::Values("", "aggregation.rule=median", "aggregation.rule=trimmed_mean",
                      "aggregation.rule=trimmed_mean;aggregation.trim_fraction=0.49",
                      "aggregation.rule=krum;aggregation.byzantine=2",
                      "aggregation.rule=multi_krum",
                      "aggregation.rule=multi_krum;aggregation.byzantine=2;aggregation.selected=5",
                      "aggregation.clip_norm=10", "aggregation.rule=median;aggregation.clip_norm=1",
                      "aggregation.server_optimizer=momentum;aggregation.server_momentum=0",
                      "aggregation.server_optimizer=adam;aggregation.server_tau=0.1",
                      "aggregation.server_optimizer=yogi;aggregation.rule=median",
                      "training.proximal_mu=0.01", "training.control_variates=true",
                      "training.control_variates=true;aggregation.server_optimizer=momentum",
                      "aggregation.rule=median;training.optimizer.momentum=0.9;"
                      "training.optimizer.across_rounds=average",
                      "federation.cohort_size=5;aggregation.rule=krum;aggregation.byzantine=1"));

struct Bad {
  const char* overrides;
  const char* field;
  const char* expected;
};

class BadAggregationTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadAggregationTest, IsRefusedAtTheRightFieldBeforeAndAfterDefaults) {
  v1::JobSpec spec = SpecWith(GetParam().overrides);
  const auto fault = Contains(
      AllOf(StartsWith(std::string(GetParam().field) + ": "), HasSubstr(GetParam().expected)));
  EXPECT_THAT(Faults(spec), fault);
  ApplyDefaults(spec);
  EXPECT_THAT(Faults(spec), fault);
}

INSTANTIATE_TEST_SUITE_P(
    All, BadAggregationTest,
    ::testing::Values(
        Bad{"aggregation.rule=trimmed_mean;aggregation.trim_fraction=0.5",
            "aggregation.trim_fraction", "must be 0 < x < 0.5"},
        Bad{"aggregation.trim_fraction=0.2", "aggregation.trim_fraction", "trimmed_mean only"},
        Bad{"aggregation.byzantine=1", "aggregation.byzantine", "krum and multi_krum only"},
        Bad{"aggregation.rule=krum;aggregation.byzantine=-1", "aggregation.byzantine", "0 or more"},
        Bad{"aggregation.rule=krum;aggregation.byzantine=3", "aggregation.byzantine",
            "2 · byzantine + 3 = 9 updates in every round, found 7"},
        Bad{"aggregation.rule=krum;aggregation.byzantine=2;federation.quorum=0.8",
            "aggregation.byzantine", "found 6"},
        Bad{"aggregation.rule=krum;aggregation.byzantine=2;federation.cohort_size=6",
            "aggregation.byzantine", "found 6"},
        Bad{"data.partition={kind: local};aggregation.rule=krum;federation.min_workers=2",
            "aggregation.byzantine", "raise federation.min_workers"},
        Bad{"aggregation.rule=krum;federation.on_quorum_loss=proceed", "aggregation.rule",
            "on_quorum_loss"},
        Bad{"aggregation.rule=krum;aggregation.selected=2", "aggregation.selected",
            "multi_krum only"},
        Bad{"aggregation.rule=multi_krum;aggregation.byzantine=2;aggregation.selected=6",
            "aggregation.selected", "must be 1..5, found 6"},
        Bad{"aggregation.clip_norm=-1", "aggregation.clip_norm", "x > 0"},
        Bad{"aggregation.clip_norm=1;training.optimizer.momentum=0.9;"
            "training.optimizer.across_rounds=average",
            "aggregation.clip_norm", "across_rounds to reset"},
        Bad{"aggregation.pooled_variance=true;aggregation.rule=median",
            "aggregation.pooled_variance", "use rule: mean"},
        Bad{"aggregation.pooled_variance=true;aggregation.clip_norm=1",
            "aggregation.pooled_variance", "clip_norm"},
        Bad{"aggregation.server_learning_rate=0.1", "aggregation.server_learning_rate",
            "needs a server_optimizer"},
        Bad{"aggregation.server_optimizer=adam;aggregation.server_learning_rate=-1",
            "aggregation.server_learning_rate", "x > 0"},
        Bad{"aggregation.server_optimizer=adam;aggregation.server_momentum=0.5",
            "aggregation.server_momentum", "momentum only"},
        Bad{"aggregation.server_optimizer=momentum;aggregation.server_momentum=1",
            "aggregation.server_momentum", "0 ≤ x < 1"},
        Bad{"aggregation.server_optimizer=momentum;aggregation.server_beta1=0.5",
            "aggregation.server_beta1", "adam and yogi only"},
        Bad{"aggregation.server_optimizer=yogi;aggregation.server_beta2=1",
            "aggregation.server_beta2", "0 ≤ x < 1"},
        Bad{"aggregation.server_optimizer=yogi;aggregation.server_tau=-1", "aggregation.server_tau",
            "x > 0"},
        Bad{"training.proximal_mu=-0.1", "training.proximal_mu", "x ≥ 0"},
        Bad{"training.control_variates=true;training.optimizer.momentum=0.9",
            "training.control_variates", "without momentum"},
        Bad{"training.control_variates=true;training.optimizer.kind=adam",
            "training.control_variates", "without momentum"},
        Bad{"training.control_variates=true;training.optimizer.decoupled_weight_decay=true",
            "training.control_variates", "decoupled"},
        Bad{"training.control_variates=true;training.proximal_mu=1", "training.control_variates",
            "remove one of them"},
        Bad{"training.control_variates=true;data.partition={kind: local}",
            "training.control_variates", "shards"},
        Bad{"training.control_variates=true;aggregation.rule=median", "training.control_variates",
            "mean"},
        Bad{"training.control_variates=true;aggregation.clip_norm=1", "training.control_variates",
            "clip_norm"}));

TEST(AggregationTest, AllFaultsAreReportedAtOnce) {
  EXPECT_THAT(Faults(SpecWith("training.proximal_mu=-1;aggregation.trim_fraction=0.7;"
                              "aggregation.clip_norm=-1;aggregation.server_tau=0.1")),
              SizeIs(5));
}

TEST(AggregationTest, DefaultsFillWhatTheRuleAndOptimizerUse) {
  v1::JobSpec spec = SpecWith("");
  ApplyDefaults(spec);
  EXPECT_EQ(spec.aggregation().rule(), v1::Aggregation::RULE_MEAN);
  EXPECT_EQ(spec.aggregation().server_optimizer(), v1::Aggregation::SERVER_OPTIMIZER_NONE);
  EXPECT_EQ(spec.aggregation().server_learning_rate(), 0);
  spec = SpecWith("aggregation.rule=trimmed_mean;aggregation.server_optimizer=momentum");
  ApplyDefaults(spec);
  EXPECT_EQ(spec.aggregation().trim_fraction(), 0.1);
  EXPECT_EQ(spec.aggregation().server_learning_rate(), 1);
  EXPECT_EQ(spec.aggregation().server_momentum(), 0.9);
  EXPECT_EQ(spec.aggregation().server_beta1(), 0);
  spec = SpecWith("aggregation.server_optimizer=yogi");
  ApplyDefaults(spec);
  EXPECT_EQ(spec.aggregation().server_learning_rate(), 0.01);
  EXPECT_EQ(spec.aggregation().server_beta1(), 0.9);
  EXPECT_EQ(spec.aggregation().server_beta2(), 0.99);
  EXPECT_EQ(spec.aggregation().server_tau(), 1e-3);
  EXPECT_FALSE(spec.aggregation().has_server_momentum());
}

}  // namespace
}  // namespace espalier::config
