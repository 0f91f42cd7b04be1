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
  if (spec.heads < 1 || spec.kv_heads < 1 || spec.heads % spec.kv_heads != 0 || spec.units < 2 ||
      spec.units % 2 != 0 || !(spec.theta > 1)) {
    return SpecError(fmt::format(
        "attention needs an even head size, heads that its key heads divide and a theta above 1; "
        "found size {}, {} heads, {} key heads and theta {}",
        spec.units, spec.heads, spec.kv_heads, spec.theta));
  }
  std::unique_ptr<AttentionLayer> layer(new AttentionLayer(spec, context));
  const auto make = [&](int64_t heads) {
    const LayerSpec product = {
        .units = heads * spec.units, .activation = Activation::kLinear, .bias = false};
    return ProductLayer::Create(product, input, index, true, context);
  };
  ESPALIER_ASSIGN_OR_RETURN(layer->query_, make(spec.heads));
  ESPALIER_ASSIGN_OR_RETURN(layer->key_, make(spec.kv_heads));
  ESPALIER_ASSIGN_OR_RETURN(layer->value_, make(spec.kv_heads));
  return layer;
}

AttentionLayer::AttentionLayer(const LayerSpec& spec, BuildContext& context)
    : Layer({.channels = spec.heads * spec.units}, context),
      attention_{.heads = spec.heads,
                 .kv_heads = spec.kv_heads,
                 .head_size = spec.units,
                 .stride = context.stride},
      sequence_(context.sequence),
      rotary_(spec.units, context.sequence, spec.theta) {}

std::vector<int64_t> AttentionLayer::Bounds(const Pass& pass) const {
  std::vector<int64_t> bounds;
  for (int64_t at = 0; at <= pass.extent.size; at += sequence_) bounds.push_back(at);
  return bounds;
}

void AttentionLayer::Rotate(std::span<const int64_t> bounds, bool inverse, float* q,
                            float* k) const {
  for (size_t s = 0; s + 1 < bounds.size(); ++s) {
    rotary_.Apply(q, attention_.heads, stride(), bounds[s], sequence_, 0, inverse);
    rotary_.Apply(k, attention_.kv_heads, stride(), bounds[s], sequence_, 0, inverse);
  }
}

void AttentionLayer::Forward(const Pass& pass, const float* input) {
  for (ProductLayer* part : {query_.get(), key_.get(), value_.get()}) part->Forward(pass, input);
  const std::vector<int64_t> bounds = Bounds(pass);
  Rotate(bounds, false, query_->output_in_place(), key_->output_in_place());
  Attention(attention_, query_->output(), key_->output(), value_->output(), bounds,
            mutable_output(), threads());
}

void AttentionLayer::Backward(const Pass& pass, const float* input, float* delta,
                              float* input_delta, const BackwardTarget& target) {
  const int64_t width = pass.extent.width;
  const std::vector<int64_t> bounds = Bounds(pass);
  Workspace::Lease query(workspace());
  Workspace::Lease key(workspace());
  Workspace::Lease value(workspace());
  AttentionGradient(attention_, query_->output(), key_->output(), value_->output(), delta, bounds,
                    query.data(), key.data(), value.data(), threads());
  Rotate(bounds, true, query.data(), key.data());
  struct Part {
    ProductLayer& layer;
    float* delta;
  };
  const Part parts[] = {{*query_, query.data()}, {*key_, key.data()}, {*value_, value.data()}};
  for (const Part& part : parts) {
    // The columns after the last token are no one's.
    for (int64_t r = 0; r < part.layer.shape().features(); ++r) {
      std::fill(part.delta + r * stride() + pass.extent.size, part.delta + r * stride() + width,
                0.0F);
    }
    if (&part == parts || input_delta == nullptr) {
      part.layer.Backward(pass, input, part.delta, input_delta, target);
      continue;
    }
    Workspace::Lease sum(workspace());
    part.layer.Backward(pass, input, part.delta, sum.data(), target);
    ParallelRows(threads(), part.layer.input_features(),
                 [&](RowRange rows) { AddRows(sum.data(), input_delta, stride(), width, rows); });
  }
}

void AttentionLayer::CollectProducts(std::vector<const ProductLayer*>& products) const {
  for (const auto* part : {query_.get(), key_.get(), value_.get()}) {
    part->CollectProducts(products);
  }
}

}  // namespace espalier::worker::engine
