#include "server/methods/initial_values.h"

#include <algorithm>
#include <cmath>

#include "common/base/check.h"
#include "common/base/rng.h"
#include "common/wire/model_spec/model_spec.h"

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
  const auto tensors = wire::TensorsOf(spec);
  ESPALIER_CHECK(tensors.ok() && tensors->size() == topology.num_tensors(),
                 "the topology has the layout of the spec");
  std::vector<float> values(topology.total_stored(), 0.0f);
  for (size_t tensor = 0; tensor < tensors->size(); ++tensor) {
    const wire::ModelTensor& what = (*tensors)[tensor];
    const int64_t stored = topology.stored(tensor);
    const auto first = values.begin() + topology.offset(tensor);
    if (what.role == wire::TensorRole::kScale || what.role == wire::TensorRole::kRunningVariance) {
      std::fill(first, first + stored, 1.0f);
    }
    if (what.role != wire::TensorRole::kWeight) continue;
    const double deviation = StandardDeviation(what.initializer, what.spec, stored);
    base::Rng rng(base::StreamKey(seed, "init", {tensor}));
    std::generate(first, first + stored,
                  [&] { return static_cast<float>(deviation * rng.Normal()); });
  }
  return values;
}

}  // namespace espalier::server::methods
