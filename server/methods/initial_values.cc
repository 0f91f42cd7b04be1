#include "server/methods/initial_values.h"

#include <algorithm>
#include <cmath>

#include "common/base/rng.h"

namespace espalier::server::methods {
namespace {

double StandardDeviation(v1::Initializer initializer, const tensor::TensorSpec& spec, int64_t nnz) {
  const double fan_in = std::max(1.0, static_cast<double>(nnz) / static_cast<double>(spec.rows));
  const double fan_out = std::max(1.0, static_cast<double>(nnz) / static_cast<double>(spec.cols));
  switch (initializer) {
    case v1::INITIALIZER_NORMAL:
      return 0.1;
    case v1::INITIALIZER_HE:
      return std::sqrt(2 / fan_in);
    default:
      return std::sqrt(2 / (fan_in + fan_out));
  }
}

}  // namespace

std::vector<float> InitialValues(const v1::ModelSpec& spec, const tensor::ModelTopology& topology,
                                 uint64_t seed) {
  std::vector<float> values(topology.total_stored(), 0.0f);
  size_t tensor = 0;
  for (const v1::Layer& layer : spec.layers()) {
    const int64_t stored = topology.stored(tensor);
    const double deviation =
        StandardDeviation(layer.linear().initializer(), topology.layout()[tensor], stored);
    base::Rng rng(base::StreamKey(seed, "init", {tensor}));
    for (int64_t i = 0; i < stored; ++i) {
      values[topology.offset(tensor) + i] = static_cast<float>(deviation * rng.Normal());
    }
    tensor += layer.linear().no_bias() ? 1 : 2;
  }
  return values;
}

}  // namespace espalier::server::methods
