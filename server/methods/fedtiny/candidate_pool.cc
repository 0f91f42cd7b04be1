#include "server/methods/fedtiny/candidate_pool.h"

#include <cmath>
#include <span>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/distribution.h"
#include "common/sparsity/top_k.h"
#include "common/wire/model_spec/model_spec.h"

namespace espalier::server::methods {
namespace {

absl::StatusOr<std::vector<int64_t>> Allocation(const tensor::ModelLayout& layout, double density,
                                                uint64_t seed, int64_t number) {
  base::Rng rng(base::StreamKey(seed, "pool", {static_cast<uint64_t>(number)}));
  sparsity::DistributionOptions options;
  options.density = density;
  std::vector<sparsity::LayerShape> layers;
  for (const tensor::TensorSpec& tensor : layout) {
    if (!tensor.sparsifiable) continue;
    layers.push_back({.shape = tensor.shape});
    options.score_factors.push_back(number == 0 ? 1.0 : std::exp(rng.Uniform() - 0.5));
  }
  ESPALIER_ASSIGN_OR_RETURN(sparsity::Allocation allocation, sparsity::Allocate(layers, options));
  return std::move(allocation.counts);
}

// The `count` largest magnitudes of one dense tensor, which never exists as a whole.
absl::StatusOr<sparsity::ScoredPositions> Largest(const DenseSource& dense, size_t tensor,
                                                  int64_t count) {
  sparsity::TopK best(count);
  int64_t position = 0;
  ESPALIER_RETURN_IF_ERROR(dense.Read(tensor, [&](std::span<const float> values) {
    for (const float value : values) best.Offer(position++, value);
  }));
  return best.TakeSorted();
}

}  // namespace

absl::StatusOr<tensor::ModelState> PoolCandidate(const v1::ModelSpec& spec, double density,
                                                 uint64_t seed, int64_t number,
                                                 const DenseSource& dense) {
  ESPALIER_ASSIGN_OR_RETURN(auto layout, wire::LayoutOf(spec));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> counts,
                            Allocation(*layout, density, seed, number));
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout->size());
  std::vector<float> values;
  size_t next = 0;
  for (size_t i = 0; i < layout->size(); ++i) {
    const tensor::TensorSpec& tensor = (*layout)[i];
    const int64_t count = tensor.sparsifiable ? counts[next++] : tensor.size();
    if (count == tensor.size()) {
      ESPALIER_RETURN_IF_ERROR(dense.Read(i, [&](std::span<const float> piece) {
        values.insert(values.end(), piece.begin(), piece.end());
      }));
      continue;
    }
    ESPALIER_ASSIGN_OR_RETURN(const sparsity::ScoredPositions kept, Largest(dense, i, count));
    ESPALIER_ASSIGN_OR_RETURN(
        tensor::Topology topology,
        tensor::Topology::FromPositions(tensor.rows, tensor.cols, kept.positions));
    topologies[i] = std::make_shared<const tensor::Topology>(std::move(topology));
    values.insert(values.end(), kept.values.begin(), kept.values.end());
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology topology,
                            tensor::ModelTopology::Create(layout, std::move(topologies)));
  return tensor::ModelState{std::make_shared<const tensor::ModelTopology>(std::move(topology)),
                            std::move(values)};
}

}  // namespace espalier::server::methods
