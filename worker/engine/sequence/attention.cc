#include "worker/engine/sequence/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"
#include "worker/engine/sequence/exponential.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kAccumulators = 16;

// y[j] += Σ_d a[d · a_step] · rows[d · stride + j] for j < count: four rows at a time.
ESPALIER_MULTIVERSION void AddCombination(const float* a, int64_t a_step, float factor,
                                          const float* rows, int64_t stride, int64_t size,
                                          int64_t count, float* y) {
  int64_t d = 0;
  for (; d + 4 <= size; d += 4) {
    const float a0 = factor * a[d * a_step];
    const float a1 = factor * a[(d + 1) * a_step];
    const float a2 = factor * a[(d + 2) * a_step];
    const float a3 = factor * a[(d + 3) * a_step];
    const float* r0 = rows + d * stride;
    const float* r1 = r0 + stride;
    const float* r2 = r1 + stride;
    const float* r3 = r2 + stride;
    for (int64_t j = 0; j < count; ++j) {
      y[j] += (a0 * r0[j] + a1 * r1[j]) + (a2 * r2[j] + a3 * r3[j]);
    }
  }
  for (; d < size; ++d) {
    const float a0 = factor * a[d * a_step];
    const float* r0 = rows + d * stride;
    for (int64_t j = 0; j < count; ++j) y[j] += a0 * r0[j];
  }
}

// rows[d · stride + j] += factor · a[d · a_step] · x[j]
ESPALIER_MULTIVERSION void AddOuter(const float* a, int64_t a_step, float factor, const float* x,
                                    int64_t stride, int64_t size, int64_t count, float* rows) {
  for (int64_t d = 0; d < size; ++d) {
    const float a0 = factor * a[d * a_step];
    float* row = rows + d * stride;
    for (int64_t j = 0; j < count; ++j) row[j] += a0 * x[j];
  }
}

// out[d · out_step] = factor · Σ_j x[j] · rows[d · stride + j], summed in kAccumulators parts.
ESPALIER_MULTIVERSION void Dots(const float* x, const float* rows, int64_t stride, int64_t size,
                                int64_t count, float factor, float* out, int64_t out_step) {
  for (int64_t d = 0; d < size; ++d) {
    const float* row = rows + d * stride;
    float parts[kAccumulators] = {};
    int64_t j = 0;
    for (; j + kAccumulators <= count; j += kAccumulators) {
      for (int64_t l = 0; l < kAccumulators; ++l) parts[l] += x[j + l] * row[j + l];
    }
    for (; j < count; ++j) parts[j % kAccumulators] += x[j] * row[j];
    float sum = 0;
    for (const float part : parts) sum += part;
    out[d * out_step] = factor * sum;
  }
}

ESPALIER_MULTIVERSION void SoftmaxInPlace(int64_t count, float* x) {
  float largest[kAccumulators];
  std::fill_n(largest, kAccumulators, x[0]);
  int64_t j = 0;
  for (; j + kAccumulators <= count; j += kAccumulators) {
    for (int64_t l = 0; l < kAccumulators; ++l) {
      largest[l] = x[j + l] > largest[l] ? x[j + l] : largest[l];
    }
  }
  for (; j < count; ++j) largest[0] = x[j] > largest[0] ? x[j] : largest[0];
  const float top = *std::max_element(largest, largest + kAccumulators);
  for (j = 0; j < count; ++j) x[j] = Exponential(x[j] - top);
  double sums[kAccumulators] = {};
  for (j = 0; j + kAccumulators <= count; j += kAccumulators) {
    for (int64_t l = 0; l < kAccumulators; ++l) sums[l] += x[j + l];
  }
  for (; j < count; ++j) sums[j % kAccumulators] += x[j];
  double sum = 0;
  for (const double part : sums) sum += part;
  const auto inverse = static_cast<float>(1.0 / sum);
  for (j = 0; j < count; ++j) x[j] *= inverse;
}

// p = the softmax of one query (column at `q`) over `keys` keys.
void Probabilities(const AttentionShape& shape, const float* q, const float* k, int64_t kv_stride,
                   int64_t keys, float* p) {
  std::fill_n(p, keys, 0.0f);
  AddCombination(q, shape.stride, ScaleOf(shape), k, kv_stride, shape.head_size, keys, p);
  SoftmaxInPlace(keys, p);
}

int64_t LongestOf(std::span<const int64_t> bounds) {
  int64_t longest = 0;
  for (size_t s = 0; s + 1 < bounds.size(); ++s) {
    longest = std::max(longest, bounds[s + 1] - bounds[s]);
  }
  return longest;
}

// Calls body(begin, end, kv_head, scratch) for each sequence and key head; `scratch` has `vectors`
// times the longest sequence's floats.
template <typename Body>
void ForEachSequenceHead(const AttentionShape& shape, std::span<const int64_t> bounds, int vectors,
                         int threads, const Body& body) {
  const int64_t sequences = static_cast<int64_t>(bounds.size()) - 1;
  const int64_t units = sequences * shape.kv_heads;
  ParallelRows(threads, units, [&](RowRange range) {
    std::vector<float> scratch(static_cast<size_t>(vectors * LongestOf(bounds)));
    for (int64_t unit = range.begin; unit < range.end; ++unit) {
      const int64_t s = unit / shape.kv_heads;
      body(bounds[s], bounds[s + 1], unit % shape.kv_heads, scratch.data());
    }
  });
}

}  // namespace

float ScaleOf(const AttentionShape& shape) {
  if (shape.scale != 0) return shape.scale;
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape.head_size)));
}

void Attention(const AttentionShape& shape, const float* q, const float* k, const float* v,
               std::span<const int64_t> bounds, float* out, int threads) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t head_floats = shape.head_size * shape.stride;
  const auto unit = [&](int64_t begin, int64_t end, int64_t kv_head, float* p) {
    const float* keys = k + kv_head * head_floats + begin;
    const float* values = v + kv_head * head_floats + begin;
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t column = head * head_floats + i;
        const int64_t count = (shape.causal ? i + 1 : end) - begin;
        Probabilities(shape, q + column, keys, shape.stride, count, p);
        Dots(p, values, shape.stride, shape.head_size, count, 1.0f, out + column, shape.stride);
      }
    }
  };
  ForEachSequenceHead(shape, bounds, 1, threads, unit);
}

void AttentionGradient(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       const float* dout, std::span<const int64_t> bounds, float* dq, float* dk,
                       float* dv, int threads) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t head_floats = shape.head_size * shape.stride;
  const float scale = ScaleOf(shape);
  const int64_t longest = LongestOf(bounds);
  const auto unit = [&](int64_t begin, int64_t end, int64_t kv_head, float* p) {
    float* dp = p + longest;
    const int64_t kv = kv_head * head_floats + begin;
    for (int64_t d = 0; d < shape.head_size; ++d) {
      std::fill_n(dk + kv + d * shape.stride, end - begin, 0.0f);
      std::fill_n(dv + kv + d * shape.stride, end - begin, 0.0f);
    }
    for (int64_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t column = head * head_floats + i;
        const int64_t count = (shape.causal ? i + 1 : end) - begin;
        Probabilities(shape, q + column, k + kv, shape.stride, count, p);
        AddOuter(dout + column, shape.stride, 1.0f, p, shape.stride, shape.head_size, count,
                 dv + kv);
        std::fill_n(dp, count, 0.0f);
        AddCombination(dout + column, shape.stride, 1.0f, v + kv, shape.stride, shape.head_size,
                       count, dp);
        double mean = 0;
        for (int64_t j = 0; j < count; ++j) mean += static_cast<double>(p[j]) * dp[j];
        for (int64_t j = 0; j < count; ++j) dp[j] = p[j] * (dp[j] - static_cast<float>(mean));
        Dots(dp, k + kv, shape.stride, shape.head_size, count, scale, dq + column, shape.stride);
        AddOuter(q + column, shape.stride, scale, dp, shape.stride, shape.head_size, count,
                 dk + kv);
      }
    }
  };
  ForEachSequenceHead(shape, bounds, 2, threads, unit);
}

void AttendOne(const AttentionShape& shape, const float* q, const float* k, const float* v,
               int64_t kv_stride, int64_t keys, float* out, int threads) {
  const int64_t group = shape.heads / shape.kv_heads;
  ParallelRows(threads, shape.heads, [&](RowRange heads) {
    std::vector<float> p(static_cast<size_t>(keys));
    for (int64_t head = heads.begin; head < heads.end; ++head) {
      const int64_t kv = head / group * shape.head_size * kv_stride;
      const int64_t column = head * shape.head_size * shape.stride;
      Probabilities(shape, q + column, k + kv, kv_stride, keys, p.data());
      Dots(p.data(), v + kv, kv_stride, shape.head_size, keys, 1.0f, out + column, shape.stride);
    }
  });
}

}  // namespace espalier::worker::engine
