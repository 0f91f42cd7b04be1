#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kMaxBlocks = 8;

void Spmm(const CsrPanel& w, const float* values, const float* x, int64_t stride, Blocks blocks,
          bool add, float* y, RowRange rows) {
  const int64_t first = blocks.first * kLanes;
  const int64_t length = blocks.count * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* out = y + row * stride + first;
    for (int64_t b = 0; !add && b < length; ++b) out[b] = 0.0F;
    for (int32_t k = w.begin[row]; k < w.end[row]; ++k) {
      const float* in = x + w.columns[k] * stride + first;
      for (int64_t b = 0; b < length; ++b) out[b] += values[k] * in[b];
    }
  }
}

void Sddmm(const CsrPanel& w, const float* dy, const float* x, int64_t stride, Blocks blocks,
           bool add, float* gradient, RowRange rows) {
  const int64_t first = blocks.first * kLanes;
  const int64_t length = blocks.count * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* delta = dy + row * stride + first;
    for (int32_t k = w.begin[row]; k < w.end[row]; ++k) {
      const float* in = x + w.columns[k] * stride + first;
      float lanes[kLanes] = {};
      for (int64_t b = 0; b < length; b += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += delta[b + lane] * in[b + lane];
      }
      float sum = add ? gradient[k] : 0.0F;
      for (const float lane : lanes) sum += lane;
      gradient[k] = sum;
    }
  }
}

}  // namespace

const KernelTable& PortableKernels() {
  static constexpr KernelTable kTable = {Spmm, Sddmm, kMaxBlocks};
  return kTable;
}

Isa DetectIsa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    return Isa::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Isa::kAvx2;
#endif
  return Isa::kPortable;
}

const KernelTable& Kernels(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return Avx512Kernels();
  if (isa == Isa::kAvx2) return Avx2Kernels();
#endif
  return PortableKernels();
}

}  // namespace espalier::worker::engine
