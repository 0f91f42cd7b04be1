#include "tests/bench/kernels/stream_bound.h"

#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "common/base/rng.h"
#include "worker/engine/parallel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace espalier::bench {
namespace {

using worker::engine::Isa;
using Rows = std::vector<int32_t>;

constexpr int64_t kRowFloats = 128;

#if defined(__x86_64__)
__attribute__((target("avx512f"))) float StreamAvx512(const float* data, const Rows& rows) {
  __m512 sums[8];
  for (__m512& sum : sums) sum = _mm512_setzero_ps();
  const __m512 weight = _mm512_set1_ps(1.0001F);
  for (const int32_t row : rows) {
#pragma GCC unroll 8
    for (int j = 0; j < 8; ++j) {
      sums[j] = _mm512_fmadd_ps(weight, _mm512_load_ps(data + row * kRowFloats + j * 16), sums[j]);
    }
  }
  for (const __m512& sum : sums) sums[0] = _mm512_add_ps(sums[0], sum);
  return _mm512_cvtss_f32(sums[0]);
}

__attribute__((target("avx2,fma"))) float StreamAvx2(const float* data, const Rows& rows) {
  __m256 sums[8];
  for (__m256& sum : sums) sum = _mm256_setzero_ps();
  const __m256 weight = _mm256_set1_ps(1.0001F);
  for (const int32_t row : rows) {
#pragma GCC unroll 16
    for (int j = 0; j < 16; ++j) {
      const __m256 value = _mm256_load_ps(data + row * kRowFloats + j * 8);
      sums[j % 8] = _mm256_fmadd_ps(weight, value, sums[j % 8]);
    }
  }
  for (const __m256& sum : sums) sums[0] = _mm256_add_ps(sums[0], sum);
  return _mm256_cvtss_f32(sums[0]);
}
#endif

float StreamPortable(const float* data, const Rows& rows) {
  float sums[kRowFloats] = {};
  for (const int32_t row : rows) {
    for (int64_t j = 0; j < kRowFloats; ++j) sums[j] += 1.0001F * data[row * kRowFloats + j];
  }
  return *std::ranges::max_element(sums);
}

float Stream(Isa isa, const float* data, const Rows& rows) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return StreamAvx512(data, rows);
  if (isa == Isa::kAvx2) return StreamAvx2(data, rows);
#endif
  return StreamPortable(data, rows);
}

}  // namespace

L2Stream::L2Stream(Isa isa, int threads) : isa_(isa) {
  const int64_t cache = std::max<int64_t>(sysconf(_SC_LEVEL2_CACHE_SIZE), 512 << 10);
  rows_.resize(cache / 2 / static_cast<int64_t>(sizeof(float)) / kRowFloats);
  std::iota(rows_.begin(), rows_.end(), 0);
  base::Rng rng(1);
  base::Shuffle(std::span(rows_), rng);
  for (int n = 0; n < threads; ++n) {
    data_.emplace_back(static_cast<int64_t>(rows_.size()) * kRowFloats);
  }
}

double L2Stream::flops() const {
  return 2.0 * static_cast<double>(data_.size()) * static_cast<double>(data_[0].size());
}

void L2Stream::Run(int passes) {
  worker::engine::ParallelParts(static_cast<int>(data_.size()), [&](int part) {
    for (int n = 0; n < passes; ++n) {
      volatile float sink = Stream(isa_, data_[part].data(), rows_);
      static_cast<void>(sink);
    }
  });
}

}  // namespace espalier::bench
