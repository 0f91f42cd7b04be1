#include "common/tensor/model_layout.h"

#include <fmt/format.h>

#include <limits>
#include <utility>

#include "common/base/status.h"

namespace espalier::tensor {
namespace {

// Positions up to 2^53 are exact in double, so densities and JSON numbers lose nothing.
constexpr int64_t kMaxPositions = int64_t{1} << 53;
constexpr int64_t kMaxDimension = std::numeric_limits<int32_t>::max() - 1;

}  // namespace

absl::StatusOr<TensorSpec> CheckedTensor(std::string name, std::vector<int64_t> shape) {
  int64_t size = 1;
  for (const int64_t dimension : shape) {
    if (dimension < 1 || dimension > kMaxDimension) {
      return base::InvalidArgument("SHAPE_OUT_OF_RANGE",
                                   fmt::format("{}: dimensions must be between 1 and {}, found {}",
                                               name, kMaxDimension, dimension));
    }
    if (dimension > kMaxPositions / size) {
      return base::InvalidArgument(
          "SHAPE_OUT_OF_RANGE",
          fmt::format("{}: a tensor of {} has more than {} positions; use fewer units", name,
                      fmt::join(shape, " x "), kMaxPositions));
    }
    size *= dimension;
  }
  const int64_t rows = shape[0];
  if (size / rows > kMaxDimension) {
    return base::InvalidArgument(
        "SHAPE_OUT_OF_RANGE",
        fmt::format("{}: a row of {} has more than {} positions; use fewer channels", name,
                    fmt::join(shape, " x "), kMaxDimension));
  }
  return TensorSpec{
      .name = std::move(name), .shape = std::move(shape), .rows = rows, .cols = size / rows};
}

absl::StatusOr<ModelLayout> LinearStackLayout(int64_t input_features,
                                              std::span<const LinearShape> layers) {
  if (layers.empty()) {
    return base::InvalidArgument("NO_LAYERS", "a model needs at least one layer, found none");
  }
  ModelLayout layout;
  int64_t inputs = input_features;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LinearShape& layer = layers[i];
    ESPALIER_ASSIGN_OR_RETURN(TensorSpec weight, CheckedTensor(fmt::format("layers.{}.weight", i),
                                                               {layer.units, inputs}));
    weight.sparsifiable = !layer.dense;
    layout.push_back(std::move(weight));
    if (layer.bias) {
      ESPALIER_ASSIGN_OR_RETURN(TensorSpec bias,
                                CheckedTensor(fmt::format("layers.{}.bias", i), {layer.units}));
      layout.push_back(std::move(bias));
    }
    inputs = layer.units;
  }
  return layout;
}

}  // namespace espalier::tensor
