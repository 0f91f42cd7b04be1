#include "worker/engine/kernels/shift_kernels.h"

namespace espalier::worker::engine {
namespace {

constexpr ShiftTile kTiles[] = {{1, 4}, {1, 1}};
constexpr int64_t kMaxPositions = 4;

void Multiply(const ShiftRows& w, ShiftTile tile, const float* values, const float* in, float* out,
              RowRange rows) {
  const int64_t in_col = w.in_step * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float sum[kMaxPositions][kLanes] = {};
    for (int32_t k = w.begin[row]; k < w.begin[row + 1]; ++k) {
      const float* from = in + w.offsets[k];
      for (int64_t p = 0; p < tile.cols; ++p) {
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          sum[p][lane] += values[k] * from[p * in_col + lane];
        }
      }
    }
    float* to = out + row * w.out_channel;
    for (int64_t p = 0; p < tile.cols; ++p) {
      for (int64_t lane = 0; lane < kLanes; ++lane) to[p * w.out_col + lane] = sum[p][lane];
    }
  }
}

void Gradient(const ShiftRows& w, ShiftTile tile, ShiftTile skip, const float* dy, const float* in,
              bool add, float* gradient, RowRange rows) {
  const int64_t in_col = w.in_step * kLanes;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* delta = dy + row * w.out_channel;
    for (int32_t k = w.begin[row]; k < w.begin[row + 1]; ++k) {
      float lanes[kLanes] = {};
      for (int64_t p = skip.cols; p < tile.cols && skip.rows == 0; ++p) {
        const float* from = in + w.offsets[k] + p * in_col;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          lanes[lane] += delta[p * w.out_col + lane] * from[lane];
        }
      }
      float sum = add ? gradient[k] : 0.0F;
      for (const float lane : lanes) sum += lane;
      gradient[k] = sum;
    }
  }
}

}  // namespace

const ShiftKernels& PortableShiftKernels() {
  static constexpr ShiftKernels kKernels = {kTiles, Multiply, Gradient};
  return kKernels;
}

const ShiftKernels& ShiftKernelsFor(Isa isa) {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return Avx512ShiftKernels();
  if (isa == Isa::kAvx2) return Avx2ShiftKernels();
#endif
  return PortableShiftKernels();
}

}  // namespace espalier::worker::engine
