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

TEST(InitialValuesTest, ConvolutionCountsItsWindowAndBatchNormBeginsAsIdentity) {
  v1::JobSpec spec;
  v1::ImageShape& image = *spec.mutable_model()->mutable_input_image();
  image.set_channels(40);
  image.set_height(4);
  image.set_width(4);
  v1::Conv2dLayer& conv = *spec.mutable_model()->add_layers()->mutable_conv2d();
  conv.set_channels(60);
  conv.set_no_bias(true);
  conv.set_initializer(v1::INITIALIZER_HE);
  spec.mutable_model()->add_layers()->mutable_batch_norm();
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  auto layout = wire::LayoutOf(spec.model()).value();
  auto structure = RandomStructure(*layout, {.distribution = "uniform", .density = 0.1}, 5).value();
  const auto topology = tensor::ModelTopology::Create(layout, structure).value();
  const tensor::ModelState model = {
      .topology = std::make_shared<const tensor::ModelTopology>(topology),
      .values = InitialValues(spec.model(), topology, 3)};
  double squares = 0;
  for (const float value : model.tensor(0)) squares += value * value;
  const double variance = squares / static_cast<double>(topology.stored(0));
  EXPECT_NEAR(variance, 2.0 / (0.1 * 40 * 9), 0.01);
  const float expected[] = {1, 0, 0, 1};  // scale, shift, running mean and variance
  for (size_t i = 0; i < 4; ++i) {
    for (const float value : model.tensor(1 + i)) EXPECT_EQ(value, expected[i]);
  }
}

}  // namespace
}  // namespace espalier::server::methods
