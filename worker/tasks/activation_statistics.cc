// Task kind `activation_statistics` on a network: exact sums over the inputs of layers.
#include "common/sparsity/pruning/activation_statistics.h"

#include <algorithm>
#include <span>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/tasks/batch_buffer.h"
#include "worker/tasks/task.h"

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

absl::StatusOr<Partial> RunActivationStatistics(
    Surroundings& surroundings, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model) {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, surroundings.data.Get(task));
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network, surroundings.networks.Get(task, model, 1));
  BatchBuffer buffer(task, shard.dataset->features(), network->batch_stride());
  const std::span<const int32_t> examples = shard.indices->train;
  Partial partial;
  std::string sums;
  for (const auto& input : task.activation_statistics().inputs()) {
    ESPALIER_ASSIGN_OR_RETURN(const size_t tensor, FindTensor(model->topology->layout(), input));
    ActivationStatistics statistics(input.columns(), input.gram());
    absl::Status added;
    for (size_t i = 0; i < examples.size() && added.ok(); ++i) {
      if (surroundings.cancelled) return Cancelled();
      network->ObserveInput(buffer.Fill(*shard.dataset, examples.subspan(i, 1)), tensor,
                            [&](const float* inputs, int64_t, int64_t positions) {
                              added = statistics.AddSequence(inputs, positions, positions);
                            });
    }
    ESPALIER_RETURN_IF_ERROR(added);
    statistics.AppendTo(sums);
  }
  partial.header.set_examples(static_cast<int64_t>(examples.size()));
  AddSection(v1::SECTION_KIND_ACTIVATION_STATISTICS, v1::SECTION_TYPE_EXACT_SUMS,
             static_cast<uint64_t>(task.activation_statistics().inputs_size()), sums, partial);
  return partial;
}

}  // namespace espalier::worker::tasks
