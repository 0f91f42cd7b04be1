// Positions that are not in an ascending list, addressed by rank, without a dense mask.
//
// Rank q stands for the q-th position (from 0) of [0, universe) that is not in `active`.
//
// Threading:   pure functions. Determinism: exact integer arithmetic.
// Cost:        one walk, O(active + ranks).
// Needs:       ascending, distinct inputs; ranks below universe − active.size().
// Source:      ours; a sparse form of masking a dense random draw.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/tensor/topology.h"

namespace espalier::sparsity {

// The positions that ascending `ranks` stand for, ascending.
std::vector<int64_t> RankToPosition(std::span<const int64_t> active,
                                    std::span<const int64_t> ranks);

// The ranks of ascending `positions`, none of which is in `active`; inverse of RankToPosition.
std::vector<int64_t> PositionToRank(std::span<const int64_t> active,
                                    std::span<const int64_t> positions);

// All positions of [0, universe) that are not in `active`; only for nearly full lists.
std::vector<int64_t> Complement(std::span<const int64_t> active, int64_t universe);

// Flat positions that stay when the weights `dropped` (ascending indices in topology order) go.
// What may be grown is everything else: the universe for ranks is topology.size() − the result's
// size.
std::vector<int64_t> KeptPositions(const tensor::Topology& topology,
                                   std::span<const int32_t> dropped);

}  // namespace espalier::sparsity
