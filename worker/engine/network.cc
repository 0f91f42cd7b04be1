#include "worker/engine/network.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/base/check.h"
#include "common/base/rng.h"
#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/input_noise.h"
#include "worker/engine/layers/product_layer.h"
#include "worker/engine/loss.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/parallel.h"
#include "worker/engine/reference/reference_backend.h"

namespace espalier::worker::engine {
namespace {

absl::Status ValidateLast(const NetworkSpec& spec) {
  const LayerSpec& last = spec.layers.back();
  const auto weights = static_cast<int64_t>(spec.loss_options.class_weights.size());
  if (weights != 0 && (last.kind != LayerKind::kLinear || weights != last.units)) {
    return SpecError(
        fmt::format("expected a weight for each class of the last linear layer, found "
                    "{}",
                    weights));
  }
  if (last.kind == LayerKind::kTiedOutput && spec.loss == Loss::kCrossEntropy) {
    return absl::OkStatus();
  }
  if (last.kind != LayerKind::kLinear) return SpecError("the last layer must be linear");
  if (last.dropout != 0) return SpecError("the last layer cannot have dropout: set it to 0");
  if (spec.loss == Loss::kCrossEntropy && last.activation != Activation::kLinear &&
      last.activation != Activation::kSoftmax) {
    return SpecError("cross-entropy needs a last layer with linear or softmax activation");
  }
  if (spec.loss == Loss::kBinaryCrossEntropy && last.activation != Activation::kSigmoid) {
    return SpecError("binary cross-entropy needs a last layer with sigmoid activation");
  }
  return absl::OkStatus();
}

absl::Status RefuseSoftmax(std::span<const LayerSpec> layers) {
  for (const LayerSpec& layer : layers) {
    if (layer.activation == Activation::kSoftmax) {
      return SpecError("softmax is for the last layer only");
    }
    ESPALIER_RETURN_IF_ERROR(RefuseSoftmax(layer.body));
    ESPALIER_RETURN_IF_ERROR(RefuseSoftmax(layer.shortcut));
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
  if (spec.sequence < 1 || max_batch % spec.sequence != 0) {
    return SpecError(fmt::format("a batch of {} tokens does not hold whole sequences of {}",
                                 max_batch, spec.sequence));
  }
  if (!(spec.input_noise >= 0 && std::isfinite(spec.input_noise))) {
    return SpecError(fmt::format("input noise must be at least 0, found {}", spec.input_noise));
  }
  if (!(spec.input_dropout >= 0 && spec.input_dropout < 1)) {
    return SpecError(fmt::format("input dropout must be in [0, 1), found {}", spec.input_dropout));
  }
  if (!(spec.activation_pruning >= 0 && spec.activation_pruning < 1)) {
    return SpecError(
        fmt::format("activation pruning must be in [0, 1), found {}", spec.activation_pruning));
  }
  if (spec.input_image.channels > 0 && spec.input_image.features() != spec.input_features) {
    return SpecError(fmt::format("an image of {} values is not one of {} features",
                                 spec.input_image.features(), spec.input_features));
  }
  ESPALIER_RETURN_IF_ERROR(RefuseSoftmax(std::span(spec.layers).first(spec.layers.size() - 1)));
  return ValidateLast(spec);
}

}  // namespace

absl::Status SpecError(const std::string& message) {
  return base::InvalidArgument("NETWORK_SPEC", message);
}

absl::Status CheckNextTensor(const BuildContext& context, int64_t rows, int64_t cols) {
  const tensor::ModelLayout& layout = context.topology.layout();
  const size_t index = context.next_tensor;
  if (index < layout.size() && layout[index].rows == rows && layout[index].cols == cols) {
    return absl::OkStatus();
  }
  return base::InvalidArgument(
      "SHAPE_MISMATCH",
      fmt::format(
          "tensor {} of the model must be {} × {} for this network, found {}", index, rows, cols,
          index >= layout.size() ? std::string("none")
                                 : fmt::format("{} × {}", layout[index].rows, layout[index].cols)));
}

Network::Network(const NetworkSpec& spec, const OptimizerSpec& optimizer,
                 std::shared_ptr<const tensor::ModelTopology> topology, int64_t max_batch,
                 int threads, std::unique_ptr<Backend> backend)
    : spec_(spec),
      topology_(std::move(topology)),
      max_batch_(max_batch),
      stride_(PaddedStride(max_batch)),
      threads_(threads),
      backend_(std::move(backend)),
      values_(topology_->total_stored()),
      optimizer_(optimizer, topology_->total_stored()),
      input_dropout_(spec.input_dropout, spec.dropout_scaling, spec.input_features, stride_) {
  if (input_dropout_.enabled() || spec_.input_noise > 0)
    input_ = AlignedBuffer(spec_.input_features * stride_);
}

absl::StatusOr<std::unique_ptr<Network>> Network::Create(
    const NetworkSpec& spec, const OptimizerSpec& optimizer,
    std::shared_ptr<const tensor::ModelTopology> topology, int64_t max_batch, int threads,
    BackendKind backend_kind) {
  ESPALIER_RETURN_IF_ERROR(Validate(spec, max_batch, threads));
  ESPALIER_RETURN_IF_ERROR(ValidateOptimizer(optimizer));
  std::unique_ptr<Backend> backend =
      backend_kind == BackendKind::kOneDnn ? MakeOneDnnBackend(threads) : MakeReferenceBackend();
  std::unique_ptr<Network> network(
      new Network(spec, optimizer, std::move(topology), max_batch, threads, std::move(backend)));
  ESPALIER_RETURN_IF_ERROR(network->AddLayers());
  return network;
}

absl::Status Network::AddLayers() {
  BuildContext context = {.topology = *topology_,
                          .backend = *backend_,
                          .workspace = workspace_,
                          .max_batch = max_batch_,
                          .stride = stride_,
                          .threads = threads_,
                          .dropout_scaling = spec_.dropout_scaling,
                          .activation_pruning = spec_.activation_pruning,
                          .sequence = spec_.sequence};
  const MapShape input = spec_.input_image.channels > 0
                             ? spec_.input_image
                             : MapShape{.channels = spec_.input_features};
  ESPALIER_ASSIGN_OR_RETURN(layers_, Chain::Create(spec_.layers, input, false, context));
  if (context.next_tensor != topology_->num_tensors()) {
    return base::InvalidArgument("SHAPE_MISMATCH",
                                 fmt::format("the network has {} tensors, the model {}",
                                             context.next_tensor, topology_->num_tensors()));
  }
  layers_->back().PlanOutput(OutputUse::kExact);
  workspace_.Allocate();
  const bool linear = spec_.layers.back().kind == LayerKind::kLinear;
  const bool entropy = spec_.loss == Loss::kCrossEntropy || spec_.loss == Loss::kBinaryCrossEntropy;
  if (linear && entropy) {
    static_cast<ProductLayer&>(layers_->back()).set_delta_is_of_preactivation();
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
  penalized_.clear();
  return absl::OkStatus();
}

absl::Status Network::Restructure(std::shared_ptr<const tensor::ModelTopology> updated) {
  layers_.reset();
  workspace_ = Workspace();
  tensor::ModelState model = {
      topology_, {values_.data(), values_.data() + values_.size()}, optimizer_.state()};
  model = tensor::Relayout(model, updated);
  topology_ = std::move(updated);
  values_ = AlignedBuffer(topology_->total_stored());
  std::ranges::copy(model.values, values_.data());
  const int64_t steps = optimizer_.steps();
  optimizer_ = Optimizer(optimizer_.spec(), topology_->total_stored());
  ESPALIER_RETURN_IF_ERROR(optimizer_.Resume(model.optimizer_state, steps));
  FindFrozen();
  return AddLayers();
}

Extent Network::ExtentOf(const Batch& batch) const {
  ESPALIER_CHECK(batch.size >= 1 && batch.size <= max_batch_ && batch.stride == stride_ &&
                     batch.size % spec_.sequence == 0,
                 "batch size or stride does not fit the network");
  return {batch.size, WholeLanes(batch.size)};
}

Pass Network::PassOver(const Batch& batch, Mode mode, uint64_t dropout_key) {
  return {.mode = mode,
          .extent = ExtentOf(batch),
          .dropout_key = dropout_key,
          .values = values_.data()};
}

const float* Network::InputOf(const Pass& pass, const Batch& batch) {
  input_dropout_.set_active(pass.mode == Mode::kTrain);
  const double noise = pass.mode == Mode::kTrain ? spec_.input_noise : 0;
  if (!input_dropout_.changes_outputs() && noise == 0) return batch.features;
  const uint64_t key = base::StreamKey(pass.dropout_key, "dropout", {0});
  const uint64_t noise_key = base::StreamKey(pass.dropout_key, "input-noise", {});
  ParallelRows(threads_, spec_.input_features, [&](RowRange rows) {
    const int64_t first = rows.begin * stride_;
    if (input_dropout_.active()) input_dropout_.Draw(key, rows);
    std::memcpy(input_.data() + first, batch.features + first,
                (rows.end - rows.begin) * stride_ * sizeof(float));
    if (noise > 0) {
      AddNoise(noise, noise_key, rows, pass.extent.size, stride_, input_.data());
    }
    input_dropout_.Apply(input_.data(), stride_, pass.extent.width, rows);
  });
  return input_.data();
}

BatchResult Network::LossOf(const Batch& batch, float* delta) const {
  const LayerSpec& last = spec_.layers.back();
  const Activation activation =
      last.kind == LayerKind::kLinear ? last.activation : Activation::kLinear;
  return ComputeLoss({spec_.loss, activation, spec_.loss_options}, layers_->back().output(), batch,
                     layers_->shape().features(), ExtentOf(batch).width, delta);
}

BatchResult Network::Learn(const Pass& pass, const Batch& batch, const BackwardTarget& target) {
  const float* input = InputOf(pass, batch);
  layers_->Forward(pass, input);
  Workspace::Lease delta(workspace_);
  const BatchResult result = LossOf(batch, delta.data());
  layers_->Backward(pass, input, delta.data(), nullptr, target);
  return result;
}

void Network::SetPenalty(std::vector<int64_t> values, double factor) {
  penalized_ = std::move(values);
  penalty_factor_ = static_cast<float>(factor);
}

void Network::SetFrozen(std::vector<bool> tensors) {
  frozen_ = std::move(tensors);
  FindFrozen();
}

void Network::FindFrozen() {
  frozen_begins_.clear();
  frozen_ends_.clear();
  for (size_t i = 0; i < frozen_.size(); ++i) {
    const int64_t stored = topology_->stored(i);
    if (!frozen_[i] || stored == 0) continue;
    frozen_begins_.push_back(topology_->offset(i));
    frozen_ends_.push_back(topology_->offset(i) + stored);
  }
}

double Network::PenalizedNorm() const {
  double sum = 0;
  for (const int64_t index : penalized_) {
    sum += static_cast<double>(values_.data()[index]) * values_.data()[index];
  }
  return std::sqrt(sum);
}

std::span<const float> Network::WithPenalty(int64_t offset, std::span<const float> gradient) {
  auto next = std::ranges::lower_bound(penalized_, offset);
  const int64_t end = offset + static_cast<int64_t>(gradient.size());
  if (next == penalized_.end() || *next >= end) return gradient;
  with_penalty_.assign(gradient.begin(), gradient.end());
  for (; next != penalized_.end() && *next < end; ++next) {
    with_penalty_[*next - offset] += penalty_factor_ * values_.data()[*next];
  }
  return with_penalty_;
}

bool Network::IsFrozen(int64_t offset) const {
  const auto next = std::ranges::upper_bound(frozen_begins_, offset);
  return next != frozen_begins_.begin() && offset < frozen_ends_[next - frozen_begins_.begin() - 1];
}

void Network::UpdateTensor(int64_t offset, std::span<const float> gradient) {
  if (IsFrozen(offset)) return;
  gradient = WithPenalty(offset, gradient);
  ParallelRows(threads_, static_cast<int64_t>(gradient.size()), [&](RowRange range) {
    optimizer_.Update(gradient.subspan(range.begin, range.end - range.begin), offset + range.begin,
                      values_.data());
  });
}

BatchResult Network::Train(const Batch& batch, double learning_rate, uint64_t dropout_key) {
  optimizer_.BeginStep(learning_rate);
  const auto update = [&](int64_t offset, std::span<const float> gradient) {
    UpdateTensor(offset, gradient);
  };
  return Learn(PassOver(batch, Mode::kTrain, dropout_key), batch,
               {.gradients = update, .unwanted = frozen_begins_});
}

void Network::Calibrate(const Batch& batch, std::optional<double> weight) {
  Pass pass = PassOver(batch, Mode::kCalibrate);
  pass.momentum = weight;
  layers_->Forward(pass, InputOf(pass, batch));
}

BatchResult Network::Evaluate(const Batch& batch) {
  const Pass pass = PassOver(batch, Mode::kEvaluate);
  layers_->Forward(pass, InputOf(pass, batch));
  return LossOf(batch, nullptr);
}

void Network::Predict(const Batch& batch, std::span<const int64_t> columns,
                      std::span<float> outputs) {
  ESPALIER_CHECK(outputs.size() == columns.size() * static_cast<size_t>(this->outputs()),
                 "an entry for each output of each column");
  const Pass pass = PassOver(batch, Mode::kEvaluate);
  layers_->Forward(pass, InputOf(pass, batch));
  const LayerSpec& last = spec_.layers.back();
  const bool logits = spec_.loss == Loss::kCrossEntropy &&
                      (last.kind != LayerKind::kLinear || last.activation != Activation::kSoftmax);
  float* to = outputs.data();
  for (const int64_t column : columns) {
    ESPALIER_CHECK(column >= 0 && column < batch.size, "a column of the batch");
    CopyOutputs(layers_->back().output() + column, this->outputs(), stride_, logits, to);
    to += this->outputs();
  }
}

BatchResult Network::Gradients(const Batch& batch, std::span<float> gradients) {
  ESPALIER_CHECK(static_cast<int64_t>(gradients.size()) == values_.size(),
                 "gradients must be as long as the values");
  std::ranges::fill(gradients, 0.0F);
  const auto store = [&](int64_t offset, std::span<const float> gradient) {
    std::ranges::copy(gradient, gradients.begin() + offset);
  };
  return Learn(PassOver(batch, Mode::kGradient), batch, {.gradients = store});
}

}  // namespace espalier::worker::engine
