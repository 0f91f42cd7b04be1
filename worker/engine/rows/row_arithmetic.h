// Arithmetic on rows of numbers. Every function gives the same bits on every instruction set.
#pragma once

#include <cstdint>

namespace espalier::worker::engine {

// Σ a·b.
float Dot(const float* a, const float* b, int64_t size);
// to = a·b, one by one. `to` overlaps neither.
void Multiply(const float* a, const float* b, int64_t size, float* to);
// to += factor·from. Rows do not overlap.
void AddScaled(float factor, const float* from, int64_t size, float* to);
// to += factor·(a − b). `to` overlaps neither.
void AddDifference(float factor, const float* a, const float* b, int64_t size, float* to);

}  // namespace espalier::worker::engine
