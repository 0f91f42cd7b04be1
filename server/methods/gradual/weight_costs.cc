#include "server/methods/gradual/weight_costs.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/shapes.h"

namespace espalier::server::methods {
namespace {

using Layers = google::protobuf::RepeatedPtrField<v1::Layer>;

// Appends the output positions of every layer with weights, in layout order.
absl::StatusOr<wire::FeatureShape> Walk(const Layers& layers, wire::FeatureShape shape,
                                        std::vector<int64_t>& positions) {
  for (const v1::Layer& layer : layers) {
    if (layer.has_residual()) {
      const wire::FeatureShape input = shape;
      ESPALIER_ASSIGN_OR_RETURN(shape, Walk(layer.residual().body(), input, positions));
      ESPALIER_RETURN_IF_ERROR(Walk(layer.residual().shortcut(), input, positions).status());
      continue;
    }
    ESPALIER_ASSIGN_OR_RETURN(shape, wire::OutputShape(layer, shape));
    if (layer.has_linear() || layer.has_conv2d()) positions.push_back(shape.positions());
  }
  return shape;
}

}  // namespace

absl::StatusOr<std::vector<double>> WeightCosts(const v1::ModelSpec& spec, double per_weight,
                                                double per_operation) {
  const v1::ModelSpec model = wire::ExplicitModel(spec);
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<wire::ModelTensor> tensors, wire::TensorsOf(model));
  std::vector<int64_t> positions;
  ESPALIER_RETURN_IF_ERROR(Walk(model.layers(), wire::InputShape(model), positions).status());
  std::vector<double> costs;
  size_t next = 0;
  for (const wire::ModelTensor& tensor : tensors) {
    const bool weight = tensor.role == wire::TensorRole::kWeight;
    costs.push_back(weight ? per_weight + per_operation * static_cast<double>(positions[next++])
                           : 0);
  }
  return costs;
}

void CostFit::Add(double cost, double seconds) {
  ++rounds;
  const double from_mean = cost - mean_cost;
  mean_cost += from_mean / static_cast<double>(rounds);
  const double late = seconds - mean_seconds;
  mean_seconds += late / static_cast<double>(rounds);
  squares += from_mean * (cost - mean_cost);
  products += (cost - mean_cost) * late;
}

std::optional<double> CostFit::BaseCost() const {
  if (!(squares > 0) || !(products > 0)) return std::nullopt;
  const double unit = products / squares;
  return std::max(0.0, mean_seconds / unit - mean_cost);
}

}  // namespace espalier::server::methods
