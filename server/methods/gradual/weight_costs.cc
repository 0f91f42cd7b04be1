#include "server/methods/gradual/weight_costs.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"

namespace espalier::server::methods {

absl::StatusOr<std::vector<double>> WeightCosts(const v1::ModelSpec& spec, double per_weight,
                                                double per_operation) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<wire::ModelTensor> tensors, wire::TensorsOf(spec));
  std::vector<double> costs;
  for (const wire::ModelTensor& tensor : tensors) {
    const bool weight = tensor.role == wire::TensorRole::kWeight;
    costs.push_back(weight ? per_weight + per_operation * static_cast<double>(tensor.positions)
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
