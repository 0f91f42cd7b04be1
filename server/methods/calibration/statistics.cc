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

void VariancesFromSecondMomentsIn(const tensor::ModelTopology& topology, std::span<float> values) {
  std::vector<float> statistics;
  const auto for_each = [&](const auto& take) {
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      if (topology.layout()[i].buffer) take(values.subspan(topology.offset(i), topology.stored(i)));
    }
  };
  for_each([&](std::span<float> buffer) {
    statistics.insert(statistics.end(), buffer.begin(), buffer.end());
  });
  VariancesFromSecondMoments(topology, statistics);
  auto next = statistics.begin();
  for_each([&](std::span<float> buffer) {
    std::copy_n(next, buffer.size(), buffer.begin());
    next += static_cast<int64_t>(buffer.size());
  });
}

}  // namespace espalier::server::methods
