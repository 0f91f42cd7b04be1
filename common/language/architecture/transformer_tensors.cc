// The tensors of each architecture, by Hugging Face's names.
#include <fmt/format.h>

#include <string_view>
#include <utility>

#include "common/language/architecture/transformer_config.h"

namespace espalier::language {
namespace {

LinearLayerSpec Linear(std::string name, LinearRole role, int64_t outputs, int64_t inputs,
                       bool bias, bool transposed = false) {
  return {std::move(name), role, outputs, inputs, bias, transposed};
}

// The prefix of everything outside the output weights.
std::string_view ModelPrefix(Architecture architecture) {
  switch (architecture) {
    case Architecture::kGpt2:
      return "transformer.";
    case Architecture::kOpt:
      return "model.decoder.";
    case Architecture::kLlama:
      break;
  }
  return "model.";
}

}  // namespace

bool IsFeedForward(LinearRole role) {
  return role == LinearRole::kGate || role == LinearRole::kUp || role == LinearRole::kDown;
}

std::vector<LinearLayerSpec> BlockLinears(const TransformerConfig& config) {
  const int64_t hidden = config.hidden;
  const int64_t inner = config.intermediate;
  const bool attention_bias = config.attention_bias;
  const bool mlp_bias = config.mlp_bias;
  switch (config.architecture) {
    case Architecture::kGpt2:
      return {Linear("attn.c_attn", LinearRole::kQueryKeyValue, 3 * hidden, hidden, true, true),
              Linear("attn.c_proj", LinearRole::kAttentionOutput, hidden, hidden, true, true),
              Linear("mlp.c_fc", LinearRole::kUp, inner, hidden, true, true),
              Linear("mlp.c_proj", LinearRole::kDown, hidden, inner, true, true)};
    case Architecture::kOpt:
      return {Linear("self_attn.q_proj", LinearRole::kQuery, hidden, hidden, attention_bias),
              Linear("self_attn.k_proj", LinearRole::kKey, hidden, hidden, attention_bias),
              Linear("self_attn.v_proj", LinearRole::kValue, hidden, hidden, attention_bias),
              Linear("self_attn.out_proj", LinearRole::kAttentionOutput, hidden, hidden,
                     config.attention_output_bias),
              Linear("fc1", LinearRole::kUp, inner, hidden, mlp_bias),
              Linear("fc2", LinearRole::kDown, hidden, inner, mlp_bias)};
    case Architecture::kLlama:
      break;
  }
  const int64_t query = config.query_width();
  const int64_t kv = config.kv_width();
  return {Linear("self_attn.q_proj", LinearRole::kQuery, query, hidden, attention_bias),
          Linear("self_attn.k_proj", LinearRole::kKey, kv, hidden, attention_bias),
          Linear("self_attn.v_proj", LinearRole::kValue, kv, hidden, attention_bias),
          Linear("self_attn.o_proj", LinearRole::kAttentionOutput, hidden, query,
                 config.attention_output_bias),
          Linear("mlp.gate_proj", LinearRole::kGate, inner, hidden, mlp_bias),
          Linear("mlp.up_proj", LinearRole::kUp, inner, hidden, mlp_bias),
          Linear("mlp.down_proj", LinearRole::kDown, hidden, inner, mlp_bias)};
}

std::string BlockPrefix(const TransformerConfig& config, int64_t block) {
  return fmt::format("{}{}.{}.", ModelPrefix(config.architecture),
                     config.architecture == Architecture::kGpt2 ? "h" : "layers", block);
}

std::vector<StoredTensor> BlockNorms(const TransformerConfig& config, int64_t block) {
  const std::string prefix = BlockPrefix(config, block);
  const std::vector<int64_t> shape = {config.hidden};
  switch (config.architecture) {
    case Architecture::kGpt2:
      return {{prefix + "ln_1.weight", shape},
              {prefix + "ln_1.bias", shape},
              {prefix + "ln_2.weight", shape},
              {prefix + "ln_2.bias", shape}};
    case Architecture::kOpt:
      return {{prefix + "self_attn_layer_norm.weight", shape},
              {prefix + "self_attn_layer_norm.bias", shape},
              {prefix + "final_layer_norm.weight", shape},
              {prefix + "final_layer_norm.bias", shape}};
    case Architecture::kLlama:
      break;
  }
  return {{prefix + "input_layernorm.weight", shape},
          {prefix + "post_attention_layernorm.weight", shape}};
}

OuterNames OuterTensors(const TransformerConfig& config) {
  const std::string prefix(ModelPrefix(config.architecture));
  const std::vector<int64_t> table = {config.vocabulary, config.hidden};
  const std::vector<int64_t> vector = {config.hidden};
  OuterNames names;
  if (!config.tied) names.output = {"lm_head.weight", table};
  if (config.architecture == Architecture::kLlama) {
    names.embedding = {prefix + "embed_tokens.weight", table};
    names.final_norm = {prefix + "norm.weight", vector};
    return names;
  }
  const bool gpt2 = config.architecture == Architecture::kGpt2;
  names.embedding = {prefix + (gpt2 ? "wte.weight" : "embed_tokens.weight"), table};
  names.positions = {prefix + (gpt2 ? "wpe.weight" : "embed_positions.weight"),
                     {config.context + config.position_offset, config.hidden}};
  names.final_norm = {prefix + (gpt2 ? "ln_f.weight" : "final_layer_norm.weight"), vector};
  names.final_norm_bias = {prefix + (gpt2 ? "ln_f.bias" : "final_layer_norm.bias"), vector};
  return names;
}

std::vector<StoredTensor> AllTensors(const TransformerConfig& config, MatrixOrder order) {
  const OuterNames outer = OuterTensors(config);
  std::vector<StoredTensor> tensors;
  for (const StoredTensor* tensor : {&outer.embedding, &outer.positions, &outer.final_norm,
                                     &outer.final_norm_bias, &outer.output}) {
    if (!tensor->name.empty()) tensors.push_back(*tensor);
  }
  for (int64_t block = 0; block < config.blocks; ++block) {
    for (StoredTensor& norm : BlockNorms(config, block)) tensors.push_back(std::move(norm));
    for (const LinearLayerSpec& linear : BlockLinears(config)) {
      const std::string name = BlockPrefix(config, block) + linear.name;
      const bool inputs_first = linear.transposed && order == MatrixOrder::kAsInFiles;
      tensors.push_back({name + ".weight", inputs_first
                                               ? std::vector{linear.inputs, linear.outputs}
                                               : std::vector{linear.outputs, linear.inputs}});
      if (linear.bias) tensors.push_back({name + ".bias", {linear.outputs}});
    }
  }
  return tensors;
}

}  // namespace espalier::language
