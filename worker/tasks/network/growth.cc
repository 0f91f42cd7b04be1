// Gradients at inactive positions of a network, as it is.
#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/wire/index_set.h"
#include "worker/tasks/network/growth_examples.h"
#include "worker/tasks/network/network_model.h"

namespace espalier::worker::tasks {
namespace {

// The positions that the task names, by tensor.
absl::StatusOr<std::vector<std::vector<int64_t>>> PositionsOf(const v1::GrowthTask& task,
                                                              const tensor::ModelLayout& layout) {
  std::vector<std::vector<int64_t>> positions(layout.size());
  const size_t named = std::min<size_t>(layout.size(), task.positions_size());
  for (size_t i = 0; i < named; ++i) {
    const v1::IndexSet& set = task.positions(static_cast<int>(i));
    ESPALIER_ASSIGN_OR_RETURN(
        positions[i],
        wire::DecodeIndexSet(set, static_cast<uint64_t>(layout[i].size()), set.count()));
  }
  return positions;
}

}  // namespace

absl::StatusOr<GrowthGradients> NetworkModel::InactiveGradients(int64_t& examples) {
  const v1::GrowthTask& growth = task().growth();
  const tensor::ModelTopology& topology = *state().topology;
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, TrainingShard());
  const int batch_size = std::max(1, growth.batch_size());
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network, NetworkFor(batch_size));
  ESPALIER_ASSIGN_OR_RETURN(const auto positions, PositionsOf(growth, topology.layout()));
  examples = static_cast<int64_t>(shard.indices->train.size());
  std::vector<engine::GrowthQuery> queries(topology.num_tensors());
  for (size_t i = 0; i < queries.size(); ++i) {
    const int index = static_cast<int>(i);
    if (index < growth.counts_size()) queries[i].count = std::max<int64_t>(0, growth.counts(index));
    if (index < growth.thresholds_size() && growth.thresholds(index) > 0) {
      queries[i].threshold = growth.thresholds(index) / static_cast<double>(examples);
    }
    queries[i].positions = positions[i];
  }
  const GrowthExamples batches(task(), shard, *network, batch_size, growth.batches());
  if (cancelled()) return Cancelled();
  return GrowthGradients{.active = {},
                         .largest = network->InactiveGradients(batches.batches(), queries)};
}

}  // namespace espalier::worker::tasks
