#include "worker/data/batch.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "common/base/check.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace espalier::worker::data {
namespace {

// Rows and features of one block of the transposition: 16 floats are one cache line of the output.
constexpr int kBlock = 16;

// value = raw · multiplier + offset
struct Affine {
  float multiplier;
  float offset;

  float operator()(float raw) const { return raw * multiplier + offset; }
};

template <typename T>
using BlockRows = std::array<const T*, kBlock>;

// Transposes features [begin, end) of `count` ≤ 16 rows into columns 0..count−1 of `out` and zeroes
// columns count..width−1; `out` points at feature 0 of the block's first column.
template <typename T>
void TransposeScalar(const BlockRows<T>& rows, int count, int width, int64_t begin, int64_t end,
                     Affine affine, float* out, int64_t stride) {
  for (int64_t feature = begin; feature < end; ++feature) {
    float* to = out + feature * stride;
    for (int c = 0; c < count; ++c) to[c] = affine(static_cast<float>(rows[c][feature]));
    for (int c = count; c < width; ++c) to[c] = 0.0f;
  }
}

#if defined(__x86_64__)

// 16 rows × 16 features of bytes, transposed in registers by four rounds of interleaving: after
// them register f holds feature f of rows 0..15.
__attribute__((always_inline)) inline void TransposeBytes16(__m128i* v) {
  __m128i t[kBlock];
  for (int round = 0; round < 4; ++round) {
    for (int i = 0; i < kBlock / 2; ++i) {
      t[2 * i] = _mm_unpacklo_epi8(v[i], v[i + kBlock / 2]);
      t[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + kBlock / 2]);
    }
    for (int i = 0; i < kBlock; ++i) v[i] = t[i];
  }
}

__attribute__((target("avx512f"))) void TransposeBytesAvx512(const BlockRows<uint8_t>& rows,
                                                             int64_t end, Affine affine, float* out,
                                                             int64_t stride) {
  // GCC 12 warns of an uninitialised value inside the unmasked conversions.
  constexpr __mmask16 kAllLanes = 0xFFFF;
  const __m512 multiplier = _mm512_set1_ps(affine.multiplier);
  const __m512 offset = _mm512_set1_ps(affine.offset);
  for (int64_t feature = 0; feature < end; feature += kBlock) {
    __m128i v[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      v[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + feature));
    }
    TransposeBytes16(v);
    for (int i = 0; i < kBlock; ++i) {
      const __m512 raw =
          _mm512_maskz_cvtepi32_ps(kAllLanes, _mm512_maskz_cvtepu8_epi32(kAllLanes, v[i]));
      _mm512_storeu_ps(out + (feature + i) * stride,
                       _mm512_add_ps(_mm512_mul_ps(raw, multiplier), offset));
    }
  }
}

// SSE2 is part of every x86-64.
void TransposeBytesSse2(const BlockRows<uint8_t>& rows, int64_t end, Affine affine, float* out,
                        int64_t stride) {
  const __m128 multiplier = _mm_set1_ps(affine.multiplier);
  const __m128 offset = _mm_set1_ps(affine.offset);
  const __m128i zero = _mm_setzero_si128();
  for (int64_t feature = 0; feature < end; feature += kBlock) {
    __m128i v[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      v[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[i] + feature));
    }
    TransposeBytes16(v);
    for (int i = 0; i < kBlock; ++i) {
      float* to = out + (feature + i) * stride;
      const __m128i low = _mm_unpacklo_epi8(v[i], zero);
      const __m128i high = _mm_unpackhi_epi8(v[i], zero);
      const __m128i raw[4] = {_mm_unpacklo_epi16(low, zero), _mm_unpackhi_epi16(low, zero),
                              _mm_unpacklo_epi16(high, zero), _mm_unpackhi_epi16(high, zero)};
      for (int part = 0; part < 4; ++part) {
        const __m128 value = _mm_mul_ps(_mm_cvtepi32_ps(raw[part]), multiplier);
        _mm_storeu_ps(to + 4 * part, _mm_add_ps(value, offset));
      }
    }
  }
}

using TransposeBytesFn = void (*)(const BlockRows<uint8_t>&, int64_t, Affine, float*, int64_t);

TransposeBytesFn BestTransposeBytes() {
  return __builtin_cpu_supports("avx512f") ? TransposeBytesAvx512 : TransposeBytesSse2;
}

// Transposes all full blocks of features of 16 rows and returns where they end.
int64_t TransposeFullBlocks(const BlockRows<uint8_t>& rows, int64_t features, Affine affine,
                            float* out, int64_t stride) {
  static const TransposeBytesFn transpose = BestTransposeBytes();
  const int64_t end = features / kBlock * kBlock;
  transpose(rows, end, affine, out, stride);
  return end;
}

#else

int64_t TransposeFullBlocks(const BlockRows<uint8_t>&, int64_t, Affine, float*, int64_t) {
  return 0;
}

#endif

template <typename T>
const T* RowOf(const Dataset& dataset, int32_t row) {
  if constexpr (std::is_same_v<T, uint8_t>) {
    return dataset.ByteRow(row);
  } else {
    return dataset.FloatRow(row);
  }
}

template <typename T>
void Assemble(const Dataset& dataset, std::span<const int32_t> indices, Affine affine, float* out,
              int64_t stride) {
  const auto size = static_cast<int64_t>(indices.size());
  const int64_t features = dataset.features();
  for (int64_t column = 0; column < stride; column += kBlock) {
    const auto count = static_cast<int>(std::clamp<int64_t>(size - column, 0, kBlock));
    const auto width = static_cast<int>(std::min<int64_t>(stride - column, kBlock));
    BlockRows<T> rows{};
    for (int c = 0; c < count; ++c) {
      rows[c] = RowOf<T>(dataset, indices[static_cast<size_t>(column + c)]);
    }
    int64_t done = 0;
    if constexpr (std::is_same_v<T, uint8_t>) {
      if (count == kBlock) {
        done = TransposeFullBlocks(rows, features, affine, out + column, stride);
      }
    }
    TransposeScalar(rows, count, width, done, features, affine, out + column, stride);
  }
}

}  // namespace

Normalization NormalizationOf(const v1::DataSpec& spec) {
  return {spec.scale() == 0.0 ? 1.0 : spec.scale(), spec.mean(),
          spec.std() == 0.0 ? 1.0 : spec.std()};
}

void AssembleBatch(const Dataset& dataset, std::span<const int32_t> indices,
                   const Normalization& normalization, float* out, int64_t stride,
                   int32_t* labels) {
  ESPALIER_CHECK(stride >= static_cast<int64_t>(indices.size()), "a column for every example");
  const Affine affine{static_cast<float>(1.0 / (normalization.scale * normalization.std)),
                      static_cast<float>(-normalization.mean / normalization.std)};
  if (dataset.is_bytes()) {
    Assemble<uint8_t>(dataset, indices, affine, out, stride);
  } else {
    Assemble<float>(dataset, indices, affine, out, stride);
  }
  for (size_t i = 0; i < indices.size(); ++i) labels[i] = dataset.label(indices[i]);
}

}  // namespace espalier::worker::data
