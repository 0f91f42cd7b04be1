// Selection by count under a total order, shared by drop and grow rules.
//
// A key packs what is compared (a float's magnitude as bits) above the index, so that comparing two
// integers compares (magnitude, index) and no two keys are equal. NaN counts as the largest
// magnitude.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace espalier::sparsity {

// Bits of |value|; they order as the magnitudes do.
inline uint32_t MagnitudeBits(float value) { return std::bit_cast<uint32_t>(value) & 0x7FFFFFFFu; }

// Ascending order of these keys: smallest magnitude first, ties by lower index.
inline uint64_t SmallestFirst(float value, uint32_t index) {
  return (uint64_t{MagnitudeBits(value)} << 32) | index;
}

// Ascending order of these keys: largest magnitude first, ties by lower index.
inline uint64_t LargestFirst(float value, uint32_t index) {
  return (uint64_t{~MagnitudeBits(value)} << 32) | index;
}

// A bound that exactly the `count` smallest of `keys` lie below; 0 ≤ count ≤ keys.size(). The
// caller scans again in its own order, which gives ascending indices without a sort. O(n); permutes
// `keys`.
uint64_t BoundOfSmallest(std::vector<uint64_t>& keys, int64_t count);

}  // namespace espalier::sparsity
