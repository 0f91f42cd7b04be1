#include "common/wire/model_spec/result_layout.h"

#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/shapes.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {
namespace {

using Range = ResultLayout::Range;

// The running variances of a model's batch norms: among all its values, or among its running
// statistics alone. Of each batch norm the mean comes first.
std::vector<Range> Variances(const tensor::ModelTopology& topology, bool among_statistics) {
  std::vector<Range> ranges;
  int64_t statistics = 0;
  bool is_variance = false;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].buffer) continue;
    const int64_t begin = among_statistics ? statistics : topology.offset(i);
    if (is_variance) ranges.push_back({begin, begin + topology.stored(i)});
    statistics += topology.stored(i);
    is_variance = !is_variance;
  }
  return ranges;
}

ResultLayout OfTraining(const v1::Task& task, const tensor::ModelTopology& topology) {
  const int64_t stored = topology.total_stored();
  ResultLayout layout{.values = ValuesPerWeight(task) * stored,
                      .not_negative = Variances(topology, /*among_statistics=*/false)};
  if (HasSecondMoments(task)) layout.not_negative.push_back({2 * stored, 3 * stored});
  if (task.train().importance()) {
    const int64_t begin = layout.values;
    layout.values += topology.total_size();
    layout.not_negative.push_back({begin, layout.values});
  }
  return layout;
}

}  // namespace

ResultLayout ResultLayoutOf(const v1::Task& task, const tensor::ModelTopology& topology) {
  if (task.has_evaluate() || task.has_growth() || task.has_recommend()) return {};
  if (task.has_activation_statistics()) {
    return {.values = StatisticsValues(task.activation_statistics())};
  }
  if (task.has_calibrate()) {
    return {.values = BufferValues(topology),
            .not_negative = Variances(topology, /*among_statistics=*/true)};
  }
  if (task.has_score()) return {.values = topology.sparsifiable_size()};
  if (task.has_channel_statistics()) {
    const int64_t channels = InputShape(task.model().spec()).channels;
    return {.values = 4 * channels, .not_negative = {{2 * channels, 4 * channels}}};
  }
  return OfTraining(task, topology);
}

}  // namespace espalier::wire
