#include "worker/engine/layers/weight_transform.h"

#include <utility>

#include "worker/engine/layers/weight_standardization.h"

namespace espalier::worker::engine {

std::unique_ptr<WeightTransform> MakeWeightTransform(
    const LayerSpec& spec, std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape,
    int threads) {
  if (!spec.standardize) return nullptr;
  return std::make_unique<WeightStandardization>(std::move(topology), shape.out_channels,
                                                 shape.cols(), threads);
}

}  // namespace espalier::worker::engine
