// AVX-512 kernels. Compiled for the base instruction set; only the functions marked here use
// AVX-512, and they run only where DetectIsa() found it.
#include <immintrin.h>

#include <array>
#include <utility>

#include "worker/engine/kernels/avx512.h"
#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::engine {
namespace {

constexpr int kMaxBlocks = 16;

// Rows ahead of which the structure is fetched where panels cut rows: each row then continues
// somewhere else in memory, which the processor's own prefetching does not foresee.
constexpr int64_t kRowsAhead = 4;

// Fetches columns, and what `values` holds beside them, of the row kRowsAhead further.
ESPALIER_AVX512_INLINE void PrefetchRow(const CsrPanel& w, const float* values, int64_t row,
                                        int64_t row_end) {
  const bool rows_follow_each_other = w.end == w.begin + 1;
  if (rows_follow_each_other || row + kRowsAhead >= row_end) return;
  const int32_t end = w.end[row + kRowsAhead];
  for (int32_t k = w.begin[row + kRowsAhead]; k < end; k += kLanes) {
    _mm_prefetch(reinterpret_cast<const char*>(w.columns + k), _MM_HINT_T0);
    _mm_prefetch(reinterpret_cast<const char*>(values + k), _MM_HINT_T0);
  }
}

// Fetches a tile's part of the next dense row: only for tiles of more than 8 blocks, which
// KernelSparseProduct forms where rows are long enough to pay for the extra instructions.
template <int P>
ESPALIER_AVX512_INLINE void PrefetchDense(const float* tile, int64_t stride, int64_t row,
                                          int64_t row_end) {
  constexpr int kNarrow = 8;
  if constexpr (P <= kNarrow) return;
  if (row + 1 >= row_end) return;
  const float* next = tile + (row + 1) * stride;
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) {
    _mm_prefetch(reinterpret_cast<const char*>(next + p * kLanes), _MM_HINT_T0);
  }
}

// One row of Y: `P` registers hold the row while its nonzeros stream by.
template <int P>
ESPALIER_AVX512_INLINE void SpmmRow(const float* values, const int32_t* columns, int32_t begin,
                                    int32_t end, const float* x, int64_t stride, bool add,
                                    float* y) {
  __m512 sum[P];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) sum[p] = add ? _mm512_loadu_ps(y + p * kLanes) : _mm512_setzero_ps();
  for (int32_t k = begin; k < end; ++k) {
    const __m512 weight = _mm512_set1_ps(values[k]);
    const float* row = x + columns[k] * stride;
#pragma GCC unroll 16
    for (int p = 0; p < P; ++p) {
      sum[p] = _mm512_fmadd_ps(weight, _mm512_loadu_ps(row + p * kLanes), sum[p]);
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) _mm512_storeu_ps(y + p * kLanes, sum[p]);
}

template <int P>
ESPALIER_AVX512 void SpmmRows(const CsrPanel& w, const float* values, const float* x,
                              int64_t stride, Blocks blocks, bool add, float* y, RowRange rows) {
  const int64_t first = blocks.first * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    PrefetchRow(w, values, row, rows.end);
    PrefetchDense<P>(y + first, stride, row, rows.end);
    SpmmRow<P>(values, w.columns, w.begin[row], w.end[row], x + first, stride, add,
               y + row * stride + first);
  }
}

// Products of dY with one row of X, not yet summed over the lanes.
template <int P>
ESPALIER_AVX512_INLINE __m512 LaneProducts(const __m512 (&delta)[P], const float* row) {
  __m512 sum = _mm512_mul_ps(delta[0], _mm512_loadu_ps(row));
#pragma GCC unroll 16
  for (int p = 1; p < P; ++p) {
    sum = _mm512_fmadd_ps(delta[p], _mm512_loadu_ps(row + p * kLanes), sum);
  }
  return sum;
}

template <int P>
ESPALIER_AVX512_INLINE __m512 Products4(const __m512 (&delta)[P], const int32_t* columns,
                                        const float* x, int64_t stride) {
  const __m512 ab = Fold1(LaneProducts<P>(delta, x + columns[0] * stride),
                          LaneProducts<P>(delta, x + columns[1] * stride));
  const __m512 cd = Fold1(LaneProducts<P>(delta, x + columns[2] * stride),
                          LaneProducts<P>(delta, x + columns[3] * stride));
  return Fold2(ab, cd);
}

// Sixteen dot products of dY with the rows of X that `columns` names.
template <int P>
ESPALIER_AVX512_INLINE __m512 Products16(const __m512 (&delta)[P], const int32_t* columns,
                                         const float* x, int64_t stride) {
  const __m512 low =
      Fold3(Products4<P>(delta, columns, x, stride), Products4<P>(delta, columns + 4, x, stride));
  const __m512 high = Fold3(Products4<P>(delta, columns + 8, x, stride),
                            Products4<P>(delta, columns + 12, x, stride));
  return Fold3(low, high);
}

// As Products4 for the columns [first, first + 4) of `count`; those past the end repeat the last.
template <int P>
ESPALIER_AVX512_INLINE __m512 ProductsUpTo4(const __m512 (&delta)[P], const int32_t* columns,
                                            int32_t first, int32_t count, const float* x,
                                            int64_t stride) {
  if (first >= count) return _mm512_setzero_ps();
  const int32_t last = count - 1;
  const int32_t clamped[4] = {columns[first], columns[first + 1 < last ? first + 1 : last],
                              columns[first + 2 < last ? first + 2 : last],
                              columns[first + 3 < last ? first + 3 : last]};
  return Products4<P>(delta, clamped, x, stride);
}

// As Products16 for the last 1 to 15 nonzeros of a row; lanes past `count` are unspecified.
template <int P>
ESPALIER_AVX512_INLINE __m512 ProductsTail(const __m512 (&delta)[P], const int32_t* columns,
                                           int32_t count, const float* x, int64_t stride) {
  const __m512 low = Fold3(ProductsUpTo4<P>(delta, columns, 0, count, x, stride),
                           ProductsUpTo4<P>(delta, columns, 4, count, x, stride));
  if (count <= 8) return Fold3(low, _mm512_setzero_ps());
  const __m512 high = Fold3(ProductsUpTo4<P>(delta, columns, 8, count, x, stride),
                            ProductsUpTo4<P>(delta, columns, 12, count, x, stride));
  return Fold3(low, high);
}

template <int P>
ESPALIER_AVX512_INLINE void SddmmRow(const int32_t* columns, int32_t begin, int32_t end,
                                     const float* dy, const float* x, int64_t stride, bool add,
                                     float* gradient) {
  __m512 delta[P];
#pragma GCC unroll 16
  for (int p = 0; p < P; ++p) delta[p] = _mm512_loadu_ps(dy + p * kLanes);
  int32_t k = begin;
  for (; k + kLanes <= end; k += kLanes) {
    __m512 sum = Products16<P>(delta, columns + k, x, stride);
    if (add) sum = _mm512_add_ps(sum, _mm512_loadu_ps(gradient + k));
    _mm512_storeu_ps(gradient + k, sum);
  }
  if (k >= end) return;
  const __mmask16 rest = static_cast<__mmask16>((1u << (end - k)) - 1);
  __m512 sum = ProductsTail<P>(delta, columns + k, end - k, x, stride);
  if (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(rest, gradient + k));
  _mm512_mask_storeu_ps(gradient + k, rest, sum);
}

template <int P>
ESPALIER_AVX512 void SddmmRows(const CsrPanel& w, const float* dy, const float* x, int64_t stride,
                               Blocks blocks, bool add, float* gradient, RowRange rows) {
  const int64_t first = blocks.first * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    PrefetchRow(w, gradient, row, rows.end);
    PrefetchDense<P>(dy + first, stride, row, rows.end);
    SddmmRow<P>(w.columns, w.begin[row], w.end[row], dy + row * stride + first, x + first, stride,
                add, gradient);
  }
}

// Kernel n − 1 works on n blocks.
template <int... P>
constexpr auto SpmmTable(std::integer_sequence<int, P...>) {
  return std::array{SpmmRows<P + 1>...};
}
template <int... P>
constexpr auto SddmmTable(std::integer_sequence<int, P...>) {
  return std::array{SddmmRows<P + 1>...};
}
constexpr auto kSpmm = SpmmTable(std::make_integer_sequence<int, kMaxBlocks>());
constexpr auto kSddmm = SddmmTable(std::make_integer_sequence<int, kMaxBlocks>());

void Spmm(const CsrPanel& w, const float* values, const float* x, int64_t stride, Blocks blocks,
          bool add, float* y, RowRange rows) {
  kSpmm[blocks.count - 1](w, values, x, stride, blocks, add, y, rows);
}

void Sddmm(const CsrPanel& w, const float* dy, const float* x, int64_t stride, Blocks blocks,
           bool add, float* gradient, RowRange rows) {
  kSddmm[blocks.count - 1](w, dy, x, stride, blocks, add, gradient, rows);
}

}  // namespace

const KernelTable& Avx512Kernels() {
  static constexpr KernelTable kTable = {Spmm, Sddmm, kMaxBlocks};
  return kTable;
}

}  // namespace espalier::worker::engine
