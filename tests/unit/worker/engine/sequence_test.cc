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

// Attention of sequences in either form, in double and in the plainest form.
struct Layout {
  const char* name;
  bool lanes;
  bool causal;
  float scale;
};

class AttentionLayoutTest : public ::testing::TestWithParam<Layout> {
 protected:
  static constexpr int64_t kSequences = 32;
  static constexpr int64_t kTokens = 5;
  static constexpr int64_t kStride = 240;
  static constexpr int64_t kQueries = 12 * kStride;
  static constexpr int64_t kKeys = 6 * kStride;

  AttentionShape shape_ = {.heads = 4,
                           .kv_heads = 2,
                           .head_size = 3,
                           .stride = kStride,
                           .causal = GetParam().causal,
                           .scale = GetParam().scale};
  LaneSequences lanes_ = {.tokens = kTokens, .distance = 48, .width = kSequences};
  std::vector<int64_t> bounds_;

  AttentionLayoutTest() {
    for (int64_t s = 0; s <= kSequences; ++s) bounds_.push_back(s * kTokens);
  }
  int64_t Column(int64_t sequence, int64_t token) const {
    return GetParam().lanes ? token * lanes_.distance + sequence : bounds_[sequence] + token;
  }
  std::vector<float> Run(const std::vector<float>& q, const std::vector<float>& k,
                         const std::vector<float>& v, int threads) const {
    std::vector<float> out(kQueries);
    if (GetParam().lanes) {
      Attention(shape_, q.data(), k.data(), v.data(), lanes_, out.data(), threads);
    } else {
      Attention(shape_, q.data(), k.data(), v.data(), bounds_, out.data(), threads);
    }
    return out;
  }
  std::vector<std::vector<float>> Gradients(const std::vector<float>& q,
                                            const std::vector<float>& k,
                                            const std::vector<float>& v,
                                            const std::vector<float>& dout, int threads) const {
    std::vector<float> dq(kQueries);
    std::vector<float> dk(kKeys);
    std::vector<float> dv(kKeys);
    if (GetParam().lanes) {
      AttentionGradient(shape_, q.data(), k.data(), v.data(), dout.data(), lanes_, dq.data(),
                        dk.data(), dv.data(), threads);
    } else {
      AttentionGradient(shape_, q.data(), k.data(), v.data(), dout.data(), bounds_, dq.data(),
                        dk.data(), dv.data(), threads);
    }
    return {dq, dk, dv};
  }
  // Calls body(row, column, value) for every output.
  template <typename Floats, typename Body>
  void Reference(const Floats& q, const Floats& k, const Floats& v, const Body& body) const {
    const double scale = shape_.scale != 0 ? shape_.scale : 1 / std::sqrt(3.0);
    for (int64_t s = 0; s < kSequences; ++s) {
      for (int64_t h = 0; h < shape_.heads; ++h) {
        for (int64_t t = 0; t < kTokens; ++t) {
          const int64_t keys = shape_.causal ? t + 1 : kTokens;
          std::vector<double> p(keys);
          double sum = 0;
          for (int64_t j = 0; j < keys; ++j) {
            for (int64_t d = 0; d < 3; ++d) {
              p[j] += scale * q[(h * 3 + d) * kStride + Column(s, t)] *
                      k[(h / 2 * 3 + d) * kStride + Column(s, j)];
            }
            sum += p[j] = std::exp(p[j]);
          }
          for (int64_t d = 0; d < 3; ++d) {
            double value = 0;
            for (int64_t j = 0; j < keys; ++j) {
              value += p[j] / sum * v[(h / 2 * 3 + d) * kStride + Column(s, j)];
            }
            body(h * 3 + d, Column(s, t), value);
          }
        }
      }
    }
  }
};

TEST_P(AttentionLayoutTest, AgreesWithThePlainestForm) {
  const auto q = Random(kQueries, 11);
  const auto k = Random(kKeys, 12);
  const auto v = Random(kKeys, 13);
  const std::vector<float> out = Run(q, k, v, 1);
  Reference(q, k, v, [&](int64_t row, int64_t column, double value) {
    ASSERT_NEAR(out[row * kStride + column], value, 1e-5);
  });
  EXPECT_EQ(Run(q, k, v, 3), out);
}

TEST_P(AttentionLayoutTest, GradientsAgreeWithFiniteDifferences) {
  const auto dout = Random(kQueries, 14);
  const std::vector<float> inputs[] = {Random(kQueries, 15), Random(kKeys, 16), Random(kKeys, 17)};
  const auto gradients = Gradients(inputs[0], inputs[1], inputs[2], dout, 1);
  EXPECT_EQ(Gradients(inputs[0], inputs[1], inputs[2], dout, 3), gradients);
  std::vector<double> exact[3];
  for (int i = 0; i < 3; ++i) exact[i].assign(inputs[i].begin(), inputs[i].end());
  const auto loss = [&] {
    double sum = 0;
    Reference(exact[0], exact[1], exact[2], [&](int64_t row, int64_t column, double value) {
      sum += value * dout[row * kStride + column];
    });
    return sum;
  };
  // Every row, at tokens of different sequences.
  for (int i = 0; i < 3; ++i) {
    for (int64_t row = 0; row < static_cast<int64_t>(exact[i].size()) / kStride; ++row) {
      const int64_t at = row * kStride + Column(7 * row % kSequences, row % kTokens);
      const double before = exact[i][at];
      constexpr double kStep = 1e-5;
      exact[i][at] = before + kStep;
      const double above = loss();
      exact[i][at] = before - kStep;
      const double expected = (above - loss()) / (2 * kStep);
      exact[i][at] = before;
      EXPECT_NEAR(gradients[i][at], expected, 1e-4) << "input " << i << " row " << row;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, AttentionLayoutTest,
                         ::testing::Values(Layout{"CausalTokens", false, true, 0},
                                           Layout{"AllTokens", false, false, 1},
                                           Layout{"CausalLanes", true, true, 0},
                                           Layout{"AllLanes", true, false, 1}),
                         [](const auto& info) { return std::string(info.param.name); });

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
