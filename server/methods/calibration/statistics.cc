#include "server/methods/calibration/statistics.h"

#include <algorithm>

namespace espalier::server::methods {

void SetStatistics(std::span<const float> statistics, tensor::ModelState& model) {
  size_t next = 0;
  for (size_t i = 0; i < model.topology->num_tensors(); ++i) {
    if (!model.topology->layout()[i].buffer) continue;
    for (float& value : model.tensor(i)) value = statistics[next++];
  }
}

void VariancesFromSecondMoments(const tensor::ModelTopology& topology,
                                std::vector<float>& statistics) {
  size_t mean = 0;
  size_t next = 0;
  bool is_variance = false;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].buffer) continue;
    for (int64_t k = 0; k < topology.stored(i) && is_variance; ++k) {
      float& variance = statistics[next + k];
      variance = std::max(0.0F, variance - statistics[mean + k] * statistics[mean + k]);
    }
    mean = next;
    next += topology.stored(i);
    is_variance = !is_variance;
  }
}

}  // namespace espalier::server::methods
