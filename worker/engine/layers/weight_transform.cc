#include "worker/engine/layers/weight_transform.h"

#include <utility>

#include "worker/engine/layers/transforms/n_of_m_mask.h"
#include "worker/engine/layers/transforms/weight_standardization.h"

namespace espalier::worker::engine {

std::unique_ptr<WeightTransform> MakeWeightTransform(
    const LayerSpec& spec, std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape,
    int threads) {
  const auto group = spec.options.find(tensor::kGroupOption);
  // A structure has the pattern already.
  if (group != spec.options.end() && topology == nullptr) {
    const sparsity::NOfM pattern{.kept = static_cast<int64_t>(spec.options.at(tensor::kKeptOption)),
                                 .group = static_cast<int64_t>(group->second),
                                 .step = shape.kernel * shape.kernel,
                                 .cols = shape.cols()};
    return std::make_unique<NOfMMask>(pattern, spec.options.at(tensor::kDecayOption),
                                      shape.out_channels, threads);
  }
  if (!spec.standardize) return nullptr;
  return std::make_unique<WeightStandardization>(std::move(topology), shape.out_channels,
                                                 shape.cols(), threads);
}

}  // namespace espalier::worker::engine
