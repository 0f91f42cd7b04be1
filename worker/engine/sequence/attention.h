// Attention with grouped heads: each of `heads` queries of a token looks at the keys of its
// sequence, where `causal` only at its own and earlier ones, and takes the values in the
// proportions of a softmax over query · key · scale. Queries h share keys and values h / (heads /
// kv_heads).
//
// Shapes:      q, out, dq, dout [heads · head_size][stride]; k, v, dk, dv [kv_heads · head_size]
//              [stride]; one column per token. Tokens of a sequence are next to each other:
//              sequence s has the columns [bounds[s], bounds[s + 1]). Or, for many short sequences
//              of one length, sequences are: token t of sequence s has the column t · distance + s.
// Memory:      a few floats per token of the longest sequence and thread; probabilities are never
//              kept but computed again for the gradient.
// Threading:   sequences (and of long ones key heads) are split over `threads`. Determinism: the
//              same bits for any number of threads.
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
  bool causal = true;
  float scale = 0;  // 0: 1 / √head_size
};

// Sequences next to each other.
struct LaneSequences {
  int64_t tokens = 0;    // of each
  int64_t distance = 0;  // between the tokens of a sequence, at least `width`
  int64_t width = 0;     // sequences, a multiple of kLanes
};

void Attention(const AttentionShape& shape, const float* q, const float* k, const float* v,
               std::span<const int64_t> bounds, float* out, int threads);

// Given dout, the gradient of Attention()'s output. dq, dk and dv are overwritten in the columns of
// the sequences.
void AttentionGradient(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       const float* dout, std::span<const int64_t> bounds, float* dq, float* dk,
                       float* dv, int threads);

// The same of sequences next to each other.
void Attention(const AttentionShape& shape, const float* q, const float* k, const float* v,
               const LaneSequences& sequences, float* out, int threads);
void AttentionGradient(const AttentionShape& shape, const float* q, const float* k, const float* v,
                       const float* dout, const LaneSequences& sequences, float* dq, float* dk,
                       float* dv, int threads);

// 1 / √head_size unless the shape says otherwise.
float ScaleOf(const AttentionShape& shape);

// One token (column 0 of q and out) against `keys` kept ones in k and v [kv_heads · head_size]
// [kv_stride].
void AttendOne(const AttentionShape& shape, const float* q, const float* k, const float* v,
               int64_t kv_stride, int64_t keys, float* out, int threads);

}  // namespace espalier::worker::engine
