// The softmax of columns that losses are made of.
#include "worker/engine/loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/engine/fixtures.h"

namespace espalier::worker::engine {
namespace {

TEST(SoftmaxOfColumnsTest, SumsExponentialsBelowTheLargestLogit) {
  constexpr int64_t kClasses = 50;
  constexpr int64_t kStride = 48;
  constexpr int64_t kSize = 33;
  // Exponentials of these would overflow.
  const auto logits = RandomFloats(kClasses * kStride, 1, 300);
  std::vector<float> exponentials(logits.size(), -1);
  const ColumnSoftmax with =
      SoftmaxOfColumns(logits.data(), kClasses, kStride, kSize, exponentials.data());
  const ColumnSoftmax without = SoftmaxOfColumns(logits.data(), kClasses, kStride, kSize, nullptr);
  EXPECT_EQ(with.sum, without.sum);
  ASSERT_EQ(with.top.size(), kSize);
  for (int64_t b = 0; b < kSize; ++b) {
    double sum = 0;
    for (int64_t c = 0; c < kClasses; ++c) {
      ASSERT_LE(logits[c * kStride + b], with.top[b]);
      const double expected = std::exp(static_cast<double>(logits[c * kStride + b]) - with.top[b]);
      ASSERT_NEAR(exponentials[c * kStride + b], expected, 1e-6);
      sum += expected;
    }
    EXPECT_EQ(logits[with.best[b] * kStride + b], with.top[b]);
    EXPECT_NEAR(with.sum[b], sum, 1e-5);
  }
  EXPECT_EQ(exponentials[kSize], -1);
}

TEST(SoftmaxOfColumnsTest, TheLowestRowWinsTies) {
  std::vector<float> logits(3 * 16, 2.0F);
  EXPECT_THAT(SoftmaxOfColumns(logits.data(), 3, 16, 2, nullptr).best,
              ::testing::ElementsAre(0, 0));
}

}  // namespace
}  // namespace espalier::worker::engine
