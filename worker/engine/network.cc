#include "worker/engine/network.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/rng.h"
#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/activation.h"
#include "worker/engine/loss.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/parallel.h"
#include "worker/engine/reference/reference_backend.h"

namespace espalier::worker::engine {
namespace {

int64_t RoundUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

absl::Status SpecError(const std::string& message) {
  return base::InvalidArgument("NETWORK_SPEC", message);
}

bool IsProbability(double value) { return value >= 0 && value < 1; }

absl::Status ValidateLayer(const LinearSpec& layer, size_t index, bool last) {
  if (layer.units < 1) {
    return SpecError(
        fmt::format("layer {}: units must be at least 1, found {}", index, layer.units));
  }
  if (!IsProbability(layer.dropout)) {
    return SpecError(
        fmt::format("layer {}: dropout must be in [0, 1), found {}", index, layer.dropout));
  }
  if (last && layer.dropout != 0) {
    return SpecError("the last layer cannot have dropout: set it to 0");
  }
  if (!last && layer.activation == Activation::kSoftmax) {
    return SpecError(fmt::format("layer {}: softmax is for the last layer only", index));
  }
  return absl::OkStatus();
}

absl::Status Validate(const NetworkSpec& spec, int64_t max_batch, int threads) {
  if (spec.input_features < 1 || spec.layers.empty() || max_batch < 1 || threads < 1) {
    return SpecError(
        fmt::format("expected at least 1 input feature, layer, example per batch and thread; found "
                    "{}, {}, {} and {}",
                    spec.input_features, spec.layers.size(), max_batch, threads));
  }
  if (!IsProbability(spec.input_dropout)) {
    return SpecError(fmt::format("input dropout must be in [0, 1), found {}", spec.input_dropout));
  }
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    ESPALIER_RETURN_IF_ERROR(ValidateLayer(spec.layers[i], i, i + 1 == spec.layers.size()));
  }
  const Activation last = spec.layers.back().activation;
  if (spec.loss == Loss::kCrossEntropy && last != Activation::kLinear &&
      last != Activation::kSoftmax) {
    return SpecError("cross-entropy needs a last layer with linear or softmax activation");
  }
  if (spec.loss == Loss::kBinaryCrossEntropy && last != Activation::kSigmoid) {
    return SpecError("binary cross-entropy needs a last layer with sigmoid activation");
  }
  return absl::OkStatus();
}

absl::Status CheckTensor(const tensor::ModelLayout& layout, size_t index, int64_t rows,
                         int64_t cols) {
  if (index >= layout.size() || layout[index].rows != rows || layout[index].cols != cols) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("tensor {} of the model must be {} × {} for this network, found {}", index,
                    rows, cols,
                    index >= layout.size()
                        ? std::string("none")
                        : fmt::format("{} × {}", layout[index].rows, layout[index].cols)));
  }
  return absl::OkStatus();
}

int64_t WidestLayer(const NetworkSpec& spec) {
  return std::ranges::max_element(spec.layers, {}, &LinearSpec::units)->units;
}

}  // namespace

Network::Network(const NetworkSpec& spec, const OptimizerSpec& optimizer,
                 std::shared_ptr<const tensor::ModelTopology> topology, int64_t max_batch,
                 int threads, std::unique_ptr<Backend> backend)
    : spec_(spec),
      topology_(std::move(topology)),
      max_batch_(max_batch),
      stride_((RoundUp(max_batch, kLanes) / kLanes | 1) * kLanes),
      threads_(threads),
      backend_(std::move(backend)),
      values_(topology_->total_stored()),
      optimizer_(optimizer, topology_->total_stored()),
      input_dropout_(spec.input_dropout, spec.dropout_scaling, spec.input_features, stride_),
      delta_(WidestLayer(spec) * stride_),
      previous_delta_(WidestLayer(spec) * stride_),
      bias_gradient_(WidestLayer(spec)) {
  if (input_dropout_.enabled()) input_ = AlignedBuffer(spec_.input_features * stride_);
}

absl::StatusOr<std::unique_ptr<Network>> Network::Create(
    const NetworkSpec& spec, const OptimizerSpec& optimizer,
    std::shared_ptr<const tensor::ModelTopology> topology, int64_t max_batch, int threads,
    BackendKind backend_kind) {
  ESPALIER_RETURN_IF_ERROR(Validate(spec, max_batch, threads));
  ESPALIER_RETURN_IF_ERROR(ValidateOptimizer(optimizer));
  std::unique_ptr<Backend> backend = MakeReferenceBackend();
  if (backend_kind == BackendKind::kOneDnn) {
    ESPALIER_ASSIGN_OR_RETURN(backend, MakeOneDnnBackend(threads));
  }
  std::unique_ptr<Network> network(
      new Network(spec, optimizer, std::move(topology), max_batch, threads, std::move(backend)));
  ESPALIER_RETURN_IF_ERROR(network->AddLayers());
  return network;
}

absl::Status Network::AddLayers() {
  const tensor::ModelLayout& layout = topology_->layout();
  int64_t inputs = spec_.input_features;
  size_t next_tensor = 0;
  int64_t scratch = 0;
  for (const LinearSpec& spec : spec_.layers) {
    Layer layer;
    layer.spec = spec;
    layer.inputs = inputs;
    layer.weight_tensor = next_tensor++;
    ESPALIER_RETURN_IF_ERROR(CheckTensor(layout, layer.weight_tensor, spec.units, inputs));
    layer.weight_offset = topology_->offset(layer.weight_tensor);
    if (spec.bias) {
      ESPALIER_RETURN_IF_ERROR(CheckTensor(layout, next_tensor, spec.units, 1));
      layer.bias_offset = topology_->offset(next_tensor++);
    }
    ESPALIER_RETURN_IF_ERROR(AddWeight(layer));
    layer.output = AlignedBuffer(spec.units * stride_);
    layer.dropout = DropoutMask(spec.dropout, spec_.dropout_scaling, spec.units, stride_);
    scratch = std::max(scratch, layer.weight->scratch());
    inputs = spec.units;
    layers_.push_back(std::move(layer));
  }
  if (next_tensor != layout.size()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("the network has {} tensors, the model {}", next_tensor, layout.size()));
  }
  scratch_ = AlignedBuffer(scratch);
  return absl::OkStatus();
}

absl::Status Network::AddWeight(Layer& layer) {
  const bool input_gradient = !layers_.empty();
  if (topology_->is_sparse(layer.weight_tensor)) {
    ESPALIER_ASSIGN_OR_RETURN(
        layer.weight, MakeSparseMatrix(*backend_, topology_->shared_topology(layer.weight_tensor),
                                       stride_, input_gradient, threads_));
  } else {
    ESPALIER_ASSIGN_OR_RETURN(
        layer.weight, MakeDenseMatrix(*backend_, layer.spec.units, layer.inputs, stride_,
                                      input_gradient, {max_batch_, RoundUp(max_batch_, kLanes)}));
  }
  return absl::OkStatus();
}

absl::Status Network::SetValues(std::span<const float> values) {
  if (static_cast<int64_t>(values.size()) != values_.size()) {
    return base::InvalidArgument("SHAPE_MISMATCH", fmt::format("expected {} values, found {}",
                                                               values_.size(), values.size()));
  }
  std::ranges::copy(values, values_.data());
  optimizer_.Reset();
  return absl::OkStatus();
}

Extent Network::ExtentOf(const Batch& batch) const {
  ESPALIER_CHECK(batch.size >= 1 && batch.size <= max_batch_ && batch.stride == stride_,
                 "batch size or stride does not fit the network");
  return {batch.size, RoundUp(batch.size, kLanes)};
}

void Network::DrawDropout(uint64_t key) {
  const auto draw = [&](DropoutMask& mask, uint64_t index, int64_t rows) {
    mask.set_active(true);
    if (!mask.enabled()) return;
    const uint64_t layer_key = base::StreamKey(key, "dropout", {index});
    ParallelRows(threads_, rows, [&](RowRange range) { mask.Draw(layer_key, range); });
  };
  draw(input_dropout_, 0, spec_.input_features);
  for (size_t i = 0; i < layers_.size(); ++i) {
    draw(layers_[i].dropout, i + 1, layers_[i].spec.units);
  }
}

void Network::DisableDropout() {
  input_dropout_.set_active(false);
  for (Layer& layer : layers_) layer.dropout.set_active(false);
}

const float* Network::InputOf(size_t index, const Batch& batch) const {
  if (index > 0) return layers_[index - 1].output.data();
  return input_dropout_.changes_outputs() ? input_.data() : batch.features;
}

void Network::ApplyInputDropout(const Batch& batch) {
  if (!input_dropout_.changes_outputs()) return;
  ParallelRows(threads_, spec_.input_features, [&](RowRange rows) {
    const int64_t first = rows.begin * stride_;
    std::memcpy(input_.data() + first, batch.features + first,
                (rows.end - rows.begin) * stride_ * sizeof(float));
    input_dropout_.Apply(input_.data(), stride_, ExtentOf(batch).width, rows);
  });
}

void Network::Forward(const Batch& batch) {
  const Extent extent = ExtentOf(batch);
  ApplyInputDropout(batch);
  for (size_t i = 0; i < layers_.size(); ++i) {
    Layer& layer = layers_[i];
    float* y = layer.output.data();
    layer.weight->Forward(values_.data() + layer.weight_offset, InputOf(i, batch), extent, y);
    const float* bias = layer.spec.bias ? values_.data() + layer.bias_offset : nullptr;
    ParallelRows(threads_, layer.spec.units, [&](RowRange rows) {
      BiasActivate(layer.spec.activation, bias, y, stride_, extent.width, rows);
      layer.dropout.Apply(y, stride_, extent.width, rows);
    });
    if (layer.spec.activation == Activation::kSoftmax) {
      Softmax(y, stride_, extent.width, layer.spec.units);
    }
  }
}

BatchResult Network::LossOf(const Batch& batch, float* delta) const {
  const Layer& last = layers_.back();
  return ComputeLoss(spec_.loss, last.spec.activation, last.output.data(), batch.labels,
                     last.spec.units, stride_, ExtentOf(batch).width, batch.size, delta);
}

void Network::PreactivationGradient(const Layer& layer, Extent extent, float* delta) const {
  const bool last = &layer == &layers_.back();
  // ComputeLoss() has been through the softmax or sigmoid of a cross-entropy already.
  if (last && spec_.loss != Loss::kMeanSquaredError) return;
  if (layer.spec.activation == Activation::kSoftmax) {
    SoftmaxGradient(layer.output.data(), delta, stride_, extent.width, layer.spec.units);
    return;
  }
  ParallelRows(threads_, layer.spec.units, [&](RowRange rows) {
    ActivationGradient(layer.spec.activation, layer.dropout, layer.output.data(), delta, stride_,
                       extent.width, rows);
  });
}

void Network::UpdateTensor(int64_t offset, std::span<const float> gradient) {
  ParallelRows(threads_, static_cast<int64_t>(gradient.size()), [&](RowRange range) {
    optimizer_.Update(gradient.subspan(range.begin, range.end - range.begin), offset + range.begin,
                      values_.data());
  });
}

BatchResult Network::Backward(const Batch& batch, const LayerVisitor& visit) {
  const Extent extent = ExtentOf(batch);
  const BatchResult result = LossOf(batch, delta_.data());
  for (size_t i = layers_.size(); i-- > 0;) {
    PreactivationGradient(layers_[i], extent, delta_.data());
    if (i > 0) {
      layers_[i].weight->InputGradient(values_.data() + layers_[i].weight_offset, delta_.data(),
                                       extent, previous_delta_.data(), scratch_.data());
    }
    visit(i, delta_.data(), InputOf(i, batch));
    std::swap(delta_, previous_delta_);
  }
  return result;
}

void Network::LayerGradients(const Layer& layer, const float* delta, const float* input,
                             Extent extent, const GradientSink& sink) {
  layer.weight->WeightGradient(delta, input, extent, scratch_.data(),
                               [&](int64_t first, std::span<const float> gradient) {
                                 sink(layer.weight_offset + first, gradient);
                               });
  if (!layer.spec.bias) return;
  ParallelRows(threads_, layer.spec.units, [&](RowRange rows) {
    BiasGradient(delta, stride_, extent.width, rows, bias_gradient_.data());
  });
  sink(layer.bias_offset, bias_gradient_.span().first(layer.spec.units));
}

BatchResult Network::Train(const Batch& batch, double learning_rate, uint64_t dropout_key) {
  DrawDropout(dropout_key);
  Forward(batch);
  optimizer_.BeginStep(learning_rate);
  const auto update = [&](int64_t offset, std::span<const float> gradient) {
    UpdateTensor(offset, gradient);
  };
  const BatchResult result =
      Backward(batch, [&](size_t layer, const float* delta, const float* input) {
        LayerGradients(layers_[layer], delta, input, ExtentOf(batch), update);
      });
  DisableDropout();
  return result;
}

BatchResult Network::Evaluate(const Batch& batch) {
  Forward(batch);
  return LossOf(batch, nullptr);
}

BatchResult Network::Gradients(const Batch& batch, std::span<float> gradients) {
  ESPALIER_CHECK(static_cast<int64_t>(gradients.size()) == values_.size(),
                 "gradients must be as long as the values");
  const auto store = [&](int64_t offset, std::span<const float> gradient) {
    std::ranges::copy(gradient, gradients.begin() + offset);
  };
  Forward(batch);
  return Backward(batch, [&](size_t layer, const float* delta, const float* input) {
    LayerGradients(layers_[layer], delta, input, ExtentOf(batch), store);
  });
}

}  // namespace espalier::worker::engine
