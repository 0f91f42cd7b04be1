#include "worker/engine/layers/attention_layer.h"

#include <algorithm>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/activation.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {

absl::StatusOr<std::unique_ptr<AttentionLayer>> AttentionLayer::Create(const LayerSpec& spec,
                                                                       const MapShape& input,
                                                                       size_t index,
                                                                       BuildContext& context) {
  const bool rotary = spec.theta != 0;
  if (spec.heads < 1 || spec.kv_heads < 1 || spec.heads % spec.kv_heads != 0 || spec.units < 1 ||
      (rotary && (spec.units % 2 != 0 || !(spec.theta > 1)))) {
    return SpecError(fmt::format(
        "attention needs heads that its key heads divide and, for rotary positions, an even head "
        "size and a theta above 1; found size {}, {} heads, {} key heads and theta {}",
        spec.units, spec.heads, spec.kv_heads, spec.theta));
  }
  std::unique_ptr<AttentionLayer> layer(new AttentionLayer(spec, context));
  const std::vector<int64_t> heads =
      spec.fused ? std::vector{spec.heads + 2 * spec.kv_heads}
                 : std::vector<int64_t>{spec.heads, spec.kv_heads, spec.kv_heads};
  for (const int64_t count : heads) {
    const LayerSpec product = {
        .units = count * spec.units, .activation = Activation::kLinear, .bias = spec.bias};
    ESPALIER_ASSIGN_OR_RETURN(auto made,
                              ProductLayer::Create(product, input, index, true, context));
    made->PlanOutput(OutputUse::kExact);
    layer->products_.push_back(std::move(made));
  }
  return layer;
}

AttentionLayer::AttentionLayer(const LayerSpec& spec, BuildContext& context)
    : Layer({.channels = spec.heads * spec.units}, context),
      attention_{.heads = spec.heads,
                 .kv_heads = spec.kv_heads,
                 .head_size = spec.units,
                 .stride = context.stride},
      sequence_(context.sequence) {
  if (spec.theta != 0) rotary_.emplace(spec.units, context.sequence, spec.theta);
}

AttentionLayer::Projected AttentionLayer::Outputs() const {
  float* query = products_[0]->output_in_place();
  if (fused()) {
    float* key = query + query_features() * stride();
    return {query, key, key + key_features() * stride()};
  }
  return {query, products_[1]->output_in_place(), products_[2]->output_in_place()};
}

std::vector<int64_t> AttentionLayer::Bounds(const Pass& pass) const {
  std::vector<int64_t> bounds;
  for (int64_t at = 0; at <= pass.extent.size; at += sequence_) bounds.push_back(at);
  return bounds;
}

void AttentionLayer::Rotate(std::span<const int64_t> bounds, bool inverse,
                            const Projected& projected) const {
  if (!rotary_) return;
  for (size_t s = 0; s + 1 < bounds.size(); ++s) {
    rotary_->Apply(projected.query, attention_.heads, stride(), bounds[s], sequence_, 0, inverse);
    rotary_->Apply(projected.key, attention_.kv_heads, stride(), bounds[s], sequence_, 0, inverse);
  }
}

void AttentionLayer::Forward(const Pass& pass, const float* input) {
  for (const auto& product : products_) product->Forward(pass, input);
  const std::vector<int64_t> bounds = Bounds(pass);
  const Projected projected = Outputs();
  Rotate(bounds, false, projected);
  Attention(attention_, projected.query, projected.key, projected.value, bounds, mutable_output(),
            threads());
}

void AttentionLayer::Backward(const Pass& pass, const float* input, float* delta,
                              float* input_delta, const BackwardTarget& target) {
  const std::vector<int64_t> bounds = Bounds(pass);
  Workspace::Lease first(workspace());
  std::optional<Workspace::Lease> second;
  std::optional<Workspace::Lease> third;
  Projected gradients = {first.data(), nullptr, nullptr};
  if (fused()) {
    gradients.key = gradients.query + query_features() * stride();
    gradients.value = gradients.key + key_features() * stride();
  } else {
    gradients.key = second.emplace(workspace()).data();
    gradients.value = third.emplace(workspace()).data();
  }
  const Projected projected = Outputs();
  AttentionGradient(attention_, projected.query, projected.key, projected.value, delta, bounds,
                    gradients.query, gradients.key, gradients.value, threads());
  Rotate(bounds, true, gradients);
  float* const deltas[] = {gradients.query, gradients.key, gradients.value};
  for (size_t i = 0; i < products_.size(); ++i) {
    BackwardProduct(i, pass, input, deltas[i], input_delta, target);
  }
}

void AttentionLayer::BackwardProduct(size_t i, const Pass& pass, const float* input, float* delta,
                                     float* input_delta, const BackwardTarget& target) {
  ProductLayer& product = *products_[i];
  const int64_t width = pass.extent.width;
  // The columns after the last token are no one's.
  for (int64_t r = 0; r < product.shape().features(); ++r) {
    std::fill(delta + r * stride() + pass.extent.size, delta + r * stride() + width, 0.0F);
  }
  if (i == 0 || input_delta == nullptr) {
    return product.Backward(pass, input, delta, input_delta, target);
  }
  Workspace::Lease sum(workspace());
  product.Backward(pass, input, delta, sum.data(), target);
  ParallelRows(threads(), product.input_features(),
               [&](RowRange rows) { AddRows(sum.data(), input_delta, stride(), width, rows); });
}

void AttentionLayer::CollectProducts(std::vector<const ProductLayer*>& products) const {
  for (const auto& product : products_) product->CollectProducts(products);
}

}  // namespace espalier::worker::engine
