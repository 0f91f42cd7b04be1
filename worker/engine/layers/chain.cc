#include "worker/engine/layers/chain.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/layers/attention_layer.h"
#include "worker/engine/layers/batch_norm.h"
#include "worker/engine/layers/embedding.h"
#include "worker/engine/layers/gelu.h"
#include "worker/engine/layers/norm_layer.h"
#include "worker/engine/layers/pooling.h"
#include "worker/engine/layers/product_layer.h"
#include "worker/engine/layers/residual.h"
#include "worker/engine/layers/swiglu.h"

namespace espalier::worker::engine {
namespace {

absl::StatusOr<std::unique_ptr<Layer>> MakeLayer(const LayerSpec& spec, const MapShape& input,
                                                 size_t index, bool input_gradient,
                                                 BuildContext& context) {
  switch (spec.kind) {
    case LayerKind::kLinear:
    case LayerKind::kConv:
      return ProductLayer::Create(spec, input, index, input_gradient, context);
    case LayerKind::kBatchNorm:
      return BatchNorm::Create(spec, input, context);
    case LayerKind::kResidual:
      return Residual::Create(spec, input, input_gradient, context);
    case LayerKind::kEmbedding:
      return Embedding::Create(spec, input, context);
    case LayerKind::kTiedOutput:
      return TiedOutput::Create(input, context);
    case LayerKind::kPositions:
      return LearnedPositions::Create(spec, input, context);
    case LayerKind::kRmsNorm:
    case LayerKind::kLayerNorm:
      return NormLayer::Create(spec, input, context);
    case LayerKind::kAttention:
      return AttentionLayer::Create(spec, input, index, context);
    case LayerKind::kSwiGlu:
      return SwiGluLayer::Create(spec, input, index, context);
    case LayerKind::kGelu:
    case LayerKind::kGeluTanh:
      return std::make_unique<GeluLayer>(spec, input, context);
    default:
      return MakePooling(spec, input, context);
  }
}

}  // namespace

absl::StatusOr<Chain> Chain::Create(std::span<const LayerSpec> specs, const MapShape& input,
                                    bool input_gradient, BuildContext& context) {
  Chain chain(context.workspace);
  chain.shape_ = input;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].kind == LayerKind::kFlatten) {
      // Features are stored in the order of the image: nothing moves.
      chain.shape_ = {.channels = chain.shape_.features()};
      continue;
    }
    const bool wanted = input_gradient || !chain.empty();
    auto layer = MakeLayer(specs[i], chain.shape_, i, wanted, context);
    if (!layer.ok()) return base::Annotate(layer.status(), fmt::format("layer {}", i));
    if (!chain.empty()) chain.back().PlanOutput((*layer)->input_use());
    chain.shape_ = (*layer)->shape();
    chain.layers_.push_back(std::move(layer).value());
  }
  return chain;
}

void Chain::Forward(const Pass& pass, const float* input) {
  for (size_t i = 0; i < layers_.size(); ++i) {
    layers_[i]->Forward(pass, input);
    if (i > 0) layers_[i - 1]->Release(pass);
    input = layers_[i]->output();
  }
}

void Chain::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                     const BackwardTarget& target) {
  std::optional<Workspace::Lease> lease;
  if (layers_.size() > 1) lease.emplace(*workspace_);
  float* next = lease ? lease->data() : nullptr;
  for (size_t i = layers_.size(); i-- > 0;) {
    const float* layer_input = i > 0 ? layers_[i - 1]->Restore() : input;
    layers_[i]->Backward(pass, layer_input, delta, i > 0 ? next : input_delta, target);
    if (i > 0) layers_[i - 1]->Release();
    std::swap(delta, next);
  }
}

int64_t Chain::ActivationBytes() const {
  int64_t bytes = 0;
  for (const auto& layer : layers_) bytes += layer->ActivationBytes();
  return bytes;
}

void Chain::CollectProducts(std::vector<const ProductLayer*>& products) const {
  for (const auto& layer : layers_) layer->CollectProducts(products);
}

}  // namespace espalier::worker::engine
