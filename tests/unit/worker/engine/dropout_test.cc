#include "worker/engine/dropout.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/base/rng.h"

namespace espalier::worker::engine {
namespace {

TEST(DropoutMaskTest, BitsAreThoseOfPhilox) {
  constexpr int64_t kRows = 3;
  constexpr int64_t kStride = 272;
  constexpr uint64_t kKey = 0x0123456789ABCDEF;
  DropoutMask mask(0.25, DropoutScaling::kTraining, kRows, kStride);
  mask.Draw(kKey, {0, kRows});
  for (uint32_t row = 0; row < kRows; ++row) {
    for (uint32_t column = 0; column < kStride; ++column) {
      const auto block = base::Philox({row, 0, column / 128, column % 16},
                                      {static_cast<uint32_t>(kKey), kKey >> 32});
      const uint32_t half = column % 128 / 16;
      const uint32_t random = (block[half / 2] >> (16 * (half % 2))) & 0xFFFF;
      ASSERT_EQ(mask.kept(row, column), random >= 65536 / 4) << row << ", " << column;
    }
  }
}

TEST(DropoutMaskTest, RowsDrawnApartEqualRowsDrawnTogether) {
  DropoutMask together(0.5, DropoutScaling::kTraining, 10, 48);
  DropoutMask apart(0.5, DropoutScaling::kTraining, 10, 48);
  together.Draw(7, {0, 10});
  apart.Draw(7, {6, 10});
  apart.Draw(7, {0, 6});
  for (int64_t i = 0; i < 480; ++i)
    ASSERT_EQ(together.kept(i / 48, i % 48), apart.kept(i / 48, i % 48));
}

TEST(DropoutMaskTest, KeptOutputsAreScaledSoThatTheMeanStays) {
  constexpr int64_t kRows = 500;
  constexpr int64_t kStride = 112;
  DropoutMask mask(0.3, DropoutScaling::kTraining, kRows, kStride);
  mask.Draw(1, {0, kRows});
  std::vector<float> y(kRows * kStride, 1.0F);
  mask.Apply(y.data(), kStride, kStride, {0, kRows});
  EXPECT_EQ(y, std::vector<float>(kRows * kStride, 1.0F)) << "an inactive mask changes nothing";
  mask.set_active(true);
  mask.Apply(y.data(), kStride, kStride, {0, kRows});
  double sum = 0;
  int64_t dropped = 0;
  for (const float value : y) {
    sum += value;
    dropped += value == 0 ? 1 : 0;
    ASSERT_TRUE(value == 0 || value == mask.scale());
  }
  EXPECT_NEAR(sum / (kRows * kStride), 1.0, 0.02);
  EXPECT_NEAR(static_cast<double>(dropped) / (kRows * kStride), 0.3, 0.01);
}

TEST(DropoutMaskTest, ScaledInEvaluationOutputsAreKeptAsTheyAreInTraining) {
  DropoutMask mask(0.25, DropoutScaling::kEvaluation, 2, 48);
  mask.Draw(1, {0, 2});
  std::vector<float> y(96, 1.0F);
  mask.Apply(y.data(), 48, 48, {0, 2});
  EXPECT_EQ(y, std::vector<float>(96, 0.75F));
  mask.set_active(true);
  mask.Apply(y.data(), 48, 48, {0, 2});
  for (int64_t i = 0; i < 96; ++i) ASSERT_EQ(y[i], mask.kept(i / 48, i % 48) ? 0.75F : 0.0F);
}

TEST(DropoutMaskTest, ZeroProbabilityIsDisabled) {
  DropoutMask mask(0.0, DropoutScaling::kTraining, 4, 16);
  mask.set_active(true);
  EXPECT_FALSE(mask.enabled());
  EXPECT_FALSE(mask.active());
  EXPECT_EQ(mask.scale(), 1.0F);
}

}  // namespace
}  // namespace espalier::worker::engine
