// AVX2 kernels. Compiled for the base instruction set; only the functions marked here use AVX2 and
// fused multiply-add, and they run only where DetectIsa() found them.
#include <immintrin.h>

#include "worker/engine/kernels/kernels.h"

#define ESPALIER_AVX2 __attribute__((target("avx2,fma")))
#define ESPALIER_AVX2_INLINE ESPALIER_AVX2 __attribute__((always_inline)) inline

namespace espalier::worker::engine {
namespace {

constexpr int kMaxBlocks = 6;
constexpr int kWidth = 8;
// Nonzeros whose dot products are computed together.
constexpr int kGroup = 4;

// One row of Y: 2·`P` registers hold the row while its nonzeros stream by.
template <int P>
ESPALIER_AVX2_INLINE void SpmmRow(const float* values, const int32_t* columns, int32_t begin,
                                  int32_t end, const float* x, int64_t stride, bool add, float* y) {
  __m256 sum[2 * P];
#pragma GCC unroll 12
  for (int p = 0; p < 2 * P; ++p) {
    sum[p] = add ? _mm256_loadu_ps(y + p * kWidth) : _mm256_setzero_ps();
  }
  for (int32_t k = begin; k < end; ++k) {
    const __m256 weight = _mm256_set1_ps(values[k]);
    const float* row = x + columns[k] * stride;
#pragma GCC unroll 12
    for (int p = 0; p < 2 * P; ++p) {
      sum[p] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(row + p * kWidth), sum[p]);
    }
  }
#pragma GCC unroll 12
  for (int p = 0; p < 2 * P; ++p) _mm256_storeu_ps(y + p * kWidth, sum[p]);
}

template <int P>
ESPALIER_AVX2 void SpmmRows(const CsrPanel& w, const float* values, const float* x, int64_t stride,
                            Blocks blocks, bool add, float* y, RowRange rows) {
  const int64_t first = blocks.first * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    SpmmRow<P>(values, w.columns, w.begin[row], w.end[row], x + first, stride, add,
               y + row * stride + first);
  }
}

// Four dot products of length 2·blocks registers.
ESPALIER_AVX2_INLINE __m128 Products4(const float* dy, const float* const (&rows)[kGroup],
                                      int64_t length) {
  __m256 sum[kGroup];
#pragma GCC unroll 4
  for (int n = 0; n < kGroup; ++n) sum[n] = _mm256_setzero_ps();
  for (int64_t b = 0; b < length; b += kWidth) {
    const __m256 delta = _mm256_loadu_ps(dy + b);
#pragma GCC unroll 4
    for (int n = 0; n < kGroup; ++n) {
      sum[n] = _mm256_fmadd_ps(delta, _mm256_loadu_ps(rows[n] + b), sum[n]);
    }
  }
  const __m256 pairs =
      _mm256_hadd_ps(_mm256_hadd_ps(sum[0], sum[1]), _mm256_hadd_ps(sum[2], sum[3]));
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

ESPALIER_AVX2 void Sddmm(const CsrPanel& w, const float* dy, const float* x, int64_t stride,
                         Blocks blocks, bool add, float* gradient, RowRange rows) {
  const int64_t first = blocks.first * kLanes;
  const int64_t length = blocks.count * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* delta = dy + row * stride + first;
    for (int32_t k = w.begin[row]; k < w.end[row]; k += kGroup) {
      const int32_t count = w.end[row] - k < kGroup ? w.end[row] - k : kGroup;
      const float* inputs[kGroup];
      for (int n = 0; n < kGroup; ++n) {
        inputs[n] = x + w.columns[n < count ? k + n : k] * stride + first;
      }
      alignas(16) float sum[kGroup];
      _mm_store_ps(sum, Products4(delta, inputs, length));
      for (int n = 0; n < count; ++n) gradient[k + n] = add ? gradient[k + n] + sum[n] : sum[n];
    }
  }
}

constexpr decltype(KernelTable::spmm) kSpmm[kMaxBlocks] = {SpmmRows<1>, SpmmRows<2>, SpmmRows<3>,
                                                           SpmmRows<4>, SpmmRows<5>, SpmmRows<6>};

void Spmm(const CsrPanel& w, const float* values, const float* x, int64_t stride, Blocks blocks,
          bool add, float* y, RowRange rows) {
  kSpmm[blocks.count - 1](w, values, x, stride, blocks, add, y, rows);
}

}  // namespace

const KernelTable& Avx2Kernels() {
  static constexpr KernelTable kTable = {Spmm, Sddmm, kMaxBlocks};
  return kTable;
}

}  // namespace espalier::worker::engine
