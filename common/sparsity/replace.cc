#include "common/sparsity/replace.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/status.h"
#include "common/sparsity/drop.h"

namespace espalier::sparsity {
namespace {

// Flat positions of ascending entries of a topology.
std::vector<int64_t> PositionsOf(const tensor::Topology& topology,
                                 std::span<const int32_t> entries) {
  std::vector<int64_t> positions;
  positions.reserve(entries.size());
  const auto offsets = topology.row_offsets();
  int64_t row = 0;
  for (const int32_t entry : entries) {
    while (offsets[row + 1] <= entry) ++row;
    positions.push_back(row * topology.cols() + topology.columns()[entry]);
  }
  return positions;
}

// The `count` of `dropped` with the smallest |key|.
std::vector<int32_t> Weakest(const std::vector<int32_t>& dropped, std::span<const float> keys,
                             int64_t count) {
  std::vector<float> chosen;
  chosen.reserve(dropped.size());
  for (const int32_t entry : dropped) chosen.push_back(keys[entry]);
  std::vector<int32_t> result;
  for (const int32_t i : DropSmallestMagnitude(chosen, count)) result.push_back(dropped[i]);
  return result;
}

struct Scored {
  int64_t position;
  float gradient;
};

// Candidates and what is dropped, by position.
std::vector<Scored> AllCandidates(const tensor::Topology& topology,
                                  std::span<const int32_t> dropped, const Candidates& candidates,
                                  std::span<const float> active_gradients) {
  std::vector<Scored> all;
  all.reserve(candidates.positions.size() + dropped.size());
  for (size_t i = 0; i < candidates.positions.size(); ++i) {
    all.push_back({candidates.positions[i], candidates.gradients[i]});
  }
  if (active_gradients.empty()) return all;
  const std::vector<int64_t> positions = PositionsOf(topology, dropped);
  for (size_t i = 0; i < dropped.size(); ++i) {
    all.push_back({positions[i], active_gradients[dropped[i]]});
  }
  std::sort(all.begin(), all.end(),
            [](const Scored& a, const Scored& b) { return a.position < b.position; });
  return all;
}

}  // namespace

int64_t CeilingOf(double fraction, int64_t count) {
  const double exact = fraction * static_cast<double>(count);
  return std::min(count, static_cast<int64_t>(std::ceil(exact - 1e-9 * (1 + exact))));
}

absl::StatusOr<tensor::TopologyDiff> ReplaceByGradient(const tensor::Topology& topology,
                                                       std::span<const float> keys,
                                                       std::vector<int32_t> dropped,
                                                       const Candidates& candidates,
                                                       std::span<const float> active_gradients) {
  const auto nnz = static_cast<size_t>(topology.nnz());
  if (keys.size() != nnz || candidates.positions.size() != candidates.gradients.size() ||
      (!active_gradients.empty() && active_gradients.size() != nnz)) {
    return base::InvalidArgument("SHAPE_MISMATCH",
                                 "expected one key and one gradient for each stored weight and "
                                 "candidate, found other numbers of them");
  }
  ESPALIER_RETURN_IF_ERROR(CheckCandidates(topology, candidates.positions));
  const std::vector<Scored> all = AllCandidates(topology, dropped, candidates, active_gradients);
  std::vector<int64_t> positions;
  std::vector<float> gradients;
  for (const Scored& candidate : all) {
    positions.push_back(candidate.position);
    gradients.push_back(candidate.gradient);
  }
  tensor::TopologyDiff diff;
  diff.grown = GrowByScore(positions, gradients, static_cast<int64_t>(dropped.size()));
  const bool fewer = diff.grown.size() < dropped.size();
  diff.dropped =
      fewer ? Weakest(dropped, keys, static_cast<int64_t>(diff.grown.size())) : std::move(dropped);
  return diff;
}

}  // namespace espalier::sparsity
