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
ESPALIER_MULTIVERSION void ColumnSoftmax(int64_t keys, int64_t count, float* p) {
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
ESPALIER_MULTIVERSION void ColumnSoftmaxGradient(const float* p, int64_t keys, int64_t count,
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

// One head of queries and the keys it looks at, in some columns. Pointers are at the first of them.
struct Head {
  const AttentionShape& shape;
  const LaneSequences& sequences;
  const float* q;
  const float* k;
  int64_t count;

  int64_t At(int64_t token) const { return token * sequences.distance; }
  int64_t KeysOf(int64_t token) const { return shape.causal ? token + 1 : sequences.tokens; }
  void Probabilities(int64_t token, float* p) const {
    for (int64_t j = 0; j < KeysOf(token); ++j) {
      ColumnDots(q + At(token), k + At(j), shape.stride, shape.head_size, count, ScaleOf(shape),
                 p + j * count);
    }
    ColumnSoftmax(KeysOf(token), count, p);
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
      const Head head = {shape, sequences, q + at, k + kv, columns.count};
      for (int64_t t = 0; t < sequences.tokens; ++t) {
        head.Probabilities(t, p.data());
        for (int64_t j = 0; j < head.KeysOf(t); ++j) {
          AddColumnProducts(p.data() + j * columns.count, v + kv + head.At(j), shape.stride,
                            shape.head_size, columns.count, 1.0F, out + at + head.At(t));
        }
      }
    }
  });
}

void AttentionGradient(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       const float* dout, const LaneSequences& sequences, float* dq, float* dk,
                       float* dv, int threads) {
  const int64_t group = shape.heads / shape.kv_heads;
  const int64_t head_floats = shape.head_size * shape.stride;
  const float scale = ScaleOf(shape);
  ForColumns(sequences, threads, [&](Columns columns) {
    const int64_t count = columns.count;
    std::vector<float> probabilities(sequences.tokens * count);
    std::vector<float> gradients(sequences.tokens * count);
    Clear(shape, sequences, shape.heads, columns, dq);
    for (float* rows : {dk, dv}) Clear(shape, sequences, shape.kv_heads, columns, rows);
    for (int64_t h = 0; h < shape.heads; ++h) {
      const int64_t at = h * head_floats + columns.begin;
      const int64_t kv = h / group * head_floats + columns.begin;
      const Head head = {shape, sequences, q + at, k + kv, count};
      const auto add = [&](const float* factors, const float* rows, float factor, float* to) {
        AddColumnProducts(factors, rows, shape.stride, shape.head_size, count, factor, to);
      };
      for (int64_t t = 0; t < sequences.tokens; ++t) {
        const int64_t query = at + head.At(t);
        head.Probabilities(t, probabilities.data());
        for (int64_t j = 0; j < head.KeysOf(t); ++j) {
          ColumnDots(dout + query, v + kv + head.At(j), shape.stride, shape.head_size, count, 1.0F,
                     gradients.data() + j * count);
          add(probabilities.data() + j * count, dout + query, 1.0F, dv + kv + head.At(j));
        }
        ColumnSoftmaxGradient(probabilities.data(), head.KeysOf(t), count, gradients.data());
        for (int64_t j = 0; j < head.KeysOf(t); ++j) {
          const float* of_score = gradients.data() + j * count;
          add(of_score, k + kv + head.At(j), scale, dq + query);
          add(of_score, q + query, scale, dk + kv + head.At(j));
        }
      }
    }
  });
}

}  // namespace espalier::worker::engine
