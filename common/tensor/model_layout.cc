#include "common/tensor/model_layout.h"

#include <fmt/format.h>

#include <limits>

#include "common/base/status.h"

namespace espalier::tensor {
namespace {

// Positions up to 2^53 are exact in double, so densities and JSON numbers lose nothing.
constexpr int64_t kMaxPositions = int64_t{1} << 53;
constexpr int64_t kMaxDimension = std::numeric_limits<int32_t>::max() - 1;

absl::Status CheckDimension(int64_t value, const std::string& what) {
  if (value >= 1 && value <= kMaxDimension) return absl::OkStatus();
  return base::InvalidArgument(
      "SHAPE_OUT_OF_RANGE",
      fmt::format("{} must be between 1 and {}, found {}", what, kMaxDimension, value));
}

}  // namespace

absl::StatusOr<ModelLayout> LinearStackLayout(int64_t input_features,
                                              std::span<const LinearShape> layers) {
  ESPALIER_RETURN_IF_ERROR(CheckDimension(input_features, "input_features"));
  if (layers.empty()) {
    return base::InvalidArgument("NO_LAYERS", "a model needs at least one layer, found none");
  }
  ModelLayout layout;
  int64_t inputs = input_features;
  for (size_t i = 0; i < layers.size(); ++i) {
    const LinearShape& layer = layers[i];
    ESPALIER_RETURN_IF_ERROR(CheckDimension(layer.units, fmt::format("layers[{}].units", i)));
    if (layer.units > kMaxPositions / inputs) {
      return base::InvalidArgument(
          "SHAPE_OUT_OF_RANGE",
          fmt::format("layers[{}]: a weight of {} x {} has more than {} positions; use fewer units",
                      i, layer.units, inputs, kMaxPositions));
    }
    layout.push_back({.name = fmt::format("layers.{}.weight", i),
                      .shape = {layer.units, inputs},
                      .rows = layer.units,
                      .cols = inputs,
                      .sparsifiable = !layer.dense});
    if (layer.bias) {
      layout.push_back({.name = fmt::format("layers.{}.bias", i),
                        .shape = {layer.units},
                        .rows = layer.units,
                        .cols = 1,
                        .sparsifiable = false});
    }
    inputs = layer.units;
  }
  return layout;
}

}  // namespace espalier::tensor
