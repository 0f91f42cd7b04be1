#include "common/wire/model_spec/shapes.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/base/status.h"
#include "common/wire/model_spec/layer_descriptor.h"

namespace espalier::wire {
namespace {

// Adds what `layers` give out; `shape` becomes that of the last one.
void AddOutputs(const Layers& layers, FeatureShape& shape, Outputs& outputs) {
  for (const v1::Layer& layer : layers) {
    const auto kind = KindOf(layer);
    if (!kind.ok()) return;
    for (const Branch& branch : (*kind)->Branches(layer)) {
      FeatureShape inside = shape;
      AddOutputs(*branch.layers, inside, outputs);
    }
    const auto next = (*kind)->OutputShape(layer, shape);
    if (!next.ok()) return;
    shape = *next;
    const auto values = static_cast<double>(shape.features());
    outputs.total += values;
    outputs.widest = std::max(outputs.widest, values);
  }
}

}  // namespace

absl::Status ShapeError(const std::string& message) {
  return base::InvalidArgument("LAYER_SHAPE", message);
}

std::string ToText(const FeatureShape& shape) {
  if (!shape.image) return fmt::format("{} features", shape.features());
  return fmt::format("{} × {} × {}", shape.channels, shape.height, shape.width);
}

FeatureShape InputShape(const v1::ModelSpec& spec) {
  if (!spec.has_input_image()) return {.channels = spec.input_features()};
  const v1::ImageShape& image = spec.input_image();
  return {.channels = image.channels(),
          .height = image.height(),
          .width = image.width(),
          .image = true};
}

absl::Status CheckInput(const FeatureShape& input) {
  int64_t features = 1;
  for (const int64_t side : {input.channels, input.height, input.width}) {
    if (side < 1 || side > kMaxFeatures / features) {
      return ShapeError(fmt::format("expected examples of 1 to {} features, found {} × {} × {}",
                                    kMaxFeatures, input.channels, input.height, input.width));
    }
    features *= side;
  }
  return absl::OkStatus();
}

absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& layer, const FeatureShape& input) {
  ESPALIER_ASSIGN_OR_RETURN(const LayerDescriptor* kind, KindOf(layer));
  return kind->OutputShape(layer, input);
}

Outputs OutputsOf(const v1::ModelSpec& spec) {
  Outputs outputs;
  FeatureShape shape = InputShape(spec);
  AddOutputs(spec.layers(), shape, outputs);
  return outputs;
}

namespace {

bool NormalizesSingleValues(const Layers& layers, FeatureShape shape) {
  for (const v1::Layer& layer : layers) {
    const auto kind = KindOf(layer);
    if (!kind.ok()) return false;
    if ((*kind)->normalizes_batches() && shape.positions() == 1) return true;
    for (const Branch& branch : (*kind)->Branches(layer)) {
      if (NormalizesSingleValues(*branch.layers, shape)) return true;
    }
    const auto next = (*kind)->OutputShape(layer, shape);
    if (!next.ok()) return false;
    shape = *next;
  }
  return false;
}

}  // namespace

bool NormalizesSingleValues(const v1::ModelSpec& model) {
  return NormalizesSingleValues(model.layers(), InputShape(model));
}

}  // namespace espalier::wire
