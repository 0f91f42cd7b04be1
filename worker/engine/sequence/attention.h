// Causal attention with grouped heads: each of `heads` queries of a token looks at the keys of its
// own and earlier tokens of the same sequence, and takes the values in the proportions of a
// softmax over query · key / √head_size. Queries h share keys and values h / (heads / kv_heads).
//
// Shapes:      q, out, dq, dout [heads · head_size][stride]; k, v, dk, dv [kv_heads · head_size]
//              [stride]; one column per token. Sequence s has the columns [bounds[s],
//              bounds[s + 1]).
// Memory:      a few floats per token of the longest sequence and thread; probabilities are never
//              kept but computed again for the gradient.
// Threading:   sequences and key heads are split over `threads`. Determinism: the same bits for any
//              number of threads.
// Source:      Vaswani et al. 2017; grouped heads: Ainslie et al. 2023.
#pragma once

#include <cstdint>
#include <span>

namespace espalier::worker::engine {

struct AttentionShape {
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_size = 0;
  int64_t stride = 0;
};

void Attention(const AttentionShape& shape, const float* q, const float* k, const float* v,
               std::span<const int64_t> bounds, float* out, int threads);

// Given dout, the gradient of Attention()'s output. dq, dk and dv are overwritten in the columns of
// the sequences.
void AttentionGradient(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       const float* dout, std::span<const int64_t> bounds, float* dq, float* dk,
                       float* dv, int threads);

// One token (column 0 of q and out) against `keys` kept ones in k and v [kv_heads · head_size]
// [kv_stride].
void AttendOne(const AttentionShape& shape, const float* q, const float* k, const float* v,
               int64_t kv_stride, int64_t keys, float* out, int threads);

}  // namespace espalier::worker::engine
