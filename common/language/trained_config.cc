#include "common/language/trained_config.h"

namespace espalier::language {

TransformerConfig LlamaConfigOf(const v1::TransformerSpec& spec, int64_t context) {
  TransformerConfig config;
  config.family = ModelFamily::kLlama;
  config.hidden = spec.hidden();
  config.intermediate = spec.intermediate();
  config.blocks = spec.blocks();
  config.heads = spec.heads();
  config.kv_heads = spec.kv_heads();
  config.head_size = spec.hidden() / spec.heads();
  config.vocabulary = spec.vocabulary();
  config.context = context;
  config.norm_epsilon = spec.norm_epsilon();
  config.rope_theta = spec.rope_theta();
  config.tied = !spec.untied();
  config.attention_bias = false;
  config.mlp_bias = false;
  config.json = LlamaConfigJson(config);
  return config;
}

}  // namespace espalier::language
