#include "common/wire/model_spec/shapes.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>

#include "common/base/status.h"

namespace espalier::wire {
namespace {

constexpr int64_t kMaxFeatures = std::numeric_limits<int32_t>::max() - 1;
constexpr int64_t kDefaultKernel = 3;
constexpr int64_t kDefaultPool = 2;

absl::Status ShapeError(const std::string& message) {
  return base::InvalidArgument("LAYER_SHAPE", message);
}

absl::Status NeedsImage(const FeatureShape& input) {
  if (input.image) return absl::OkStatus();
  return ShapeError(
      fmt::format("expected an image to work on, found {}; set model.input_image {{channels, "
                  "height, width}}, and put linear and flatten layers after this one",
                  ToText(input)));
}

absl::StatusOr<FeatureShape> Slide(const Window& window, int64_t channels,
                                   const FeatureShape& input) {
  ESPALIER_RETURN_IF_ERROR(NeedsImage(input));
  if (window.kernel < 1 || window.stride < 1 || window.padding < 0 || channels < 1) {
    return ShapeError(
        fmt::format("expected a window of at least 1 with a stride of at least 1, padding of at "
                    "least 0 and channels, found {}, {}, {} and {}",
                    window.kernel, window.stride, window.padding, channels));
  }
  const int64_t height = input.height + 2 * window.padding - window.kernel;
  const int64_t width = input.width + 2 * window.padding - window.kernel;
  if (height < 0 || width < 0) {
    return ShapeError(
        fmt::format("a window of {0} × {0} with padding {1} does not fit the {2} × {3} positions "
                    "that are left here; use a smaller kernel, fewer strides before it, or a "
                    "larger image",
                    window.kernel, window.padding, input.height, input.width));
  }
  const FeatureShape output = {.channels = channels,
                               .height = height / window.stride + 1,
                               .width = width / window.stride + 1,
                               .image = true};
  if (output.channels > kMaxFeatures / output.positions()) {
    return ShapeError(fmt::format("an output of {} has more than {} features; use fewer channels",
                                  ToText(output), kMaxFeatures));
  }
  return output;
}

absl::StatusOr<FeatureShape> Through(const google::protobuf::RepeatedPtrField<v1::Layer>& layers,
                                     FeatureShape shape) {
  for (const v1::Layer& layer : layers) {
    ESPALIER_ASSIGN_OR_RETURN(shape, OutputShape(layer, shape));
  }
  return shape;
}

// Adds what `layers` give out; `shape` becomes that of the last one.
void AddOutputs(const google::protobuf::RepeatedPtrField<v1::Layer>& layers, FeatureShape& shape,
                Outputs& outputs) {
  for (const v1::Layer& layer : layers) {
    FeatureShape body = shape;
    FeatureShape shortcut = shape;
    AddOutputs(layer.residual().body(), body, outputs);
    AddOutputs(layer.residual().shortcut(), shortcut, outputs);
    const auto next = OutputShape(layer, shape);
    if (!next.ok()) return;
    shape = *next;
    const auto values = static_cast<double>(shape.features());
    outputs.total += values;
    outputs.widest = std::max(outputs.widest, values);
  }
}

}  // namespace

std::string ToText(const FeatureShape& shape) {
  if (!shape.image) return fmt::format("{} features", shape.features());
  return fmt::format("{} × {} × {}", shape.channels, shape.height, shape.width);
}

Window WindowOf(const v1::Conv2dLayer& layer) {
  const int64_t kernel = layer.kernel() == 0 ? kDefaultKernel : layer.kernel();
  return {.kernel = kernel,
          .stride = layer.stride() == 0 ? 1 : layer.stride(),
          .padding = layer.has_padding() ? layer.padding() : kernel / 2};
}

Window WindowOf(const v1::PoolLayer& layer) {
  const int64_t kernel = layer.kernel() == 0 ? kDefaultPool : layer.kernel();
  return {.kernel = kernel, .stride = layer.stride() == 0 ? kernel : layer.stride(), .padding = 0};
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
  switch (layer.kind_case()) {
    case v1::Layer::kLinear:
      return FeatureShape{.channels = layer.linear().units()};
    case v1::Layer::kConv2D:
      return Slide(WindowOf(layer.conv2d()), layer.conv2d().channels(), input);
    case v1::Layer::kBatchNorm:
      return input;
    case v1::Layer::kMaxPool:
      return Slide(WindowOf(layer.max_pool()), input.channels, input);
    case v1::Layer::kAvgPool:
      return Slide(WindowOf(layer.avg_pool()), input.channels, input);
    case v1::Layer::kGlobalAvgPool:
      ESPALIER_RETURN_IF_ERROR(NeedsImage(input));
      return FeatureShape{.channels = input.channels, .image = true};
    case v1::Layer::kFlatten:
      return FeatureShape{.channels = input.features()};
    case v1::Layer::kResidual: {
      ESPALIER_ASSIGN_OR_RETURN(const FeatureShape body, Through(layer.residual().body(), input));
      ESPALIER_ASSIGN_OR_RETURN(const FeatureShape shortcut,
                                Through(layer.residual().shortcut(), input));
      ESPALIER_RETURN_IF_ERROR(CheckBranches(body, shortcut));
      return body;
    }
    case v1::Layer::KIND_NOT_SET:
      break;
  }
  return base::InvalidArgument(
      "UNKNOWN_LAYER",
      "expected a layer of a kind, found none; it may need a newer version of this program");
}

Outputs OutputsOf(const v1::ModelSpec& spec) {
  Outputs outputs;
  FeatureShape shape = InputShape(spec);
  AddOutputs(spec.layers(), shape, outputs);
  return outputs;
}

absl::Status CheckBranches(const FeatureShape& body, const FeatureShape& shortcut) {
  if (body == shortcut) return absl::OkStatus();
  return ShapeError(
      fmt::format("the body gives {}, the shortcut {}, and they are added; end the shortcut with a "
                  "conv2d of {} channels, kernel 1 and the body's stride",
                  ToText(body), ToText(shortcut), body.channels));
}

namespace {

bool NormalizesSingleValues(const google::protobuf::RepeatedPtrField<v1::Layer>& layers,
                            FeatureShape shape) {
  for (const v1::Layer& layer : layers) {
    if (layer.has_batch_norm() && shape.positions() == 1) return true;
    if (NormalizesSingleValues(layer.residual().body(), shape) ||
        NormalizesSingleValues(layer.residual().shortcut(), shape)) {
      return true;
    }
    const auto next = OutputShape(layer, shape);
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
