#include "worker/engine/input_noise.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/rng.h"
#include "tests/unit/worker/engine/dense_network.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kRows = 300;
constexpr int64_t kStride = 112;
constexpr int64_t kWidth = 100;

std::vector<float> Noise(double deviation, uint64_t key) {
  std::vector<float> values(kRows * kStride, 0.0F);
  AddNoise(deviation, key, {0, kRows}, kWidth, kStride, values.data());
  return values;
}

TEST(InputNoiseTest, HasMeanZeroTheDeviationAskedForAndNoLongTails) {
  const std::vector<float> noise = Noise(0.5, 1);
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = 0; column < kWidth; ++column) {
      const double value = noise[row * kStride + column];
      ASSERT_LE(std::abs(value), 0.5 * 3.4506);
      sum += value;
      squares += value * value;
      fourth += value * value * value * value;
    }
  }
  const double count = kRows * kWidth;
  EXPECT_NEAR(sum / count, 0, 0.01);
  EXPECT_NEAR(squares / count, 0.25, 0.005);
  // Of four uniform numbers: 3 − 1.2 / 4.
  EXPECT_NEAR(fourth / count / 0.0625, 2.7, 0.1);
}

TEST(InputNoiseTest, TouchesTheExamplesAloneAndAddsToThem) {
  const std::vector<float> noise = Noise(1, 2);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t column = kWidth; column < kStride; ++column) {
      ASSERT_EQ(noise[row * kStride + column], 0);
    }
  }
  std::vector<float> ones(kRows * kStride, 1.0F);
  AddNoise(1, 2, {0, kRows}, kWidth, kStride, ones.data());
  EXPECT_FLOAT_EQ(ones[5], 1 + noise[5]);
}

TEST(InputNoiseTest, IsTheSameHoweverRowsAreDivided) {
  std::vector<float> apart(kRows * kStride, 0.0F);
  AddNoise(1, 3, {100, kRows}, kWidth, kStride, apart.data());
  AddNoise(1, 3, {0, 100}, kWidth, kStride, apart.data());
  EXPECT_EQ(apart, Noise(1, 3));
  EXPECT_NE(Noise(1, 3), Noise(1, 4));
}

// Values computed by hand from the words of the block.
TEST(InputNoiseTest, IsTheSumOfFourBytes) {
  const auto words = base::Philox({7, 0, 2, 0}, {5, 0});
  const uint32_t word = words[1];
  const int sum =
      static_cast<int>(word % 256 + word / 256 % 256 + word / 65536 % 256 + word / 16777216);
  const double expected = (sum - 510) / std::sqrt(4 * (256.0 * 256 - 1) / 12);
  EXPECT_NEAR(Noise(1, 5)[7 * kStride + 9], expected, 1e-6);
}

// An autoencoder learns from what it was not given: noise is in the input, not in the target.
TEST(InputNoiseTest, TrainsOnNoisyInputsAndEvaluatesOnCleanOnes) {
  NetworkSpec spec = DenseSpec();
  const auto clean = MakeNetwork(spec);
  spec.input_noise = 0.3;
  const auto noisy = MakeNetwork(spec);
  const OwnedBatch owned = MakeBatch(spec, *clean);
  EXPECT_EQ(noisy->Evaluate(owned.batch).loss_sum, clean->Evaluate(owned.batch).loss_sum);
  const double first = noisy->Train(owned.batch, 0, 1).loss_sum;
  EXPECT_NE(first, clean->Train(owned.batch, 0, 1).loss_sum);
  EXPECT_EQ(noisy->Train(owned.batch, 0, 1).loss_sum, first);
  EXPECT_NE(noisy->Train(owned.batch, 0, 2).loss_sum, first);
}

}  // namespace
}  // namespace espalier::worker::engine
