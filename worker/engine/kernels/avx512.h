// What the AVX-512 kernels share. Only for their source files, which are compiled for the base
// instruction set: the functions marked here run only where DetectIsa() found AVX-512.
#pragma once

#include <immintrin.h>

#define ESPALIER_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")))
#define ESPALIER_AVX512_INLINE ESPALIER_AVX512 __attribute__((always_inline)) inline

namespace espalier::worker::engine {

// Adds neighbouring halves of two registers such that four levels of it turn sixteen registers into
// one whose lane n is the sum of register n. Every register is summed in the same order.
ESPALIER_AVX512_INLINE __m512 Fold1(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}
ESPALIER_AVX512_INLINE __m512 Fold2(__m512 a, __m512 b) {
  const __m512d c = _mm512_castps_pd(a);
  const __m512d d = _mm512_castps_pd(b);
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(c, d)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(c, d)));
}
ESPALIER_AVX512_INLINE __m512 Fold3(__m512 a, __m512 b) {
  return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xDD));
}

}  // namespace espalier::worker::engine
