#include "worker/engine/rows/row_arithmetic.h"

#include "worker/engine/kernels/kernels.h"
#include "worker/engine/multiversion.h"

namespace espalier::worker::engine {

ESPALIER_MULTIVERSION
float Dot(const float* a, const float* b, int64_t size) {
  float lanes[kLanes] = {};
  int64_t d = 0;
  for (; d + kLanes <= size; d += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += a[d + lane] * b[d + lane];
  }
  for (int64_t lane = 0; d + lane < size; ++lane) lanes[lane] += a[d + lane] * b[d + lane];
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

ESPALIER_MULTIVERSION
void Multiply(const float* __restrict a, const float* __restrict b, int64_t size,
              float* __restrict to) {
  for (int64_t d = 0; d < size; ++d) to[d] = a[d] * b[d];
}

ESPALIER_MULTIVERSION
void AddScaled(float factor, const float* __restrict from, int64_t size, float* __restrict to) {
  for (int64_t d = 0; d < size; ++d) to[d] += factor * from[d];
}

ESPALIER_MULTIVERSION
void AddDifference(float factor, const float* __restrict a, const float* __restrict b, int64_t size,
                   float* __restrict to) {
  for (int64_t d = 0; d < size; ++d) to[d] += factor * (a[d] - b[d]);
}

}  // namespace espalier::worker::engine
