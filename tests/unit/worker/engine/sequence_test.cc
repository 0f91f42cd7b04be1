// What transformers compute between their products; attention, norms and gates as a whole are
// compared with a naive forward pass in transformer_test.cc.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "common/base/rng.h"
#include "worker/engine/sequence/attention.h"
#include "worker/engine/sequence/exponential.h"
#include "worker/engine/sequence/rotary.h"

namespace espalier::worker::engine {
namespace {

TEST(ExponentialTest, IsAccurateInItsRange) {
  for (double x = -87; x <= 88; x += 1.0 / 512) {
    const auto argument = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(argument));
    ASSERT_NEAR(Exponential(argument) / exact, 1, 3e-7) << x;
  }
  EXPECT_EQ(Exponential(0), 1);
  EXPECT_EQ(Exponential(-1e30F), Exponential(-87));
  EXPECT_EQ(Exponential(1e30F), Exponential(88));
  EXPECT_TRUE(std::isnan(Exponential(std::numeric_limits<float>::quiet_NaN())));
}

std::vector<float> Random(int64_t size, uint64_t seed) {
  base::Rng rng(base::StreamKey(seed, "sequence"));
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = static_cast<float>(rng.Normal());
  return values;
}

constexpr AttentionShape kShape = {.heads = 6, .kv_heads = 3, .head_size = 10, .stride = 80};

TEST(AttentionTest, IsTheSameForAnyNumberOfThreads) {
  const auto q = Random(60 * 80, 1);
  const auto k = Random(30 * 80, 2);
  const auto v = Random(30 * 80, 3);
  const std::vector<int64_t> bounds = {0, 33, 34, 75};
  std::vector<float> one(60 * 80);
  std::vector<float> four(60 * 80);
  Attention(kShape, q.data(), k.data(), v.data(), bounds, one.data(), 1);
  Attention(kShape, q.data(), k.data(), v.data(), bounds, four.data(), 4);
  EXPECT_EQ(one, four);
}

TEST(AttentionTest, OneTokenAgainstKeptKeysIsTheLastOfASequence) {
  const auto q = Random(60 * 80, 4);
  const auto k = Random(30 * 80, 5);
  const auto v = Random(30 * 80, 6);
  const std::vector<int64_t> bounds = {0, 40};
  std::vector<float> whole(60 * 80);
  Attention(kShape, q.data(), k.data(), v.data(), bounds, whole.data(), 1);
  std::vector<float> last(60 * 80);
  AttendOne(kShape, q.data() + 39, k.data(), v.data(), 80, 40, last.data(), 2);
  for (int64_t d = 0; d < 60; ++d) EXPECT_EQ(last[d * 80], whole[d * 80 + 39]);
}

TEST(RotaryTest, TurnsBackAndContinuesAtAPosition) {
  const Rotary rotary(10, 50, 10000);
  const auto before = Random(20 * 64, 7);
  std::vector<float> x = before;
  rotary.Apply(x.data(), 2, 64, 3, 40, 5);
  for (int64_t r = 0; r < 20; ++r) EXPECT_EQ(x[r * 64 + 2], before[r * 64 + 2]);
  std::vector<float> one = before;
  rotary.Apply(one.data(), 2, 64, 10, 1, 12);
  for (int64_t r = 0; r < 20; ++r) EXPECT_EQ(one[r * 64 + 10], x[r * 64 + 10]);
  rotary.Apply(x.data(), 2, 64, 3, 40, 5, true);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], before[i], 1e-5);
}

}  // namespace
}  // namespace espalier::worker::engine
