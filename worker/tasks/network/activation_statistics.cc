// Exact sums over the inputs of a network's layers.
#include "common/sparsity/pruning/activation_statistics.h"

#include <algorithm>
#include <span>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/tasks/network/batch_buffer.h"
#include "worker/tasks/network/network_model.h"

namespace espalier::worker::tasks {
namespace {

using sparsity::ActivationStatistics;

absl::StatusOr<size_t> FindTensor(const tensor::ModelLayout& layout,
                                  const v1::ActivationStatisticsTask::Input& input) {
  for (size_t i = 0; i < layout.size(); ++i) {
    if (layout[i].name == input.layer() && layout[i].cols == input.columns()) return i;
  }
  return base::InvalidArgument(
      "SHAPE_MISMATCH",
      fmt::format("expected a tensor {} with {} inputs in the task's model, found "
                  "none; coordinator and worker must be of one version",
                  input.layer(), input.columns()));
}

}  // namespace

absl::StatusOr<Observed> NetworkModel::Observe() {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, Shard());
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network, NetworkFor(1));
  BatchBuffer buffer(task(), shard.dataset->features(), network->batch_stride());
  const std::span<const int32_t> examples = shard.indices->train;
  std::string sums;
  for (const auto& input : task().activation_statistics().inputs()) {
    ESPALIER_ASSIGN_OR_RETURN(const size_t tensor, FindTensor(state().topology->layout(), input));
    ActivationStatistics statistics(input.columns(), input.gram());
    absl::Status added;
    for (size_t i = 0; i < examples.size() && added.ok(); ++i) {
      if (cancelled()) return Cancelled();
      network->ObserveInput(buffer.Fill(*shard.dataset, examples.subspan(i, 1)), tensor,
                            [&](const float* inputs, int64_t, int64_t positions) {
                              added = statistics.AddSequence(inputs, positions, positions);
                            });
    }
    ESPALIER_RETURN_IF_ERROR(added);
    statistics.AppendTo(sums);
  }
  return Observed{static_cast<int64_t>(examples.size()), std::move(sums)};
}

}  // namespace espalier::worker::tasks
