// Calibration of networks: running statistics of the normalisation layers for frozen weights.
#include <algorithm>
#include <optional>
#include <span>

#include "common/base/status.h"
#include "common/wire/values_codec.h"
#include "worker/tasks/network/batch_buffer.h"
#include "worker/tasks/network/development.h"
#include "worker/tasks/network/network_model.h"

namespace espalier::worker::tasks {
namespace {

// The values of all buffers, in layout order; of each pair (mean, variance) the second as
// variance + mean² if `second_moments`.
std::vector<float> Statistics(const tensor::ModelTopology& topology, std::span<const float> values,
                              bool second_moments) {
  std::vector<float> statistics;
  std::span<const float> mean;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].buffer) continue;
    const auto buffer = values.subspan(topology.offset(i), topology.stored(i));
    const bool is_variance = !mean.empty();
    for (size_t k = 0; k < buffer.size(); ++k) {
      const float shift = is_variance && second_moments ? mean[k] * mean[k] : 0.0F;
      statistics.push_back(buffer[k] + shift);
    }
    mean = is_variance ? std::span<const float>() : buffer;
  }
  return statistics;
}

}  // namespace

absl::StatusOr<Measured> NetworkModel::Calibrate() {
  const v1::CalibrateTask& calibrate = task().calibrate();
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, Shard());
  const int batch_size = std::max(1, calibrate.batch_size());
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network, NetworkFor(batch_size));
  const std::vector<int32_t> examples =
      DevelopmentSet(task(), shard, calibrate.development_fraction(), batch_size);
  if (examples.empty()) return NoTrainingExamples(task());
  BatchBuffer buffer(task(), shard.dataset->features(), network->batch_stride());
  for (int pass = 0; pass < std::max(1, calibrate.passes()); ++pass) {
    for (size_t begin = 0; begin < examples.size(); begin += batch_size) {
      if (cancelled()) return Cancelled();
      const size_t size = std::min<size_t>(batch_size, examples.size() - begin);
      std::optional<double> weight;
      if (!calibrate.exponential()) {
        weight = static_cast<double>(size) / static_cast<double>(begin + size);
      }
      network->Calibrate(buffer.Fill(*shard.dataset, std::span(examples).subspan(begin, size)),
                         weight);
    }
  }
  return Measured{static_cast<int64_t>(examples.size()),
                  Statistics(*state().topology, network->values(), calibrate.second_moments())};
}

}  // namespace espalier::worker::tasks
