#include "common/language/architecture/transformer_config.h"

#include <fmt/format.h>

#include <cmath>
#include <initializer_list>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/language/architecture/strict_json.h"

namespace espalier::language {
namespace {

using Json = nlohmann::json;

constexpr int kMaxJsonDepth = 16;
constexpr int64_t kMaxWidth = 1 << 20;
constexpr int64_t kMaxBlocks = 10'000;
constexpr int64_t kMaxVocabulary = 1 << 24;
constexpr int64_t kMaxContext = 1 << 24;
// OPT's table of positions begins with two rows that are never used.
constexpr int64_t kOptPositionOffset = 2;

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("CONFIG_INVALID", "config.json: " + what);
}

absl::Status Unsupported(const std::string& what) {
  return base::InvalidArgument("MODEL_UNSUPPORTED", "config.json: " + what);
}

// Reads keys of the config and remembers the first thing that is wrong.
class Keys {
 public:
  explicit Keys(const Json& json) : json_(json) {}

  const absl::Status& status() const { return status_; }

  // The whole number under the first of `names` that is there and not null; without `fallback` one
  // of them must be.
  int64_t Whole(std::initializer_list<const char*> names, int64_t least, int64_t most,
                std::optional<int64_t> fallback = std::nullopt) {
    const auto [name, value] = Find(names);
    if (value == nullptr) {
      if (!fallback) {
        Fail(fmt::format("expected a whole number '{}', found none; add it", *names.begin()));
      }
      return fallback.value_or(least);
    }
    const bool fits = value->is_number_integer() &&
                      (!value->is_number_unsigned() ||
                       value->get<uint64_t>() <= std::numeric_limits<int64_t>::max());
    const int64_t number = fits ? value->get<int64_t>() : 0;
    if (!fits || number < least || number > most) {
      Fail(fmt::format("'{}' must be a whole number in {}..{}, found {}", name, least, most,
                       Text(*value)));
      return least;
    }
    return number;
  }

  double Positive(const char* key, double fallback) {
    const auto [name, value] = Find({key});
    if (value == nullptr) return fallback;
    const double number = value->is_number() ? value->get<double>() : -1;
    if (!std::isfinite(number) || number <= 0) {
      Fail(fmt::format("'{}' must be a number above 0, found {}", name, Text(*value)));
      return fallback;
    }
    return number;
  }

  bool Flag(const char* key, bool fallback) {
    const auto [name, value] = Find({key});
    if (value == nullptr) return fallback;
    if (!value->is_boolean()) {
      Fail(fmt::format("'{}' must be true or false, found {}", name, Text(*value)));
      return fallback;
    }
    return value->get<bool>();
  }

  std::string Word(const char* key, const std::string& fallback) {
    const auto [name, value] = Find({key});
    if (value == nullptr) return fallback;
    if (!value->is_string()) {
      Fail(fmt::format("'{}' must be a text, found {}", name, Text(*value)));
      return fallback;
    }
    return value->get<std::string>();
  }

  // A token number, or −1 when there is none. Lists of several count by their first.
  int64_t Token(const char* key, int64_t vocabulary) {
    const auto [name, value] = Find({key});
    if (value == nullptr) return -1;
    const Json& token = value->is_array() && !value->empty() ? value->front() : *value;
    const bool fits =
        token.is_number_unsigned() && token.get<uint64_t>() < static_cast<uint64_t>(vocabulary);
    if (!fits) {
      Fail(fmt::format("'{}' must be a token in 0..{}, found {}", name, vocabulary - 1,
                       Text(*value)));
      return -1;
    }
    return token.get<int64_t>();
  }

  // An object, or null when there is none.
  const Json* Object(const char* key) {
    const auto [name, value] = Find({key});
    if (value != nullptr && !value->is_object()) {
      Fail(fmt::format("'{}' must be an object, found {}", name, Text(*value)));
      return nullptr;
    }
    return value;
  }

  bool Has(const char* key) const { return Find({key}).second != nullptr; }

  // A value as text for messages, cut when long.
  static std::string Text(const Json& value) {
    std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 60) text = text.substr(0, 57) + "...";
    return text;
  }
  std::string TextOf(const char* key) const {
    const Json* value = Find({key}).second;
    return value == nullptr ? "nothing" : Text(*value);
  }

 private:
  std::pair<const char*, const Json*> Find(std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      const auto found = json_.find(name);
      if (found != json_.end() && !found->is_null()) return {name, &*found};
    }
    return {*names.begin(), nullptr};
  }
  void Fail(const std::string& what) {
    if (status_.ok()) status_ = Invalid(what);
  }

  const Json& json_;
  absl::Status status_;
};

absl::StatusOr<Json> ParseJson(std::string_view text) {
  if (text.size() > kMaxConfigBytes) {
    return Invalid(
        fmt::format("expected at most {} bytes, found {}", kMaxConfigBytes, text.size()));
  }
  Json json = ParseStrictObject(text, kMaxJsonDepth);
  if (json.is_discarded()) {
    return Invalid(
        "expected a JSON object with distinct keys, found something else; is the file cut off?");
  }
  return json;
}

absl::StatusOr<FeedForward> ActivationOf(const std::string& name) {
  if (name == "relu") return FeedForward::kRelu;
  if (name == "gelu") return FeedForward::kGelu;
  if (name == "gelu_new" || name == "gelu_pytorch_tanh" || name == "gelu_fast") {
    return FeedForward::kGeluTanh;
  }
  return Unsupported(fmt::format(
      "expected activation relu, gelu or gelu_new, found '{}'; this one is not computed", name));
}

// The two spellings of how rotary positions are computed: transformers 4 has rope_theta at the top
// and, where positions are scaled, rope_scaling; transformers 5 has both in rope_parameters.
constexpr const char* kRopeObjects[] = {"rope_parameters", "rope_scaling"};

// What `rope`, the object `name`, says of the base; nullopt when it says nothing. Refuses whatever
// turns positions in another way.
absl::StatusOr<std::optional<double>> ThetaOf(const Json& rope, const std::string& name) {
  if (rope.size() == 1 && rope.begin()->is_object()) {
    if (rope.begin().key() == "full_attention") {
      return ThetaOf(*rope.begin(), name + ".full_attention");
    }
  }
  Keys keys(rope);
  for (const auto& [key, value] : rope.items()) {
    if (value.is_object()) {
      return Unsupported(
          fmt::format("expected the same rotary positions in all layers, found '{}' in {}; "
                      "positions by kind of "
                      "layer are not computed",
                      key.substr(0, 60), name));
    }
  }
  const std::string kind = keys.Word("rope_type", keys.Word("type", "default"));
  const double part = keys.Positive("partial_rotary_factor", 1);
  std::optional<double> theta;
  if (keys.Has("rope_theta")) theta = keys.Positive("rope_theta", 1);
  if (!keys.status().ok()) return base::Annotate(keys.status(), name);
  if (kind != "default") {
    return Unsupported(fmt::format(
        "expected rotary positions that are not scaled, found rope_type '{}' in {}; models whose "
        "context was extended in this way are not computed",
        kind.substr(0, 60), name));
  }
  if (part != 1) {
    return Unsupported(
        fmt::format("expected rotary positions in whole heads, found partial_rotary_factor {} in "
                    "{}; this is not computed",
                    part, name));
  }
  for (const auto& [key, value] : rope.items()) {
    const bool known = key == "rope_type" || key == "type" || key == "rope_theta" ||
                       key == "partial_rotary_factor";
    if (known || value.is_null()) continue;
    return Unsupported(fmt::format(
        "expected {} without '{}' where the rope_type is default, found {}; its meaning "
        "is not known here",
        name, key.substr(0, 60), Keys::Text(value)));
  }
  return theta;
}

// The base of rotary positions, from wherever the config says it.
absl::StatusOr<double> RopeTheta(Keys& keys) {
  constexpr double kDefault = 10000;
  std::optional<double> theta;
  if (keys.Has("rope_theta")) theta = keys.Positive("rope_theta", kDefault);
  for (const char* name : kRopeObjects) {
    const Json* rope = keys.Object(name);
    if (rope == nullptr) continue;
    ESPALIER_ASSIGN_OR_RETURN(const std::optional<double> other, ThetaOf(*rope, name));
    if (theta && other && *theta != *other) {
      return Invalid(
          fmt::format("expected one rope_theta, found {} and, in {}, {}", *theta, name, *other));
    }
    if (other) theta = other;
  }
  ESPALIER_RETURN_IF_ERROR(keys.status());
  return theta.value_or(kDefault);
}

// Options of relatives of LLaMA that would change what is computed. Each may be there when it says
// that nothing changes.
absl::Status CheckVariants(const Json& json) {
  const std::pair<const char*, Json> plain[] = {
      {"partial_rotary_factor", 1.0},
      {"rotary_pct", 1.0},
      {"embedding_multiplier", 1.0},
      {"residual_multiplier", 1.0},
      {"logits_scaling", 1.0},
      {"attn_logit_softcapping", nullptr},
      {"final_logit_softcapping", nullptr},
      {"use_qk_norm", false},
      {"qk_norm", false},
      {"no_rope_layers", nullptr},
      {"num_local_experts", nullptr},
      {"quantization_config", nullptr},
  };
  for (const auto& [key, value] : plain) {
    const auto found = json.find(key);
    if (found == json.end() || found->is_null() || *found == value) continue;
    return Unsupported(
        fmt::format("expected no {}, found {}; this is not computed", key, Keys::Text(*found)));
  }
  return absl::OkStatus();
}

// Whether all layers attend to all positions. `windows`: whether a sliding window is used where the
// config has one and does not say.
absl::Status CheckAttention(const Json& json, Keys& keys, int64_t context, bool windows) {
  const bool windowed = keys.Has("sliding_window") && keys.Flag("use_sliding_window", windows) &&
                        keys.Whole({"sliding_window"}, 1, kMaxContext) < context;
  ESPALIER_RETURN_IF_ERROR(keys.status());
  const auto types = json.find("layer_types");
  const bool listed = types != json.end() && types->is_array();
  for (const Json& type : listed ? *types : Json::array()) {
    if (type == "full_attention" || (type == "sliding_attention" && !windowed)) continue;
    return Unsupported(fmt::format("expected full_attention in all layers, found {} in layer_types",
                                   Keys::Text(type)));
  }
  if (!windowed || listed) return absl::OkStatus();
  return Unsupported(fmt::format(
      "expected attention to all {} positions, found sliding_window {}; remove the key when "
      "contexts are shorter than the window",
      context, keys.TextOf("sliding_window")));
}

// `qwen2`: the same but for biases of query, key and value that the config does not mention, and
// defaults.
absl::StatusOr<TransformerConfig> ParseLlama(const Json& json, Keys& keys, bool qwen2) {
  constexpr int64_t kContext = 2048;
  constexpr int64_t kQwen2Context = 32'768;
  TransformerConfig config;
  config.architecture = Architecture::kLlama;
  config.hidden = keys.Whole({"hidden_size"}, 1, kMaxWidth);
  config.intermediate = keys.Whole({"intermediate_size"}, 1, kMaxWidth);
  config.blocks = keys.Whole({"num_hidden_layers"}, 1, kMaxBlocks);
  config.heads = keys.Whole({"num_attention_heads"}, 1, kMaxWidth);
  config.kv_heads = keys.Whole({"num_key_value_heads"}, 1, kMaxWidth, config.heads);
  config.vocabulary = keys.Whole({"vocab_size"}, 1, kMaxVocabulary);
  config.context =
      keys.Whole({"max_position_embeddings"}, 1, kMaxContext, qwen2 ? kQwen2Context : kContext);
  config.norm_epsilon = keys.Positive("rms_norm_eps", 1e-6);
  config.attention_bias = qwen2 || keys.Flag("attention_bias", false);
  config.attention_output_bias = !qwen2 && config.attention_bias;
  config.mlp_bias = !qwen2 && keys.Flag("mlp_bias", false);
  config.head_size = keys.Whole({"head_dim"}, 1, kMaxWidth, config.hidden / config.heads);
  config.tied = keys.Flag("tie_word_embeddings", false);
  config.feed_forward = FeedForward::kSwiGlu;
  const std::string activation = keys.Word("hidden_act", "silu");
  ESPALIER_RETURN_IF_ERROR(keys.status());
  if (activation != "silu" && activation != "swish") {
    return Unsupported(fmt::format("expected hidden_act silu in a {} model, found '{}'",
                                   qwen2 ? "Qwen2" : "LLaMA", activation));
  }
  ESPALIER_ASSIGN_OR_RETURN(config.rope_theta, RopeTheta(keys));
  ESPALIER_RETURN_IF_ERROR(CheckVariants(json));
  ESPALIER_RETURN_IF_ERROR(CheckAttention(json, keys, config.context, !qwen2));
  return config;
}

absl::StatusOr<TransformerConfig> ParseGpt2(Keys& keys) {
  TransformerConfig config;
  config.architecture = Architecture::kGpt2;
  config.hidden = keys.Whole({"n_embd", "hidden_size"}, 1, kMaxWidth);
  config.blocks = keys.Whole({"n_layer", "num_hidden_layers"}, 1, kMaxBlocks);
  config.heads = keys.Whole({"n_head", "num_attention_heads"}, 1, kMaxWidth);
  config.kv_heads = config.heads;
  config.intermediate = keys.Whole({"n_inner"}, 1, kMaxWidth, 4 * config.hidden);
  config.vocabulary = keys.Whole({"vocab_size"}, 1, kMaxVocabulary);
  config.context = keys.Whole({"n_positions", "n_ctx"}, 1, kMaxContext, 1024);
  config.norm_epsilon = keys.Positive("layer_norm_epsilon", 1e-5);
  config.head_size = config.hidden / config.heads;
  config.tied = keys.Flag("tie_word_embeddings", true);
  const std::string activation = keys.Word("activation_function", "gelu_new");
  const bool plain = keys.Flag("scale_attn_weights", true) &&
                     !keys.Flag("scale_attn_by_inverse_layer_idx", false) &&
                     !keys.Flag("add_cross_attention", false);
  ESPALIER_RETURN_IF_ERROR(keys.status());
  if (!plain) {
    return Unsupported(
        "expected scale_attn_weights true, scale_attn_by_inverse_layer_idx false and "
        "add_cross_attention false, found another attention; it is not computed");
  }
  ESPALIER_ASSIGN_OR_RETURN(config.feed_forward, ActivationOf(activation));
  return config;
}

absl::StatusOr<TransformerConfig> ParseOpt(Keys& keys) {
  TransformerConfig config;
  config.architecture = Architecture::kOpt;
  config.hidden = keys.Whole({"hidden_size"}, 1, kMaxWidth);
  config.blocks = keys.Whole({"num_hidden_layers"}, 1, kMaxBlocks);
  config.heads = keys.Whole({"num_attention_heads"}, 1, kMaxWidth);
  config.kv_heads = config.heads;
  config.intermediate = keys.Whole({"ffn_dim"}, 1, kMaxWidth);
  config.vocabulary = keys.Whole({"vocab_size"}, 1, kMaxVocabulary);
  config.context = keys.Whole({"max_position_embeddings"}, 1, kMaxContext, 2048);
  config.head_size = config.hidden / config.heads;
  config.tied = keys.Flag("tie_word_embeddings", true);
  config.attention_bias = keys.Flag("enable_bias", true);
  config.attention_output_bias = config.attention_bias;
  config.mlp_bias = config.attention_bias;
  config.position_offset = kOptPositionOffset;
  const int64_t embedding = keys.Whole({"word_embed_proj_dim"}, 1, kMaxWidth, config.hidden);
  const bool norm_before = keys.Flag("do_layer_norm_before", true) &&
                           !keys.Flag("_remove_final_layer_norm", false) &&
                           keys.Flag("layer_norm_elementwise_affine", true);
  const std::string activation = keys.Word("activation_function", "relu");
  ESPALIER_RETURN_IF_ERROR(keys.status());
  if (embedding != config.hidden || !norm_before) {
    return Unsupported(
        "expected word_embed_proj_dim equal to hidden_size and layer norms with parameters before "
        "attention, feed-forward layers and output (do_layer_norm_before true), found another OPT; "
        "use a variant other than 350m");
  }
  ESPALIER_ASSIGN_OR_RETURN(config.feed_forward, ActivationOf(activation));
  return config;
}

absl::Status CheckHeads(const TransformerConfig& config) {
  if (config.heads % config.kv_heads != 0) {
    return Invalid(
        fmt::format("num_key_value_heads must divide num_attention_heads; found {} and {}",
                    config.kv_heads, config.heads));
  }
  if (config.head_size < 1 ||
      (!config.rotary() && config.head_size * config.heads != config.hidden)) {
    return Invalid(fmt::format("hidden size {} must be a multiple of the {} heads", config.hidden,
                               config.heads));
  }
  if (config.rotary() && config.head_size % 2 != 0) {
    return Invalid(
        fmt::format("rotary positions need an even head size, found {} (hidden size {} "
                    "/ {} heads)",
                    config.head_size, config.hidden, config.heads));
  }
  if (config.query_width() > kMaxWidth) {
    return Invalid(fmt::format("{} heads of {} are more than {} values", config.heads,
                               config.head_size, kMaxWidth));
  }
  return absl::OkStatus();
}

// What names the architecture; model_type, or what `architectures` says.
std::string ArchitectureOf(const Json& json) {
  const auto type = json.find("model_type");
  if (type != json.end() && type->is_string()) return type->get<std::string>();
  const auto list = json.find("architectures");
  if (list == json.end() || !list->is_array() || list->empty() || !list->front().is_string()) {
    return "";
  }
  const std::string name = list->front().get<std::string>();
  if (name == "LlamaForCausalLM") return "llama";
  if (name == "MistralForCausalLM") return "mistral";
  if (name == "Qwen2ForCausalLM") return "qwen2";
  if (name == "GPT2LMHeadModel") return "gpt2";
  if (name == "OPTForCausalLM") return "opt";
  return name;
}

absl::StatusOr<TransformerConfig> ParseFamily(const std::string& architecture, const Json& json,
                                              Keys& keys) {
  if (architecture == "llama" || architecture == "mistral") return ParseLlama(json, keys, false);
  if (architecture == "qwen2") return ParseLlama(json, keys, true);
  if (architecture == "gpt2") return ParseGpt2(keys);
  if (architecture == "opt") return ParseOpt(keys);
  return Unsupported(
      fmt::format("expected model_type llama, mistral, qwen2, gpt2 or opt, found '{}'; other "
                  "architectures cannot be computed",
                  architecture.substr(0, 60)));
}

}  // namespace

absl::StatusOr<TransformerConfig> ParseTransformerConfig(std::string_view json) {
  ESPALIER_ASSIGN_OR_RETURN(const Json parsed, ParseJson(json));
  Keys keys(parsed);
  ESPALIER_ASSIGN_OR_RETURN(TransformerConfig config,
                            ParseFamily(ArchitectureOf(parsed), parsed, keys));
  config.bos_token = keys.Token("bos_token_id", config.vocabulary);
  config.eos_token = keys.Token("eos_token_id", config.vocabulary);
  ESPALIER_RETURN_IF_ERROR(keys.status());
  ESPALIER_RETURN_IF_ERROR(CheckHeads(config));
  config.json = json;
  return config;
}

std::string LlamaConfigJson(const TransformerConfig& config) {
  Json json = {{"architectures", {"LlamaForCausalLM"}},
               {"model_type", "llama"},
               {"hidden_act", "silu"},
               {"hidden_size", config.hidden},
               {"intermediate_size", config.intermediate},
               {"num_hidden_layers", config.blocks},
               {"num_attention_heads", config.heads},
               {"num_key_value_heads", config.kv_heads},
               {"vocab_size", config.vocabulary},
               {"max_position_embeddings", config.context},
               {"rms_norm_eps", config.norm_epsilon},
               {"rope_theta", config.rope_theta},
               {"tie_word_embeddings", config.tied},
               {"attention_bias", config.attention_bias},
               {"mlp_bias", config.mlp_bias},
               {"torch_dtype", "float32"}};
  if (config.head_size * config.heads != config.hidden) json["head_dim"] = config.head_size;
  if (config.bos_token >= 0) json["bos_token_id"] = config.bos_token;
  if (config.eos_token >= 0) json["eos_token_id"] = config.eos_token;
  return json.dump(1) + "\n";
}

}  // namespace espalier::language
