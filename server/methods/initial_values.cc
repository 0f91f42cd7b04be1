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
    case v1::INITIALIZER_GLOROT:
    case v1::INITIALIZER_UNSPECIFIED:  // of recommenders and transformers
      return std::sqrt(2 / (fan_in + fan_out));
    default:
      break;
  }
  ESPALIER_CHECK(false, "the job's validator knows all initializers");
}

}  // namespace

InitialStream::InitialStream(const wire::ModelTensor& what, size_t tensor, int64_t stored,
                             uint64_t seed)
    : rng_(base::StreamKey(seed, "init", {tensor})) {
  if (what.role == wire::TensorRole::kScale) constant_ = static_cast<float>(what.gain);
  if (what.role == wire::TensorRole::kRunningVariance) constant_ = 1.0F;
  if (what.role == wire::TensorRole::kWeight) {
    deviation_ = what.deviation > 0 ? what.deviation
                                    : StandardDeviation(what.initializer, what.spec, stored);
  }
}

float InitialStream::Next() {
  return deviation_ > 0 ? static_cast<float>(deviation_ * rng_.Normal()) : constant_;
}

std::vector<float> InitialValues(const v1::ModelSpec& spec, const tensor::ModelTopology& topology,
                                 uint64_t seed) {
  const auto tensors = wire::TensorsOf(spec);
  ESPALIER_CHECK(tensors.ok() && tensors->size() == topology.num_tensors(),
                 "the topology has the layout of the spec");
  std::vector<float> values(topology.total_stored());
  for (size_t tensor = 0; tensor < tensors->size(); ++tensor) {
    InitialStream stream((*tensors)[tensor], tensor, topology.stored(tensor), seed);
    const auto first = values.begin() + topology.offset(tensor);
    std::generate(first, first + topology.stored(tensor), [&] { return stream.Next(); });
  }
  return values;
}

}  // namespace espalier::server::methods
