// How activations are padded in memory: the engine pads them, and the coordinator prices it.
//
// Shapes:   a matrix of activations is feature-major [features][stride], one column per example. Of
//           a row, WholeLanes(examples) columns are computed; rows are PaddedStride(examples)
//           apart.
#pragma once

#include <cstdint>

namespace espalier::tensor {

// Granularity of padding in floats: a cache line, one AVX-512 register, two AVX2 registers.
inline constexpr int64_t kLanes = 16;

constexpr int64_t WholeLanes(int64_t columns) { return (columns + kLanes - 1) / kLanes * kLanes; }

// An odd number of cache lines, so that a part of every row spreads over the whole cache.
constexpr int64_t PaddedStride(int64_t columns) {
  return (WholeLanes(columns) / kLanes | 1) * kLanes;
}

}  // namespace espalier::tensor
