// AVX-512 kernels of sparse convolution; see avx512.h for how they are compiled.
#include "worker/engine/kernels/avx512.h"
#include "worker/engine/kernels/shift_kernels.h"

namespace espalier::worker::engine {
namespace {

constexpr ShiftTile kTiles[] = {{2, 8}, {1, 8}, {4, 4}, {2, 4}, {1, 4}, {2, 2}, {1, 2}, {1, 1}};

// Rows ahead of which the tile of the output, or of its gradient, is fetched: its lines lie far
// apart, which the processor's own prefetching does not foresee.
constexpr int64_t kRowsAhead = 2;

template <int H, int W>
ESPALIER_AVX512_INLINE void PrefetchTile(const ShiftRows& w, const float* map, int64_t row,
                                         int64_t end) {
  if (row + kRowsAhead >= end) return;
  const float* tile = map + (row + kRowsAhead) * w.out_channel;
#pragma GCC unroll 16
  for (int p = 0; p < H * W; ++p) {
    const float* lanes = tile + p / W * w.out_row + p % W * w.out_col;
    _mm_prefetch(reinterpret_cast<const char*>(lanes), _MM_HINT_T0);
  }
}

// An H × W tile, one register for each position; S is in_step.
template <int H, int W, int S>
ESPALIER_AVX512 void MultiplyRows(const ShiftRows& w, const float* values, const float* in,
                                  float* out, RowRange rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    PrefetchTile<H, W>(w, out, row, rows.end);
    __m512 sum[H * W];
#pragma GCC unroll 16
    for (int p = 0; p < H * W; ++p) sum[p] = _mm512_setzero_ps();
    const int32_t end = w.begin[row + 1];
    for (int32_t k = w.begin[row]; k < end; ++k) {
      const __m512 weight = _mm512_set1_ps(values[k]);
      const float* from = in + w.offsets[k];
#pragma GCC unroll 16
      for (int p = 0; p < H * W; ++p) {
        const float* lanes = from + p / W * w.in_row + p % W * S * kLanes;
        sum[p] = _mm512_fmadd_ps(weight, _mm512_loadu_ps(lanes), sum[p]);
      }
    }
    float* to = out + row * w.out_channel;
#pragma GCC unroll 16
    for (int p = 0; p < H * W; ++p) {
      _mm512_storeu_ps(to + p / W * w.out_row + p % W * w.out_col, sum[p]);
    }
  }
}

// Products of the tile's deltas with what one nonzero reads, not yet summed over the lanes.
template <int H, int W, int S>
ESPALIER_AVX512_INLINE __m512 LaneProducts(const __m512 (&delta)[H * W], const float* from,
                                           int64_t in_row) {
  __m512 sum = _mm512_mul_ps(delta[0], _mm512_loadu_ps(from));
#pragma GCC unroll 16
  for (int p = 1; p < H * W; ++p) {
    const float* lanes = from + p / W * in_row + p % W * S * kLanes;
    sum = _mm512_fmadd_ps(delta[p], _mm512_loadu_ps(lanes), sum);
  }
  return sum;
}

// Sums for the nonzeros [first, first + 4) of a row that has `count`, folded two levels; those past
// the end repeat the last.
template <int H, int W, int S>
ESPALIER_AVX512_INLINE __m512 Products4(const __m512 (&delta)[H * W], const int32_t* offsets,
                                        int32_t first, int32_t count, const float* in,
                                        int64_t in_row) {
  if (first >= count) return _mm512_setzero_ps();
  const int32_t last = count - 1;
  const auto products = [&](int32_t k) ESPALIER_AVX512 __attribute__((always_inline)) {
    return LaneProducts<H, W, S>(delta, in + offsets[k < last ? k : last], in_row);
  };
  const __m512 ab = Fold1(products(first), products(first + 1));
  return Fold2(ab, Fold1(products(first + 2), products(first + 3)));
}

template <int H, int W, int S>
ESPALIER_AVX512 void GradientRows(const ShiftRows& w, ShiftTile skip, const float* dy,
                                  const float* in, bool add, float* gradient, RowRange rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    PrefetchTile<H, W>(w, dy, row, rows.end);
    const float* source = dy + row * w.out_channel;
    __m512 delta[H * W];
#pragma GCC unroll 16
    for (int p = 0; p < H * W; ++p) {
      const bool skipped = p / W < skip.rows || p % W < skip.cols;
      delta[p] = skipped ? _mm512_setzero_ps()
                         : _mm512_loadu_ps(source + p / W * w.out_row + p % W * w.out_col);
    }
    for (int32_t k = w.begin[row]; k < w.begin[row + 1]; k += kLanes) {
      const int32_t count = w.begin[row + 1] - k;
      const int32_t* offsets = w.offsets + k;
      const __m512 low = Fold3(Products4<H, W, S>(delta, offsets, 0, count, in, w.in_row),
                               Products4<H, W, S>(delta, offsets, 4, count, in, w.in_row));
      const __m512 high = count <= 8
                              ? _mm512_setzero_ps()
                              : Fold3(Products4<H, W, S>(delta, offsets, 8, count, in, w.in_row),
                                      Products4<H, W, S>(delta, offsets, 12, count, in, w.in_row));
      const __mmask16 stored =
          count >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << count) - 1);
      __m512 sum = Fold3(low, high);
      if (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(stored, gradient + k));
      _mm512_mask_storeu_ps(gradient + k, stored, sum);
    }
  }
}

// Calls body.template Run<H, W, S>() for one of kTiles and a step of 1 or 2.
template <int S, typename Body>
void DispatchTile(ShiftTile tile, const Body& body) {
  if (tile.cols == 8) {
    return tile.rows == 2 ? body.template Run<2, 8, S>() : body.template Run<1, 8, S>();
  }
  if (tile.cols == 4) {
    if (tile.rows == 4) return body.template Run<4, 4, S>();
    return tile.rows == 2 ? body.template Run<2, 4, S>() : body.template Run<1, 4, S>();
  }
  if (tile.cols == 2) {
    return tile.rows == 2 ? body.template Run<2, 2, S>() : body.template Run<1, 2, S>();
  }
  body.template Run<1, 1, S>();
}

template <typename Body>
void Dispatch(const ShiftRows& w, ShiftTile tile, const Body& body) {
  return w.in_step == 1 ? DispatchTile<1>(tile, body) : DispatchTile<2>(tile, body);
}

struct MultiplyCall {
  const ShiftRows& w;
  const float* values;
  const float* in;
  float* out;
  RowRange rows;
  template <int H, int W, int S>
  void Run() const {
    MultiplyRows<H, W, S>(w, values, in, out, rows);
  }
};

struct GradientCall {
  const ShiftRows& w;
  ShiftTile skip;
  const float* dy;
  const float* in;
  bool add;
  float* gradient;
  RowRange rows;
  template <int H, int W, int S>
  void Run() const {
    GradientRows<H, W, S>(w, skip, dy, in, add, gradient, rows);
  }
};

void Multiply(const ShiftRows& w, ShiftTile tile, const float* values, const float* in, float* out,
              RowRange rows) {
  Dispatch(w, tile, MultiplyCall{w, values, in, out, rows});
}

void Gradient(const ShiftRows& w, ShiftTile tile, ShiftTile skip, const float* dy, const float* in,
              bool add, float* gradient, RowRange rows) {
  Dispatch(w, tile, GradientCall{w, skip, dy, in, add, gradient, rows});
}

}  // namespace

const ShiftKernels& Avx512ShiftKernels() {
  static constexpr ShiftKernels kKernels = {kTiles, Multiply, Gradient};
  return kKernels;
}

}  // namespace espalier::worker::engine
