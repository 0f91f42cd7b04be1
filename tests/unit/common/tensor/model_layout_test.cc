#include "common/tensor/model_layout.h"

#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::tensor {
namespace {

std::string ReasonOfStack(int64_t inputs, std::vector<LinearShape> layers) {
  return base::ReasonOf(LinearStackLayout(inputs, layers).status());
}

TEST(ModelLayoutTest, LinearLayersGiveWeightAndBias) {
  const std::vector<LinearShape> layers = {{.units = 4},
                                           {.units = 3, .dense = true, .bias = false}};
  const ModelLayout layout = LinearStackLayout(5, layers).value();
  ASSERT_EQ(layout.size(), 3u);
  EXPECT_EQ(layout[0], (TensorSpec{"layers.0.weight", {4, 5}, 4, 5, true}));
  EXPECT_EQ(layout[1], (TensorSpec{"layers.0.bias", {4}, 4, 1, false}));
  EXPECT_EQ(layout[2], (TensorSpec{"layers.1.weight", {3, 4}, 3, 4, false}));
}

TEST(ModelLayoutTest, UnusableDimensionsAreRefused) {
  EXPECT_EQ(ReasonOfStack(0, {{.units = 1}}), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfStack(-3, {{.units = 1}}), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfStack(3, {{.units = 1}, {.units = 0}}), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfStack(int64_t{1} << 40, {{.units = 1}}), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfStack(3, {}), "NO_LAYERS");
}

TEST(ModelLayoutTest, WeightOfMoreThanTwoToTheFiftyThreePositionsIsRefused) {
  EXPECT_EQ(ReasonOfStack(1 << 27, {{.units = 1 << 26}}), "");
  EXPECT_EQ(ReasonOfStack(1 << 27, {{.units = (1 << 26) + 1}}), "SHAPE_OUT_OF_RANGE");
}

}  // namespace
}  // namespace espalier::tensor
