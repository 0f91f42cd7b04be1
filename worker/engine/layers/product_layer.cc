#include "worker/engine/layers/product_layer.h"

#include <algorithm>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/activation.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {

ConvShape ProductShape(const LayerSpec& spec, const MapShape& input) {
  if (spec.kind == LayerKind::kLinear) {
    return {
        .in_channels = input.features(), .in_height = 1, .in_width = 1, .out_channels = spec.units};
  }
  return {.in_channels = input.channels,
          .in_height = input.height,
          .in_width = input.width,
          .out_channels = spec.units,
          .kernel = spec.kernel,
          .stride = spec.stride,
          .padding = spec.padding};
}

namespace {

constexpr double kMaxGroup = 64;

absl::Status Validate(const LayerSpec& spec, const ConvShape& s) {
  if (spec.standardize && spec.kind != LayerKind::kConv) {
    return SpecError("only convolutions have standardised weights");
  }
  if (const auto group = spec.options.find(tensor::kGroupOption); group != spec.options.end()) {
    const double kept = spec.options.at(tensor::kKeptOption);
    const double decay = spec.options.at(tensor::kDecayOption);
    const bool valid = kept >= 1 && kept <= group->second && group->second <= kMaxGroup &&
                       decay >= 0 && decay <= 1;
    if (spec.standardize || !valid) {
      return SpecError(fmt::format(
          "a pattern needs 1 ≤ n ≤ m ≤ {} and a decay of 0 to 1, and does not go with standardised "
          "weights; found {}:{} with decay {}",
          kMaxGroup, kept, group->second, decay));
    }
  }
  if (spec.units < 1) {
    return SpecError(fmt::format("units must be at least 1, found {}", spec.units));
  }
  if (!(spec.dropout >= 0 && spec.dropout < 1)) {
    return SpecError(fmt::format("dropout must be in [0, 1), found {}", spec.dropout));
  }
  const bool window = s.kernel >= 1 && (s.stride == 1 || s.stride == 2) && s.padding >= 0 &&
                      s.padding < s.kernel && s.in_height + 2 * s.padding >= s.kernel &&
                      s.in_width + 2 * s.padding >= s.kernel;
  if (window) return absl::OkStatus();
  return SpecError(
      fmt::format("a window of {0} × {0} with stride {1} and padding {2} does not fit {3} × {4}",
                  s.kernel, s.stride, s.padding, s.in_height, s.in_width));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ProductLayer>> ProductLayer::Create(const LayerSpec& spec,
                                                                   const MapShape& input,
                                                                   size_t index,
                                                                   bool input_gradient,
                                                                   BuildContext& context) {
  const ConvShape shape = ProductShape(spec, input);
  ESPALIER_RETURN_IF_ERROR(Validate(spec, shape));
  const MapShape output = {spec.units, shape.out_height(), shape.out_width()};
  std::unique_ptr<ProductLayer> layer(new ProductLayer(spec, input, output, index, context));
  layer->geometry_ = shape;
  ESPALIER_RETURN_IF_ERROR(layer->AddTensors(shape, input_gradient, context));
  return layer;
}

ProductLayer::ProductLayer(const LayerSpec& spec, const MapShape& input, const MapShape& output,
                           size_t index, BuildContext& context)
    : Layer(output, context),
      spec_(spec),
      index_(index),
      input_features_(input.features()),
      dropout_(spec.dropout, context.dropout_scaling, output.features(), context.stride) {}

absl::Status ProductLayer::AddTransform(const ConvShape& shape, BuildContext& context) {
  const tensor::ModelTopology& topology = context.topology;
  transform_ =
      MakeWeightTransform(spec_, topology.shared_topology(weight_tensor_), shape, context.threads);
  if (transform_ == nullptr) return absl::OkStatus();
  own_offset_ = topology.offset(weight_tensor_) + stored_;
  for (const auto& [rows, cols] : transform_->own_tensors()) {
    ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, rows, cols));
    own_size_ += topology.stored(context.next_tensor++);
  }
  workspace().NeedVector(stored_ + own_size_);
  return absl::OkStatus();
}

absl::Status ProductLayer::AddTensors(const ConvShape& shape, bool input_gradient,
                                      BuildContext& context) {
  const tensor::ModelTopology& topology = context.topology;
  ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, shape.out_channels, shape.cols()));
  weight_tensor_ = context.next_tensor++;
  weight_offset_ = topology.offset(weight_tensor_);
  stored_ = topology.stored(weight_tensor_);
  ESPALIER_RETURN_IF_ERROR(AddTransform(shape, context));
  if (spec_.bias) {
    ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, shape.out_channels, 1));
    bias_offset_ = topology.offset(context.next_tensor++);
  }
  const Extent largest = {context.max_batch, WholeLanes(context.max_batch)};
  auto structure = topology.shared_topology(weight_tensor_);
  const bool linear = spec_.kind == LayerKind::kLinear;
  absl::StatusOr<std::unique_ptr<WeightMatrix>> weight =
      linear && structure
          ? MakeSparseMatrix(context.backend, structure, stride(), input_gradient, context.threads)
      : linear ? MakeDenseMatrix(context.backend, shape.out_channels, shape.cols(), stride(),
                                 input_gradient, largest)
      : structure
          ? MakeSparseConvolution(context.backend, structure, shape, stride(), input_gradient)
          : MakeDenseConvolution(context.backend, shape, stride(), input_gradient, largest);
  if (!weight.ok()) return weight.status();
  weight_ = std::move(weight).value();
  workspace().NeedScratch(weight_->scratch());
  workspace().NeedVector(shape.out_channels);
  return absl::OkStatus();
}

void ProductLayer::DrawDropout(const Pass& pass) {
  dropout_.set_active(pass.mode == Mode::kTrain);
  if (!dropout_.active()) return;
  const uint64_t key = base::StreamKey(pass.dropout_key, "dropout", {index_ + 1});
  ParallelRows(threads(), shape().features(), [&](RowRange rows) { dropout_.Draw(key, rows); });
}

void ProductLayer::Forward(const Pass& pass, const float* input) {
  if (pass.observer != nullptr) (*pass.observer)(*this, input);
  DrawDropout(pass);
  float* y = mutable_output();
  const int64_t width = pass.extent.width;
  if (transform_) transform_->Forward(pass.values + weight_offset_, pass.values + own_offset_);
  weight_->Forward(Weights(pass), input, pass.extent, y);
  const float* bias = spec_.bias ? pass.values + bias_offset_ : nullptr;
  ParallelRows(threads(), shape().features(), [&](RowRange rows) {
    BiasActivate(spec_.activation, bias, y, stride(), width, rows, shape().positions());
    dropout_.Apply(y, stride(), width, rows);
  });
  if (spec_.activation == Activation::kSoftmax) {
    Softmax(y, stride(), width, shape().features());
  }
}

void ProductLayer::ToPreactivation(const Pass& pass, float* delta) {
  if (delta_is_of_preactivation_) return;
  const int64_t width = pass.extent.width;
  if (spec_.activation == Activation::kSoftmax) {
    SoftmaxGradient(output(), delta, stride(), width, shape().features());
    return;
  }
  ParallelRows(threads(), shape().features(), [&](RowRange rows) {
    ActivationBackward(spec_.activation, dropout_, delta, width, rows);
  });
}

void ProductLayer::WeightGradient(const Pass& pass, const float* input, const float* delta,
                                  const BackwardTarget& target) {
  if (!transform_) {
    weight_->WeightGradient(delta, input, pass.extent, workspace().scratch(),
                            [&](int64_t first, std::span<const float> gradient) {
                              target.gradients(weight_offset_ + first, gradient);
                            });
    return;
  }
  const std::span<float> weights = workspace().vector().first(stored_);
  const std::span<float> own = workspace().vector().subspan(stored_, own_size_);
  weight_->WeightGradient(delta, input, pass.extent, workspace().scratch(),
                          [&](int64_t first, std::span<const float> gradient) {
                            std::ranges::copy(gradient, weights.begin() + first);
                          });
  transform_->Backward(pass.values + weight_offset_, pass.values + own_offset_, weights, own);
  target.gradients(weight_offset_, weights);
  if (own_size_ > 0) target.gradients(own_offset_, own);
}

void ProductLayer::FullGradient(const float* values, const float* delta, const float* input,
                                int64_t stride, int64_t width, const TileSink& sink) const {
  if (!transform_) return weight_->FullGradient(delta, input, stride, width, sink);
  std::vector<float> changed;
  weight_->FullGradient(delta, input, stride, width, [&](const GradientTile& tile) {
    // Tiles of convolutions have whole rows.
    changed.assign(tile.values.begin(), tile.values.end());
    for (int64_t r = 0; r < tile.rows; ++r) {
      transform_->BackwardAll(tile.row + r, values + weight_offset_, values + own_offset_,
                              std::span(changed).subspan(r * tile.cols, tile.cols));
    }
    GradientTile next = tile;
    next.values = changed;
    sink(next);
  });
}

void ProductLayer::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                            const BackwardTarget& target) {
  ToPreactivation(pass, delta);
  if (input_delta != nullptr) {
    weight_->InputGradient(Weights(pass), delta, pass.extent, input_delta, workspace().scratch());
  }
  if (target.capture) target.capture(*this, delta, input);
  if (target.Wants(weight_offset_) || (own_size_ > 0 && target.Wants(own_offset_))) {
    WeightGradient(pass, input, delta, target);
  }
  if (!spec_.bias || !target.Wants(bias_offset_)) return;
  const std::span<float> gradient = workspace().vector().first(shape().channels);
  ParallelRows(threads(), shape().channels, [&](RowRange channels) {
    BiasGradient(delta, stride(), pass.extent.width, shape().positions(), channels,
                 gradient.data());
  });
  target.gradients(bias_offset_, gradient);
}

}  // namespace espalier::worker::engine
