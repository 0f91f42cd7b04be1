#include "server/reduce/fixed_point.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/base/rng.h"

namespace espalier::server::reduce {
namespace {

TEST(FixedPointTest, ProductIsExactDownToTwoToTheMinusSixty) {
  base::Rng rng(1);
  for (int i = 0; i < 100000; ++i) {
    const auto exponent = static_cast<int>(rng.Below(80)) - 60;
    const auto weight = static_cast<int64_t>(1 + rng.Below((1 << 15) - 1));
    const auto value =
        static_cast<float>(std::ldexp(1.0 + rng.Uniform() / 2, exponent) * (rng.Below(2) ? 1 : -1));
    const double exact = static_cast<double>(value) * static_cast<double>(weight);
    ASSERT_EQ(std::ldexp(static_cast<double>(ToFixedPoint(value, weight)), -kFractionBits), exact);
    ASSERT_EQ(MeanFromFixedPoint(ToFixedPoint(value, weight), static_cast<double>(weight)), value);
  }
}

TEST(FixedPointTest, LargestWeightStillGivesTheValueBack) {
  for (const float value : {1.0f, -0.1f, 0x1p-60f, -0x1.fffffep-60f, 3e-5f}) {
    EXPECT_EQ(MeanFromFixedPoint(ToFixedPoint(value, kMaxWeight / 8),
                                 static_cast<double>(kMaxWeight / 8)),
              value);
  }
}

TEST(FixedPointTest, ValuesBelowTheResolutionAreCutTowardsZero) {
  EXPECT_EQ(ToFixedPoint(0x1p-84f, 1), 1);
  EXPECT_EQ(ToFixedPoint(-0x1p-84f, 1), -1);
  EXPECT_EQ(ToFixedPoint(0x1.8p-84f, 1), 1);
  EXPECT_EQ(ToFixedPoint(-0x1.8p-85f, 1), 0);
  EXPECT_EQ(ToFixedPoint(std::numeric_limits<float>::denorm_min(), 1000), 0);
  EXPECT_EQ(ToFixedPoint(-0.0f, 5), 0);
}

}  // namespace
}  // namespace espalier::server::reduce
