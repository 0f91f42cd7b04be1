#include "common/language/float_formats.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace espalier::language {
namespace {

TEST(FloatFormatsTest, EveryFiniteHalfSurvives) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    if (std::isfinite(FromF16(half))) {
      ASSERT_EQ(ToF16(FromF16(half)), half);
    }
    if (std::isfinite(FromBf16(half))) {
      ASSERT_EQ(ToBf16(FromBf16(half)), half);
    }
  }
}

TEST(FloatFormatsTest, KnownValues) {
  EXPECT_EQ(FromF16(0x3c00), 1.0f);
  EXPECT_EQ(FromF16(0xc000), -2.0f);
  EXPECT_EQ(FromF16(0x7bff), 65504.0f);
  EXPECT_EQ(FromF16(0x0001), 0x1p-24f);
  EXPECT_EQ(FromF16(0x03ff), 1023 * 0x1p-24f);
  EXPECT_TRUE(std::isinf(FromF16(0x7c00)));
  EXPECT_TRUE(std::isnan(FromF16(0x7e00)));
  EXPECT_EQ(FromBf16(0x3f80), 1.0f);
}

TEST(FloatFormatsTest, RoundsToNearestTiesToEven) {
  EXPECT_EQ(ToF16(1.0f + 0x1p-11f), 0x3c00);
  EXPECT_EQ(ToF16(1.0f + 3 * 0x1p-11f), 0x3c02);
  EXPECT_EQ(ToF16(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);
  EXPECT_EQ(ToF16(1.5f * 0x1p-24f), 0x0002);
  EXPECT_EQ(ToF16(0.5f * 0x1p-24f), 0x0000);
  EXPECT_EQ(ToF16(65519.0f), 0x7bff);
  EXPECT_EQ(ToF16(65520.0f), 0x7c00);
  EXPECT_EQ(ToBf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(ToBf16(1.0f + 3 * 0x1p-8f), 0x3f82);
  EXPECT_TRUE(std::isnan(FromF16(ToF16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isnan(FromBf16(ToBf16(std::numeric_limits<float>::quiet_NaN()))));
}

}  // namespace
}  // namespace espalier::language
