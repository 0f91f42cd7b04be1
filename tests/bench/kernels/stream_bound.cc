#include "tests/bench/kernels/stream_bound.h"

#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "worker/engine/aligned_buffer.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace espalier::bench {
namespace {

using worker::engine::AlignedBuffer;
using worker::engine::Isa;

constexpr int64_t kFloatsPerStep = 128;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) float StreamAvx512(const float* data, int64_t size) {
  __m512 sums[8];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const __m512 weight = _mm512_set1_ps(1.0001F);
  for (int64_t i = 0; i < size; i += kFloatsPerStep) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sums[j] = _mm512_fmadd_ps(weight, _mm512_load_ps(data + i + j * 16), sums[j]);
    }
  }
  for (const __m512& sum : sums) sums[0] = _mm512_add_ps(sums[0], sum);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx2,fma"))) float StreamAvx2(const float* data, int64_t size) {
  __m256 sums[8];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  const __m256 weight = _mm256_set1_ps(1.0001F);
  for (int64_t i = 0; i < size; i += kFloatsPerStep / 2) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sums[j] = _mm256_fmadd_ps(weight, _mm256_load_ps(data + i + j * 8), sums[j]);
    }
  }
  for (const __m256& sum : sums) sums[0] = _mm256_add_ps(sums[0], sum);
  return _mm256_cvtss_f32(sums[0]);
}
#endif

float StreamPortable(const float* data, int64_t size) {
  float sums[kFloatsPerStep] = {};
  for (int64_t i = 0; i < size; i += kFloatsPerStep) {
    for (int64_t j = 0; j < kFloatsPerStep; ++j) sums[j] += 1.0001F * data[i + j];
  }
  return *std::ranges::max_element(sums);
}

double ThreadSeconds() {
  timespec now = {};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

float Stream(Isa isa, const float* data, int64_t size) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return StreamAvx512(data, size);
  if (isa == Isa::kAvx2) return StreamAvx2(data, size);
#endif
  return StreamPortable(data, size);
}

}  // namespace

double MeasureStreamBound(Isa isa) {
  const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE), 512 << 10);
  const AlignedBuffer data(cache / 2 / static_cast<int64_t>(sizeof(float)) / kFloatsPerStep *
                           kFloatsPerStep);
  double best = 0;
  volatile float sink = 0;
  for (int run = 0; run < 5000; ++run) {
    constexpr int kPasses = 10;
    const double start = ThreadSeconds();
    for (int pass = 0; pass < kPasses; ++pass) sink = Stream(isa, data.data(), data.size());
    const double flops = 2.0 * kPasses * static_cast<double>(data.size());
    best = std::max(best, 1e-9 * flops / (ThreadSeconds() - start));
  }
  static_cast<void>(sink);
  return best;
}

}  // namespace espalier::bench
