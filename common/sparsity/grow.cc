#include "common/sparsity/grow.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/sparsity/complement.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/random_topology.h"
#include "common/sparsity/selection.h"

namespace espalier::sparsity {
namespace {

bool IsActive(const tensor::Topology& topology, int64_t position) {
  const int64_t row = position / topology.cols();
  const auto column = static_cast<int32_t>(position % topology.cols());
  const auto begin = topology.columns().begin();
  return std::binary_search(begin + topology.row_offsets()[row],
                            begin + topology.row_offsets()[row + 1], column);
}

absl::Status CheckLengths(const tensor::Topology& topology, std::span<const float> values,
                          const Candidates& candidates, std::span<const float> active_gradients) {
  const auto nnz = static_cast<size_t>(topology.nnz());
  const bool gradients_fit = active_gradients.empty() || active_gradients.size() == nnz;
  if (values.size() == nnz && gradients_fit &&
      candidates.positions.size() == candidates.gradients.size()) {
    return absl::OkStatus();
  }
  return base::InvalidArgument(
      "SHAPE_MISMATCH",
      fmt::format("expected {} values, none or {} active gradients and a gradient for each of {} "
                  "candidates, found {}, {} and {}",
                  nnz, nnz, candidates.positions.size(), values.size(), active_gradients.size(),
                  candidates.gradients.size()));
}

// Everything that may be grown, by ascending position. `origin` is the index of a just-dropped
// weight in topology order, or -1 for an inactive position.
struct Pool {
  std::vector<int64_t> positions;
  std::vector<float> gradients;
  std::vector<int32_t> origin;

  void Add(int64_t position, float gradient, int32_t from) {
    positions.push_back(position);
    gradients.push_back(gradient);
    origin.push_back(from);
  }
};

Pool MergeWithDropped(const tensor::Topology& topology, const Candidates& candidates,
                      std::span<const int32_t> dropped, std::span<const float> active_gradients) {
  Pool pool;
  size_t next = 0;
  const auto add_candidates_before = [&](int64_t position) {
    for (; next < candidates.positions.size() && candidates.positions[next] < position; ++next) {
      pool.Add(candidates.positions[next], candidates.gradients[next], -1);
    }
  };
  int64_t row = 0;
  for (const int32_t index : dropped) {
    while (topology.row_offsets()[row + 1] <= index) ++row;
    const int64_t position = row * topology.cols() + topology.columns()[index];
    add_candidates_before(position);
    pool.Add(position, active_gradients[index], index);
  }
  add_candidates_before(topology.size());
  return pool;
}

}  // namespace

std::vector<int64_t> GrowRandom(const tensor::Topology& topology, std::span<const int32_t> dropped,
                                int64_t count, uint64_t key) {
  const std::vector<int64_t> kept = KeptPositions(topology, dropped);
  const int64_t universe = topology.size() - static_cast<int64_t>(kept.size());
  return RankToPosition(kept, DrawPositions(key, count, universe));
}

std::vector<int64_t> GrowByScore(std::span<const int64_t> positions, std::span<const float> scores,
                                 int64_t count) {
  ESPALIER_CHECK(positions.size() == scores.size(), "every position has a score");
  std::vector<uint64_t> keys(scores.size());
  for (uint32_t i = 0; i < scores.size(); ++i) keys[i] = LargestFirst(scores[i], i);
  count = std::min(count, static_cast<int64_t>(scores.size()));
  const uint64_t bound = BoundOfSmallest(keys, count);
  std::vector<int64_t> grown;
  grown.reserve(count);
  for (uint32_t i = 0; i < scores.size(); ++i) {
    if (LargestFirst(scores[i], i) < bound) grown.push_back(positions[i]);
  }
  return grown;
}

absl::Status CheckCandidates(const tensor::Topology& topology, std::span<const int64_t> positions) {
  int64_t previous = -1;
  for (const int64_t position : positions) {
    if (position < 0 || position >= topology.size()) {
      return base::InvalidArgument("CANDIDATE_OUT_OF_RANGE",
                                   fmt::format("growth candidates must lie in [0, {}), found {}",
                                               topology.size(), position));
    }
    if (position <= previous) {
      return base::InvalidArgument(
          "CANDIDATES_NOT_ASCENDING",
          fmt::format("growth candidates must be distinct and ascending, found {} after {}",
                      position, previous));
    }
    if (IsActive(topology, position)) {
      return base::InvalidArgument(
          "CANDIDATE_ACTIVE",
          fmt::format("growth candidates must be inactive, found {}, which is active", position));
    }
    previous = position;
  }
  return absl::OkStatus();
}

absl::StatusOr<tensor::TopologyDiff> RigLUpdate(const tensor::Topology& topology,
                                                std::span<const float> values,
                                                const Candidates& candidates, int64_t count,
                                                std::span<const float> active_gradients) {
  ESPALIER_CHECK(0 <= count && count <= topology.nnz(), "no more can be dropped than is active");
  ESPALIER_RETURN_IF_ERROR(CheckLengths(topology, values, candidates, active_gradients));
  ESPALIER_RETURN_IF_ERROR(CheckCandidates(topology, candidates.positions));
  if (active_gradients.empty()) {
    count = std::min(count, static_cast<int64_t>(candidates.positions.size()));
    return tensor::TopologyDiff{
        .dropped = DropSmallestMagnitude(values, count),
        .grown = GrowByScore(candidates.positions, candidates.gradients, count)};
  }
  const std::vector<int32_t> dropped = DropSmallestMagnitude(values, count);
  const Pool pool = MergeWithDropped(topology, candidates, dropped, active_gradients);
  const std::vector<int64_t> chosen = GrowByScore(pool.positions, pool.gradients, count);
  tensor::TopologyDiff diff;
  size_t next = 0;
  for (size_t i = 0; i < pool.positions.size(); ++i) {
    const bool grown = next < chosen.size() && chosen[next] == pool.positions[i];
    if (grown) ++next;
    if (grown && pool.origin[i] < 0) diff.grown.push_back(pool.positions[i]);
    if (!grown && pool.origin[i] >= 0) diff.dropped.push_back(pool.origin[i]);
  }
  return diff;
}

}  // namespace espalier::sparsity
