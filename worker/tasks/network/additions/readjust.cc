#include "worker/tasks/network/additions/readjust.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/drop.h"

namespace espalier::worker::tasks {
namespace {

// As many as are asked for, and as there can be.
std::vector<int64_t> CountsOf(const v1::Readjustment& readjustment,
                              const tensor::ModelTopology& topology) {
  std::vector<int64_t> counts(topology.num_tensors(), 0);
  for (size_t i = 0; i < counts.size(); ++i) {
    if (!topology.is_sparse(i) || static_cast<int>(i) >= readjustment.counts_size()) continue;
    const int64_t stored = topology.stored(i);
    const int64_t most = std::min(stored, topology.topology(i).size() - stored);
    counts[i] = std::clamp<int64_t>(readjustment.counts(static_cast<int>(i)), 0, most);
  }
  return counts;
}

}  // namespace

bool Readjuster::IsDue(int64_t step, int64_t count) const {
  if (!asked_.has_readjustment()) return false;
  const double wanted = asked_.readjustment().after_fraction() * static_cast<double>(count);
  return step + 1 == std::clamp<int64_t>(std::llround(wanted), 1, count);
}

absl::Status Readjuster::Readjust(const engine::Batch& batch, engine::Network& network) {
  const std::shared_ptr<const tensor::ModelTopology> base = network.topology();
  const std::vector<int64_t> counts = CountsOf(asked_.readjustment(), *base);
  std::vector<engine::ScoreList> candidates =
      network.GrowthCandidates(std::span(&batch, 1), counts);
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  for (size_t i = 0; i < counts.size(); ++i) {
    topologies.push_back(base->shared_topology(i));
    if (counts[i] == 0) continue;
    const auto values = network.values().subspan(base->offset(i), base->stored(i));
    wire::TensorChange change;
    change.tensor = i;
    change.diff.dropped = sparsity::DropSmallestMagnitude(values, counts[i]);
    change.diff.grown = std::move(candidates[i].positions);
    ESPALIER_ASSIGN_OR_RETURN(tensor::Topology changed,
                              tensor::Apply(base->topology(i), change.diff));
    topologies.back() = std::make_shared<const tensor::Topology>(std::move(changed));
    changes_.push_back(std::move(change));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology updated,
      tensor::ModelTopology::Create(base->shared_layout(), std::move(topologies)));
  updated_ = std::make_shared<const tensor::ModelTopology>(std::move(updated));
  return network.Restructure(updated_);
}

absl::StatusOr<std::string> Readjuster::Encode(const tensor::ModelTopology& base) const {
  ESPALIER_ASSIGN_OR_RETURN(
      const v1::TopologyUpdate update,
      wire::EncodeTopologyUpdate(base, updated_ == nullptr ? base : *updated_, changes_));
  return update.SerializeAsString();
}

}  // namespace espalier::worker::tasks
