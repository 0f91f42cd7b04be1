#include "worker/language/network_spec.h"

#include <algorithm>
#include <vector>

namespace espalier::worker::language {
namespace {

namespace model = ::espalier::language;
using engine::Activation;
using engine::LayerKind;
using engine::LayerSpec;
using engine::NetworkSpec;

LayerSpec Norm(const model::TransformerConfig& config) {
  return {.kind = config.rms_norm() ? LayerKind::kRmsNorm : LayerKind::kLayerNorm,
          .activation = Activation::kLinear,
          .epsilon = config.norm_epsilon};
}

LayerSpec Linear(const model::LinearLayerSpec& linear, Activation activation) {
  return {.units = linear.outputs, .activation = activation, .bias = linear.bias};
}

// The linear layer with that role; the first of a block otherwise.
const model::LinearLayerSpec& Find(const std::vector<model::LinearLayerSpec>& linears,
                                   model::LinearRole role) {
  const auto found = std::ranges::find(linears, role, &model::LinearLayerSpec::role);
  return found == linears.end() ? linears.front() : *found;
}

LayerSpec AttentionHalf(const model::TransformerConfig& config,
                        const std::vector<model::LinearLayerSpec>& linears) {
  const LayerSpec attention = {.kind = LayerKind::kAttention,
                               .units = config.head_size,
                               .activation = Activation::kLinear,
                               .bias = linears.front().bias,
                               .heads = config.heads,
                               .kv_heads = config.kv_heads,
                               .theta = config.rotary() ? config.rope_theta : 0,
                               .fused = linears.front().role == model::LinearRole::kQueryKeyValue};
  const LayerSpec to_hidden =
      Linear(Find(linears, model::LinearRole::kAttentionOutput), Activation::kLinear);
  return {.kind = LayerKind::kResidual,
          .activation = Activation::kLinear,
          .body = {Norm(config), attention, to_hidden}};
}

LayerSpec FeedForwardHalf(const model::TransformerConfig& config,
                          const std::vector<model::LinearLayerSpec>& linears) {
  const model::LinearLayerSpec& up = Find(linears, model::LinearRole::kUp);
  std::vector<LayerSpec> body = {Norm(config)};
  switch (config.feed_forward) {
    case model::FeedForward::kSwiGlu:
      body.push_back({.kind = LayerKind::kSwiGlu,
                      .units = config.intermediate,
                      .activation = Activation::kLinear,
                      .bias = up.bias});
      break;
    case model::FeedForward::kRelu:
      body.push_back(Linear(up, Activation::kRelu));
      break;
    case model::FeedForward::kGelu:
    case model::FeedForward::kGeluTanh: {
      const bool exact = config.feed_forward == model::FeedForward::kGelu;
      body.push_back(Linear(up, Activation::kLinear));
      body.push_back({.kind = exact ? LayerKind::kGelu : LayerKind::kGeluTanh,
                      .activation = Activation::kLinear});
      break;
    }
  }
  body.push_back(Linear(Find(linears, model::LinearRole::kDown), Activation::kLinear));
  return {.kind = LayerKind::kResidual, .activation = Activation::kLinear, .body = body};
}

}  // namespace

NetworkSpec NetworkSpecOf(const model::TransformerConfig& config, int64_t context) {
  NetworkSpec spec;
  spec.input_features = 1;
  spec.sequence = context;
  spec.layers.push_back({.kind = LayerKind::kEmbedding,
                         .units = config.hidden,
                         .activation = Activation::kLinear,
                         .vocabulary = config.vocabulary});
  if (!config.rotary()) {
    spec.layers.push_back({.kind = LayerKind::kPositions,
                           .activation = Activation::kLinear,
                           .vocabulary = config.context + config.position_offset,
                           .position_offset = config.position_offset});
  }
  const std::vector<model::LinearLayerSpec> linears = model::BlockLinears(config);
  for (int64_t block = 0; block < config.blocks; ++block) {
    spec.layers.push_back(AttentionHalf(config, linears));
    spec.layers.push_back(FeedForwardHalf(config, linears));
  }
  spec.layers.push_back(Norm(config));
  if (config.tied) {
    spec.layers.push_back({.kind = LayerKind::kTiedOutput, .activation = Activation::kLinear});
  } else {
    spec.layers.push_back(
        {.units = config.vocabulary, .activation = Activation::kLinear, .bias = false});
  }
  return spec;
}

}  // namespace espalier::worker::language
