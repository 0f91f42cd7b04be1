#include "common/sparsity/schedule.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace espalier::sparsity {
namespace {

using Table = std::vector<std::pair<double, double>>;

TEST(ScheduleTest, CosineAdjustFractionGivesTheGoldenValues) {
  for (const auto& [t, expected] :
       Table{{0, .300000}, {10, .292658}, {25, .256066}, {50, .150000}, {75, .043934}, {100, 0}}) {
    EXPECT_NEAR(CosineAdjustFraction(.3, t, 100), expected, 5e-7) << t;
  }
  EXPECT_EQ(CosineAdjustFraction(.3, 101, 100), 0.0);
  EXPECT_EQ(CosineAdjustFraction(.3, 0, 0), 0.0);
}

TEST(ScheduleTest, CubicSparsityGivesTheGoldenValues) {
  for (const auto& [t, expected] :
       Table{{0, 0}, {1, .128363}, {5, .520313}, {10, .787500}, {15, .885938}, {20, .900000}}) {
    EXPECT_NEAR(CubicSparsity(0, .9, 100 + t, 100, 120), expected, 6e-7) << t;
  }
}

TEST(ScheduleTest, CubicSparsityIsClampedOutsideItsSpan) {
  EXPECT_EQ(CubicSparsity(.1, .9, 99, 100, 120), .1);
  EXPECT_EQ(CubicSparsity(.1, .9, 121, 100, 120), .9);
  EXPECT_EQ(CubicSparsity(.1, .9, 100, 100, 100), .9);
}

// Average density of a run that prunes between 25 % and 75 % of its steps.
TEST(ScheduleTest, AverageCountOfCubicPruningGivesTheGoldenValues) {
  for (const auto& [density, expected] : Table{{.5, .6875}, {.4, .625}, {.3, .5625}, {.2, .5}}) {
    constexpr int kSteps = 100000;
    double sum = 0;
    for (int t = 0; t < kSteps; ++t) {
      sum += 1 - CubicSparsity(0, 1 - density, t + 0.5, 0.25 * kSteps, 0.75 * kSteps);
    }
    EXPECT_NEAR(sum / kSteps, expected, 1e-6) << density;
  }
}

TEST(ScheduleTest, ExponentialDensityGivesTheGoldenValues) {
  for (const auto& [iteration, expected] :
       Table{{0, .977237}, {9, .794328}, {49, .316228}, {98, .102329}, {99, .100000}}) {
    EXPECT_NEAR(ExponentialDensity(.1, static_cast<int64_t>(iteration), 100), expected, 5e-7);
  }
}

TEST(ScheduleTest, CosineWithFloorRunsFromInitialToFloor) {
  EXPECT_DOUBLE_EQ(CosineWithFloor(.5, .005, 0, 100), .5);
  EXPECT_DOUBLE_EQ(CosineWithFloor(.5, .005, 50, 100), .2525);
  EXPECT_EQ(CosineWithFloor(.5, .005, 100, 100), .005);
  EXPECT_EQ(CosineWithFloor(.5, .005, 200, 100), .005);
}

TEST(ScheduleTest, FractionOfIsTheFloorOfTheDecimalProduct) {
  EXPECT_EQ(FractionOf(0.3, 6), 1);
  EXPECT_EQ(FractionOf(0.3, 8), 2);
  EXPECT_EQ(FractionOf(0.3, 10), 3);
  EXPECT_EQ(FractionOf(0.29, 100), 29);
  EXPECT_EQ(FractionOf(0, 100), 0);
  EXPECT_EQ(FractionOf(1, 2147483647), 2147483647);
  for (int64_t percent = 0; percent <= 100; ++percent) {
    EXPECT_EQ(FractionOf(static_cast<double>(percent) / 100, 100000), percent * 1000);
  }
}

}  // namespace
}  // namespace espalier::sparsity
