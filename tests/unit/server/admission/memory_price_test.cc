#include "server/admission/memory_price.h"

#include <gtest/gtest.h>

#include <regex>
#include <string>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "server/admission/admission.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::admission {
namespace {

using methods::AddLayer;
using methods::MethodRegistry;
using methods::SetDouble;

const MethodRegistry& Registry() {
  static const MethodRegistry registry = MethodRegistry::Builtin();
  return registry;
}

// inputs-units-10, as a job of that method with its defaults.
v1::JobSpec Job(const std::string& method, int64_t inputs, int64_t units) {
  v1::JobSpec spec = methods::SmallJob(method);
  spec.clear_model();
  spec.mutable_model()->set_input_features(inputs);
  AddLayer(spec, units, v1::ACTIVATION_RELU);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  spec.mutable_federation()->set_rounds(3);
  config::ApplyDefaults(spec);
  return spec;
}

absl::StatusOr<Price> PriceOf(const v1::JobSpec& spec, int64_t workers = 1) {
  ESPALIER_ASSIGN_OR_RETURN(const Counts counts, CountsOf(spec, Registry()));
  return admission::PriceOf(spec, counts, workers);
}

double Bytes(const v1::JobSpec& spec, int64_t workers = 1) {
  const auto price = PriceOf(spec, workers);
  EXPECT_TRUE(price.ok()) << price.status();
  return price->bytes;
}

TEST(MemoryPriceTest, PartsAddUp) {
  const auto price = PriceOf(Job("rigl", 1000, 1000));
  ASSERT_TRUE(price.ok());
  double sum = 0;
  for (const Part& part : price->parts) sum += part.bytes;
  EXPECT_DOUBLE_EQ(sum, price->bytes);
}

// Twice the model, its exact sums of 16 bytes and their mean.
TEST(MemoryPriceTest, DenseWeightTakes32Bytes) {
  const double weights = 10'000.0 * 1000;
  EXPECT_NEAR(Bytes(Job("dense", 10'000, 1000)) / weights, 32, 1);
}

TEST(MemoryPriceTest, MedianKeepsTheUpdatesOfACohort) {
  v1::JobSpec spec = Job("dense", 10'000, 1000);
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
  spec.mutable_data()->mutable_partition()->set_shards(100);
  const double all = Bytes(spec);
  spec.mutable_federation()->set_cohort_size(10);
  const double cohort = Bytes(spec);
  EXPECT_NEAR((all - cohort) / (90 * 4 * 1e7), 1, 0.05);
}

TEST(MemoryPriceTest, ControlVariatesCountEveryParticipant) {
  v1::JobSpec spec = Job("dense", 10'000, 1000);
  spec.mutable_training()->set_control_variates(true);
  spec.mutable_federation()->set_cohort_size(2);
  const double few = Bytes(spec);
  spec.mutable_data()->mutable_partition()->set_shards(104);
  EXPECT_NEAR((Bytes(spec) - few) / (100 * 4 * 1e7), 1, 0.05);
}

TEST(MemoryPriceTest, WorkersWithDataOfTheirOwnAreParticipants) {
  v1::JobSpec spec = Job("dense", 10'000, 1000);
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  spec.mutable_data()->mutable_partition()->clear_shards();
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
  EXPECT_NEAR((Bytes(spec, 50) - Bytes(spec, 1)) / (49 * 4 * 1e7), 1, 0.05);
}

TEST(MemoryPriceTest, HundredThousandShardsOfASmallModelTakeLessThan300Megabytes) {
  v1::JobSpec spec = Job("dense", 64, 200);
  spec.mutable_data()->mutable_partition()->set_shards(100'000);
  EXPECT_LT(Bytes(spec), 300e6);
  EXPECT_GT(Bytes(spec), 100e6);
}

TEST(MemoryPriceTest, EveryStateThatCrossesRoundsCosts) {
  v1::JobSpec spec = Job("dense", 10'000, 1000);
  const double plain = Bytes(spec);
  spec.mutable_aggregation()->set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_ADAM);
  const double adam = Bytes(spec);
  EXPECT_GT(adam, plain + 2 * 4e7);
  spec.mutable_training()->mutable_optimizer()->set_momentum(0.9);
  spec.mutable_training()->mutable_optimizer()->set_across_rounds(
      v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  EXPECT_GT(Bytes(spec), adam + 20 * 1e7);
}

// Before and after the round, published of both, in the checkpoint and in that of the round before: six
// times each.
TEST(MemoryPriceTest, OptimizerStateIsInCheckpointsAsWell) {
  v1::JobSpec spec = Job("static", 10'000, 1000);
  SetDouble(spec, "density", 0.5);
  v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
  optimizer.set_momentum(0.9);
  // What a job keeps while updates are summed is less than that.
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_KRUM);
  spec.mutable_data()->mutable_partition()->set_shards(1);
  const double without = Bytes(spec);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  EXPECT_NEAR((Bytes(spec) - without) / (6 * 4 * 5e6), 1, 0.05);
}

TEST(MemoryPriceTest, MethodsThatSeeTheDenseModelPayForIt) {
  const double sparse = Bytes(Job("static", 10'000, 1000));
  for (const char* method : {"gmp", "snip", "synflow"}) {
    EXPECT_GT(Bytes(Job(method, 10'000, 1000)), 3 * sparse) << method;
  }
  EXPECT_GT(Bytes(Job("prunefl", 10'000, 1000)), 1.5 * Bytes(Job("dense", 10'000, 1000)));
}

TEST(MemoryPriceTest, ScoresOfGrowthCost) {
  v1::JobSpec spec = Job("rigl", 10'000, 1000);
  const double few = Bytes(spec);
  SetDouble(spec, "candidate_slack", 10);
  EXPECT_GT(Bytes(spec), few + 36 * 1e6);
}

TEST(MemoryPriceTest, LargestNumbersGiveAPriceAndNoOverflow) {
  v1::JobSpec spec = Job("static", 800'000'000, 10'000'000);
  spec.mutable_data()->mutable_partition()->set_shards(100'000);
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
  SetDouble(spec, "density", 1e-8);
  EXPECT_GT(Bytes(spec), 1e12);
}

TEST(MemoryPriceTest, RoundsAreKeptToBeShown) {
  v1::JobSpec spec = Job("dense", 10, 10);
  const double few = Bytes(spec);
  spec.mutable_federation()->set_rounds(1'000'000);
  EXPECT_GT(Bytes(spec) - few, 1e9);
  EXPECT_LT(Bytes(spec) - few, 2e9);
}

// The number after `what` in a refusal's text.
double Stated(const std::string& text, const std::string& what) {
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(what + " ([0-9.e+-]+)"))) return 0;
  return std::stod(match[1]);
}

TEST(MemoryPriceTest, DensityThatIsSaidToFitDoes) {
  const Admission admission(200 << 20);
  v1::JobSpec spec = Job("set", 10'000, 1000);
  SetDouble(spec, "density", 0.9);
  const auto refusal = admission.Refusal(spec, PriceOf(spec).value());
  ASSERT_TRUE(refusal.has_value());
  const double density = Stated(refusal->description, "density");
  EXPECT_GT(density, 0.1) << refusal->description;
  SetDouble(spec, "density", density);
  EXPECT_FALSE(admission.Refusal(spec, PriceOf(spec).value()).has_value());
}

TEST(MemoryPriceTest, NumberOfShardsThatIsSaidToFitDoes) {
  const Admission admission(uint64_t{1} << 30);
  v1::JobSpec spec = Job("dense", 1000, 1000);
  spec.mutable_aggregation()->set_rule(v1::Aggregation::RULE_MEDIAN);
  spec.mutable_data()->mutable_partition()->set_shards(50'000);
  const auto refusal = admission.Refusal(spec, PriceOf(spec).value());
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->field, "data.partition.shards");
  const double shards = Stated(refusal->description, "shards");
  EXPECT_GT(shards, 100) << refusal->description;
  spec.mutable_data()->mutable_partition()->set_shards(static_cast<int32_t>(shards));
  EXPECT_FALSE(admission.Refusal(spec, PriceOf(spec).value()).has_value());
}

}  // namespace
}  // namespace espalier::server::admission
