#include "server/methods/structure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;

// Stored values of the weights of a job's initial model.
std::vector<int64_t> WeightCounts(const v1::JobSpec& spec) {
  const auto start = MethodRegistry::Builtin().Make(spec).value()->Start().value();
  const tensor::ModelTopology& topology = *start.state.model.topology;
  std::vector<int64_t> counts;
  for (size_t i = 0; i < topology.num_tensors(); i += 2) counts.push_back(topology.stored(i));
  return counts;
}

v1::JobSpec LeNet(const std::string& method) {
  v1::JobSpec spec = SmallJob(method);
  spec.clear_model();
  spec.mutable_model()->set_input_features(784);
  AddLayer(spec, 300, v1::ACTIVATION_RELU);
  AddLayer(spec, 100, v1::ACTIVATION_RELU);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  return spec;
}

// Densities by hand, with largest-remainder rounding to the exact total of 133,100, 26,620 and
// 5,324.
TEST(StructureTest, StaticErkCountsOfLeNet) {
  v1::JobSpec spec = LeNet("static");
  SetDouble(spec, "density", 0.5);
  EXPECT_THAT(WeightCounts(spec), ElementsAre(102100, 30000, 1000));
  SetDouble(spec, "density", 0.1);
  EXPECT_THAT(WeightCounts(spec), ElementsAre(18714, 6906, 1000));
  SetDouble(spec, "density", 0.02);
  EXPECT_THAT(WeightCounts(spec), ElementsAre(3621, 1336, 367));
}

// round(13 · (inputs + outputs)) each.
TEST(StructureTest, SetEpsilonCountsAreClippedAtTheLayerSize) {
  v1::JobSpec spec = SmallJob("set");
  spec.clear_model();
  spec.mutable_model()->set_input_features(784);
  for (const int64_t units : {1000, 1000, 1000, 10}) AddLayer(spec, units, v1::ACTIVATION_RELU);
  SetDouble(spec, "epsilon", 13);
  EXPECT_THAT(WeightCounts(spec), ElementsAre(23192, 26000, 26000, 10000));
}

TEST(StructureTest, DensityThatLeavesALayerWithoutWeightsIsRefused) {
  v1::JobSpec spec = LeNet("static");
  SetDouble(spec, "density", 1e-7);
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1);
  EXPECT_THAT(violations[0].description, ::testing::HasSubstr("would keep none of its"));
}

TEST(StructureTest, DensityWithoutDistributionMakesSetUseErdosRenyi) {
  v1::JobSpec spec = LeNet("set");
  SetDouble(spec, "density", 0.02);
  EXPECT_THAT(WeightCounts(spec), ElementsAre(3621, 1336, 367));
}

TEST(StructureTest, EpsilonWithoutDistributionMeansSetEpsilon) {
  v1::JobSpec spec = LeNet("static");
  SetDouble(spec, "epsilon", 2);
  EXPECT_THAT(WeightCounts(spec), ElementsAre(2168, 800, 220));
}

TEST(StructureTest, DenseLayersAreExemptAndNotCounted) {
  v1::JobSpec spec = LeNet("static");
  SetDouble(spec, "density", 0.1);
  SetWord(spec, "distribution", "uniform");
  spec.mutable_model()->mutable_layers(2)->mutable_linear()->set_dense(true);
  EXPECT_THAT(WeightCounts(spec), ElementsAre(23520, 3000, 1000));
}

// 266,200 weights and 410 biases: 0.1 · 266,610 − 410 = 26,251 weights.
TEST(StructureTest, DensityOverAllParametersCountsTheExemptOnesAsActive) {
  v1::JobSpec spec = LeNet("static");
  SetDouble(spec, "density", 0.1);
  SetWord(spec, "density_over", "all");
  const std::vector<int64_t> counts = WeightCounts(spec);
  EXPECT_EQ(counts[0] + counts[1] + counts[2], 26251);
  // The last layer, 1,000 weights, is dense and part of the budget: 25,251 are left for the others.
  SetWord(spec, "distribution", "uniform");
  spec.mutable_model()->mutable_layers(2)->mutable_linear()->set_dense(true);
  const std::vector<int64_t> uniform = WeightCounts(spec);
  EXPECT_EQ(uniform[0] + uniform[1], 25251);
  EXPECT_EQ(uniform[2], 1000);
}

TEST(StructureTest, DensityOverAllParametersThatTheExemptOnesExceedIsRefused) {
  v1::JobSpec spec = LeNet("static");
  SetDouble(spec, "density", 0.001);
  SetWord(spec, "density_over", "all");
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "method.parameters.density");
  SetWord(spec, "distribution", "set_epsilon");
  spec.mutable_method()->mutable_parameters()->erase("density");
  violations.clear();
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "method.parameters.density_over");
}

TEST(StructureTest, TensorOfTooManyValuesIsRefused) {
  v1::JobSpec spec = LeNet("static");
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(10000000);
  SetDouble(spec, "density", 1);
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_THAT(violations[0].description, testing::HasSubstr("lower the density"));
}

}  // namespace
}  // namespace espalier::server::methods
