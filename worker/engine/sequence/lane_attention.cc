// Attention over sequences that are next to each other: every operation runs over their columns.
#include <algorithm>
#include <vector>

#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"
#include "worker/engine/sequence/attention.h"
#include "worker/engine/sequence/exponential.h"

namespace espalier::worker::engine {
namespace {

// The columns [begin, begin + count) of each token, `count` a multiple of kLanes.
struct Columns {
  int64_t begin = 0;
  int64_t count = 0;
};

// out[n] = factor · Σ_d a[d][n] · b[d][n] over `size` rows.
ESPALIER_MULTIVERSION void ColumnDots(const float* a, const float* b, int64_t stride, int64_t size,
                                      int64_t count, float factor, float* out) {
  for (int64_t n = 0; n < count; n += kLanes) {
    float sums[kLanes] = {};
    for (int64_t d = 0; d < size; ++d) {
      const float* left = a + d * stride + n;
      const float* right = b + d * stride + n;
      for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += left[lane] * right[lane];
    }
    for (int64_t lane = 0; lane < kLanes; ++lane) out[n + lane] = factor * sums[lane];
  }
}

// to[d][n] += factor · a[n] · rows[d][n] over `size` rows.
ESPALIER_MULTIVERSION void AddColumnProducts(const float* __restrict a, const float* rows,
                                             int64_t stride, int64_t size, int64_t count,
                                             float factor, float* to) {
  for (int64_t d = 0; d < size; ++d) {
    const float* __restrict row = rows + d * stride;
    float* __restrict sum = to + d * stride;
    for (int64_t n = 0; n < count; ++n) sum[n] += factor * a[n] * row[n];
  }
}

// The softmax over `keys` rows of p [keys][count], in place.
ESPALIER_MULTIVERSION void SoftmaxOverKeys(int64_t keys, int64_t count, float* p) {
  for (int64_t n = 0; n < count; n += kLanes) {
    float top[kLanes];
    float sum[kLanes] = {};
    std::copy_n(p + n, kLanes, top);
    for (int64_t j = 1; j < keys; ++j) {
      const float* x = p + j * count + n;
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        top[lane] = x[lane] > top[lane] ? x[lane] : top[lane];
      }
    }
    for (int64_t j = 0; j < keys; ++j) {
      float* x = p + j * count + n;
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        x[lane] = Exponential(x[lane] - top[lane]);
        sum[lane] += x[lane];
      }
    }
    for (int64_t j = 0; j < keys; ++j) {
      for (int64_t lane = 0; lane < kLanes; ++lane) p[j * count + n + lane] /= sum[lane];
    }
  }
}

// dp = p ∘ (dp − Σ over keys of p ∘ dp).
ESPALIER_MULTIVERSION void SoftmaxOverKeysGradient(const float* p, int64_t keys, int64_t count,
                                                   float* dp) {
  for (int64_t n = 0; n < count; n += kLanes) {
    float mean[kLanes] = {};
    for (int64_t j = n; j < keys * count; j += count) {
      for (int64_t lane = 0; lane < kLanes; ++lane) mean[lane] += p[j + lane] * dp[j + lane];
    }
    for (int64_t j = n; j < keys * count; j += count) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        dp[j + lane] = p[j + lane] * (dp[j + lane] - mean[lane]);
      }
    }
  }
}

// One head of queries and the keys and values it looks at, in some columns. Pointers are at the
// first of them.
struct Head {
  const AttentionShape& shape;
  const LaneSequences& sequences;
  int64_t count;
  const float* q;
  const float* k;
  const float* v;

  int64_t At(int64_t token) const { return token * sequences.distance; }
  int64_t KeysOf(int64_t token) const { return shape.causal ? token + 1 : sequences.tokens; }
  void Dots(const float* a, const float* b, float factor, float* out) const {
    ColumnDots(a, b, shape.stride, shape.head_size, count, factor, out);
  }
  void Add(const float* factors, const float* rows, float factor, float* to) const {
    AddColumnProducts(factors, rows, shape.stride, shape.head_size, count, factor, to);
  }
  // p [keys][count].
  void Probabilities(int64_t token, float* p) const {
    const float scale = ScaleOf(shape);
    for (int64_t j = 0; j < KeysOf(token); ++j) {
      Dots(q + At(token), k + At(j), scale, p + j * count);
    }
    SoftmaxOverKeys(KeysOf(token), count, p);
  }
  // Adds what a token takes from the values to `out`, which is 0 at the token.
  void Forward(int64_t token, float* p, float* out) const {
    Probabilities(token, p);
    for (int64_t j = 0; j < KeysOf(token); ++j) Add(p + j * count, v + At(j), 1, out + At(token));
  }
  // Adds the gradients that come from a token's output. p and dp have room for all keys.
  void Backward(int64_t token, const float* dout, float* p, float* dp, float* dq, float* dk,
                float* dv) const {
    const float scale = ScaleOf(shape);
    const int64_t at = At(token);
    Probabilities(token, p);
    for (int64_t j = 0; j < KeysOf(token); ++j) {
      Dots(dout + at, v + At(j), 1, dp + j * count);
      Add(p + j * count, dout + at, 1, dv + At(j));
    }
    SoftmaxOverKeysGradient(p, KeysOf(token), count, dp);
    for (int64_t j = 0; j < KeysOf(token); ++j) {
      Add(dp + j * count, k + At(j), scale, dq + at);
      Add(dp + j * count, q + at, scale, dk + At(j));
    }
  }
};

void Clear(const AttentionShape& shape, const LaneSequences& sequences, int64_t heads,
           Columns columns, float* rows) {
  for (int64_t r = 0; r < heads * shape.head_size; ++r) {
    for (int64_t t = 0; t < sequences.tokens; ++t) {
      std::fill_n(rows + r * shape.stride + t * sequences.distance + columns.begin, columns.count,
                  0.0F);
    }
  }
}

// Calls body(columns) for the columns of each thread.
template <typename Body>
void ForColumns(const LaneSequences& sequences, int threads, const Body& body) {
  ParallelRows(threads, sequences.width / kLanes, [&](RowRange blocks) {
    if (blocks.begin == blocks.end) return;
    body(Columns{blocks.begin * kLanes, (blocks.end - blocks.begin) * kLanes});
  });
}

}  // namespace

void Attention(const AttentionShape& shape, const float* q, const float* k, const float* v,
               const LaneSequences& sequences, float* out, int threads) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t head_floats = shape.head_size * shape.stride;
  ForColumns(sequences, threads, [&](Columns columns) {
    std::vector<float> p(sequences.tokens * columns.count);
    Clear(shape, sequences, shape.heads, columns, out);
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t at = h * head_floats + columns.begin;
      const int64_t kv = h / group * head_floats + columns.begin;
      const Head head = {shape, sequences, columns.count, q + at, k + kv, v + kv};
      for (int64_t t = 0; t < sequences.tokens; ++t) head.Forward(t, p.data(), out + at);
    }
  });
}

void AttentionGradient(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       const float* dout, const LaneSequences& sequences, float* dq, float* dk,
                       float* dv, int threads) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t head_floats = shape.head_size * shape.stride;
  ForColumns(sequences, threads, [&](Columns columns) {
    std::vector<float> p(sequences.tokens * columns.count);
    std::vector<float> dp(sequences.tokens * columns.count);
    Clear(shape, sequences, shape.heads, columns, dq);
    for (float* rows : {dk, dv}) Clear(shape, sequences, shape.kv_heads, columns, rows);
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t at = h * head_floats + columns.begin;
      const int64_t kv = h / group * head_floats + columns.begin;
      const Head head = {shape, sequences, columns.count, q + at, k + kv, v + kv};
      for (int64_t t = 0; t < sequences.tokens; ++t) {
        head.Backward(t, dout + at, p.data(), dp.data(), dq + at, dk + kv, dv + kv);
      }
    }
  });
}

}  // namespace espalier::worker::engine
