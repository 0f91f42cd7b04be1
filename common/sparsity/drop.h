// Drop rules: which active weights of one tensor go.
//
// Shapes:      `values` are one tensor's values in topology order; the result holds ascending
//              indices into it, as tensor::TopologyDiff::dropped wants them.
// Order:       total order (key, index): among equal keys the lower index is dropped first.
//              Selection is always by count, never by threshold, so ties cannot drop too many.
// Cost:        O(nnz) time, 8 bytes per active weight.
// Threading:   pure functions. Determinism: bit-identical everywhere.
// Source:      Mocanu et al., Nature Communications 9, 2018; Evci et al., ICML 2020.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace espalier::sparsity {

// The `count` weights of smallest |value|; 0 ≤ count ≤ values.size().
std::vector<int32_t> DropSmallestMagnitude(std::span<const float> values, int64_t count);

// SET's sign-separate removal: ⌊ζ·positives⌋ of the positive weights, smallest first, and
// ⌊ζ·negatives⌋ of the negative ones, nearest to zero first. Exact zeros count as positive and
// therefore go first. 0 ≤ zeta ≤ 1.
std::vector<int32_t> DropSetSigned(std::span<const float> values, double zeta);

// `count` of `nnz` weights at random (the ablation of the SET paper); 0 ≤ count ≤ nnz < 2^31.
std::vector<int32_t> DropRandom(int64_t nnz, int64_t count, uint64_t key);

}  // namespace espalier::sparsity
