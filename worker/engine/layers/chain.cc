#include "worker/engine/layers/chain.h"

#include <optional>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {

absl::StatusOr<Chain> Chain::Create(std::span<const LayerSpec> specs, const MapShape& input,
                                    bool input_gradient, BuildContext& context) {
  Chain chain(context.workspace);
  chain.shape_ = input;
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto at = [&](const absl::Status& status) {
      return base::Annotate(status, fmt::format("layer {}", i));
    };
    const auto kind = EngineKindOf(specs[i].kind);
    if (!kind.ok()) return at(kind.status());
    const LayerPlace place = {.index = i, .input_gradient = input_gradient || !chain.empty()};
    auto layer = (*kind)->Make(specs[i], chain.shape_, place, context);
    if (!layer.ok()) return at(layer.status());
    if (*layer == nullptr) {
      chain.shape_ = (*kind)->View(chain.shape_);
      continue;
    }
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
