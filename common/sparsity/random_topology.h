// Random positions: uniform subsets that a key stands for.
//
// A coordinator broadcasts (key, count) instead of a topology; every machine draws the same subset.
//
// Definition:  for count ≤ universe/2, the set of the first `count` distinct values of the endless
//              sequence Rng(key).Below(universe); for larger counts, the complement of the set of
//              universe − count positions drawn that way. All subsets of that size are equally
//              likely. This is a wire contract: it never changes within a protocol version.
// Memory:      16 bytes per drawn position; never anything of the size of the universe.
// Threading:   pure functions.
// Determinism: bit-identical on every machine.
// Source:      Mocanu et al., Nature Communications 9, 2018, with an exact count instead of
//              independent draws; Floyd's method (Bentley and Floyd, CACM 30, 1987).
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/topology.h"

namespace espalier::sparsity {

// Ascending, distinct positions in [0, universe). Needs 0 ≤ count ≤ universe: check numbers that
// come from outside before the call.
std::vector<int64_t> DrawPositions(uint64_t key, int64_t count, int64_t universe);

// A topology of exactly `count` uniformly drawn weights.
// Errors: InvalidArgument for a count outside [0, rows·cols] or a shape Topology refuses.
absl::StatusOr<tensor::Topology> RandomTopology(int64_t rows, int64_t cols, int64_t count,
                                                uint64_t key);

}  // namespace espalier::sparsity
