#include "server/methods/initial_values.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/wire/model_spec/model_spec.h"
#include "server/methods/structure.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

// Standard deviation of the first layer's values, 200 inputs × 100 units at density 0.1.
double DeviationOf(v1::Initializer initializer) {
  v1::JobSpec spec;
  spec.mutable_model()->set_input_features(200);
  AddLayer(spec, 100, v1::ACTIVATION_RELU);
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_initializer(initializer);
  auto layout = wire::LayoutOf(spec.model()).value();
  auto structure = RandomStructure(*layout, {.distribution = "uniform", .density = 0.1}, 5).value();
  const auto topology = tensor::ModelTopology::Create(layout, structure).value();
  const std::vector<float> values = InitialValues(spec.model(), topology, 3);
  double squares = 0;
  for (int64_t i = 0; i < topology.stored(0); ++i) squares += values[i] * values[i];
  for (size_t i = topology.stored(0); i < values.size(); ++i) EXPECT_EQ(values[i], 0.0f);
  return std::sqrt(squares / static_cast<double>(topology.stored(0)));
}

TEST(InitialValuesTest, FansCountActiveWeights) {
  EXPECT_NEAR(DeviationOf(v1::INITIALIZER_HE), std::sqrt(2.0 / 20), 0.02);
  EXPECT_NEAR(DeviationOf(v1::INITIALIZER_GLOROT), std::sqrt(2.0 / 30), 0.02);
  EXPECT_NEAR(DeviationOf(v1::INITIALIZER_NORMAL), 0.1, 0.01);
}

}  // namespace
}  // namespace espalier::server::methods
