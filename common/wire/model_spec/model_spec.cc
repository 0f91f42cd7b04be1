#include "common/wire/model_spec/model_spec.h"

#include <fmt/core.h>

#include "common/base/status.h"
#include "common/tensor/model_layout.h"

namespace espalier::wire {

absl::StatusOr<std::shared_ptr<const tensor::ModelLayout>> LayoutOf(const v1::ModelSpec& spec) {
  std::vector<tensor::LinearShape> shapes;
  for (int i = 0; i < spec.layers_size(); ++i) {
    if (!spec.layers(i).has_linear()) {
      return base::InvalidArgument(
          "UNKNOWN_LAYER",
          fmt::format("layers[{}]: expected a linear layer, found none; it may need "
                      "a newer version of this program",
                      i));
    }
    const v1::LinearLayer& layer = spec.layers(i).linear();
    shapes.push_back({.units = layer.units(), .dense = layer.dense(), .bias = !layer.no_bias()});
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelLayout layout,
                            tensor::LinearStackLayout(spec.input_features(), shapes));
  return std::make_shared<const tensor::ModelLayout>(std::move(layout));
}

int ValuesPerWeight(const v1::Task& task) {
  const v1::Optimizer& optimizer = task.train().training().optimizer();
  if (optimizer.across_rounds() != v1::Optimizer::ACROSS_ROUNDS_AVERAGE) return 1;
  if (optimizer.kind() == v1::Optimizer::KIND_ADAM) return 3;
  return optimizer.momentum() > 0 ? 2 : 1;
}

}  // namespace espalier::wire
