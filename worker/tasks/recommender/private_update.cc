#include "worker/tasks/recommender/private_update.h"

#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/grow.h"
#include "common/sparsity/replace.h"

namespace espalier::worker::tasks {
namespace {

std::vector<int32_t> Dropped(const v1::PrivateUpdate& update, std::span<const float> keys) {
  if (update.drop() == v1::PrivateUpdate::DROP_SIGNED) {
    return sparsity::DropSetSigned(keys, update.fraction());
  }
  return sparsity::DropSmallestMagnitude(
      keys, ReplacedWeights(update, static_cast<int64_t>(keys.size())));
}

absl::StatusOr<tensor::TopologyDiff> Diff(const v1::PrivateUpdate& update,
                                          const tensor::Topology& topology,
                                          std::span<const float> values,
                                          std::span<const float> gradients,
                                          const sparsity::ScoredPositions& candidates,
                                          uint64_t key) {
  std::vector<float> keys(values.begin(), values.end());
  if (update.drop() == v1::PrivateUpdate::DROP_TAYLOR) {
    for (size_t i = 0; i < keys.size(); ++i) keys[i] *= gradients[i];
  }
  std::vector<int32_t> dropped = Dropped(update, keys);
  if (!update.grow_random()) {
    return sparsity::ReplaceByGradient(
        topology, keys, std::move(dropped),
        {.positions = candidates.positions, .gradients = candidates.values}, gradients);
  }
  tensor::TopologyDiff diff;
  diff.grown = sparsity::GrowRandom(topology, dropped, static_cast<int64_t>(dropped.size()), key);
  diff.dropped = std::move(dropped);
  return diff;
}

// A weight that is dropped and grown again at once begins at 0 like any other.
void ZeroGrown(const tensor::TopologyDiff& diff, size_t tensor, tensor::ModelState& rows) {
  const tensor::ModelTopology& model = *rows.topology;
  const tensor::Topology& topology = model.topology(tensor);
  const int64_t total = model.total_stored();
  int64_t entry = 0;
  for (const int64_t position : diff.grown) {
    const int64_t row = position / topology.cols();
    entry = std::max<int64_t>(entry, topology.row_offsets()[row]);
    while (topology.columns()[entry] != position % topology.cols()) ++entry;
    rows.values[model.offset(tensor) + entry] = 0;
    for (int64_t set = 0; set < static_cast<int64_t>(rows.optimizer_state.size()); set += total) {
      rows.optimizer_state[set + model.offset(tensor) + entry] = 0;
    }
  }
}

}  // namespace

int64_t ReplacedWeights(const v1::PrivateUpdate& update, int64_t stored) {
  return sparsity::CeilingOf(update.fraction(), stored);
}

absl::StatusOr<tensor::ModelState> ChangeRows(const v1::PrivateUpdate& update,
                                              const tensor::ModelState& rows,
                                              std::span<const float> gradients,
                                              std::span<const sparsity::ScoredPositions> candidates,
                                              uint64_t key) {
  const tensor::ModelTopology& old = *rows.topology;
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  std::vector<tensor::TopologyDiff> diffs(old.num_tensors());
  for (size_t i = 0; i < old.num_tensors(); ++i) {
    topologies.push_back(old.shared_topology(i));
    if (!old.is_sparse(i) || old.stored(i) == 0) continue;
    ESPALIER_ASSIGN_OR_RETURN(diffs[i], Diff(update, old.topology(i), rows.tensor(i),
                                             gradients.subspan(old.offset(i), old.stored(i)),
                                             candidates[i], base::StreamKey(key, "tensor", {i})));
    ESPALIER_ASSIGN_OR_RETURN(tensor::Topology changed, tensor::Apply(old.topology(i), diffs[i]));
    topologies[i] = std::make_shared<const tensor::Topology>(std::move(changed));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology updated,
      tensor::ModelTopology::Create(old.shared_layout(), std::move(topologies)));
  tensor::ModelState result =
      tensor::Relayout(rows, std::make_shared<const tensor::ModelTopology>(std::move(updated)));
  for (size_t i = 0; i < diffs.size(); ++i) ZeroGrown(diffs[i], i, result);
  return result;
}

}  // namespace espalier::worker::tasks
