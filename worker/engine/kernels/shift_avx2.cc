// AVX2 kernels of sparse convolution. Compiled for the base instruction set; only the functions
// marked here use AVX2 and fused multiply-add, and they run only where DetectIsa() found them.
#include <immintrin.h>

#include "worker/engine/kernels/shift_kernels.h"

#define ESPALIER_AVX2 __attribute__((target("avx2,fma")))

namespace espalier::worker::engine {
namespace {

constexpr int kWidth = 8;
constexpr ShiftTile kTiles[] = {{1, 4}, {1, 2}, {1, 1}};

// `W` neighbouring positions, two registers each.
template <int W>
ESPALIER_AVX2 void MultiplyRows(const ShiftRows& w, const float* values, const float* in,
                                float* out, RowRange rows) {
  const int64_t in_col = w.in_step * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    __m256 sum[2 * W];
#pragma GCC unroll 8
    for (int p = 0; p < 2 * W; ++p) sum[p] = _mm256_setzero_ps();
    for (int32_t k = w.begin[row]; k < w.begin[row + 1]; ++k) {
      const __m256 weight = _mm256_set1_ps(values[k]);
      const float* from = in + w.offsets[k];
#pragma GCC unroll 8
      for (int p = 0; p < 2 * W; ++p) {
        const float* lanes = from + p / 2 * in_col + p % 2 * kWidth;
        sum[p] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(lanes), sum[p]);
      }
    }
    float* to = out + row * w.out_channel;
#pragma GCC unroll 8
    for (int p = 0; p < 2 * W; ++p) {
      _mm256_storeu_ps(to + p / 2 * w.out_col + p % 2 * kWidth, sum[p]);
    }
  }
}

ESPALIER_AVX2 float SumOf(__m256 lanes) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
}

template <int W>
ESPALIER_AVX2 void GradientRows(const ShiftRows& w, ShiftTile skip, const float* dy,
                                const float* in, bool add, float* gradient, RowRange rows) {
  const int64_t in_col = w.in_step * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    __m256 delta[2 * W];
#pragma GCC unroll 8
    for (int p = 0; p < 2 * W; ++p) {
      const float* lanes = dy + row * w.out_channel + p / 2 * w.out_col + p % 2 * kWidth;
      const bool skipped = skip.rows > 0 || p / 2 < skip.cols;
      delta[p] = skipped ? _mm256_setzero_ps() : _mm256_loadu_ps(lanes);
    }
    for (int32_t k = w.begin[row]; k < w.begin[row + 1]; ++k) {
      const float* from = in + w.offsets[k];
      __m256 sum[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
#pragma GCC unroll 8
      for (int p = 0; p < 2 * W; ++p) {
        const float* lanes = from + p / 2 * in_col + p % 2 * kWidth;
        sum[p % 2] = _mm256_fmadd_ps(delta[p], _mm256_loadu_ps(lanes), sum[p % 2]);
      }
      const float total = SumOf(_mm256_add_ps(sum[0], sum[1]));
      gradient[k] = add ? gradient[k] + total : total;
    }
  }
}

void Multiply(const ShiftRows& w, ShiftTile tile, const float* values, const float* in, float* out,
              RowRange rows) {
  if (tile.cols == 4) return MultiplyRows<4>(w, values, in, out, rows);
  if (tile.cols == 2) return MultiplyRows<2>(w, values, in, out, rows);
  MultiplyRows<1>(w, values, in, out, rows);
}

void Gradient(const ShiftRows& w, ShiftTile tile, ShiftTile skip, const float* dy, const float* in,
              bool add, float* gradient, RowRange rows) {
  if (tile.cols == 4) return GradientRows<4>(w, skip, dy, in, add, gradient, rows);
  if (tile.cols == 2) return GradientRows<2>(w, skip, dy, in, add, gradient, rows);
  GradientRows<1>(w, skip, dy, in, add, gradient, rows);
}

}  // namespace

const ShiftKernels& Avx2ShiftKernels() {
  static constexpr ShiftKernels kKernels = {kTiles, Multiply, Gradient};
  return kKernels;
}

}  // namespace espalier::worker::engine
