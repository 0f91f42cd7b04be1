#include "common/language/architecture/transformer_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "common/base/status.h"
#include "common/language/trained_config.h"
#include "common/wire/model_spec/transformer.h"

namespace espalier::language {
namespace {

using testing::HasSubstr;

// A valid LLaMA config with `change` appended to its keys.
std::string Llama(const std::string& change = "") {
  return R"({"model_type":"llama","hidden_size":64,"intermediate_size":172,"num_hidden_layers":5,
             "num_attention_heads":8,"vocab_size":512)" +
         (change.empty() ? "" : "," + change) + "}";
}

std::string ReasonOfParsing(const std::string& json) {
  return base::ReasonOf(ParseTransformerConfig(json).status());
}

std::string MessageOfParsing(const std::string& json) {
  return base::MessageOf(ParseTransformerConfig(json).status());
}

TEST(TransformerConfigTest, LlamaWithDefaultsAndGroupedHeads) {
  const TransformerConfig config =
      ParseTransformerConfig(Llama(R"("num_key_value_heads":4,"tie_word_embeddings":true)"))
          .value();
  EXPECT_EQ(config.architecture, Architecture::kLlama);
  EXPECT_EQ(config.head_size, 8);
  EXPECT_EQ(config.kv_width(), 32);
  EXPECT_TRUE(config.tied);
  EXPECT_FALSE(config.attention_bias);
  EXPECT_EQ(config.norm_epsilon, 1e-6);
  EXPECT_EQ(config.bos_token, -1);
  EXPECT_EQ(AllTensors(config).size(), 2u + 5 * 9);
  EXPECT_EQ(BlockPrefix(config, 3), "model.layers.3.");
}

TEST(TransformerConfigTest, LlamaConfigSurvives) {
  TransformerConfig config =
      ParseTransformerConfig(Llama(R"("head_dim":16,"bos_token_id":1,"eos_token_id":[2,3])"))
          .value();
  EXPECT_EQ(config.eos_token, 2);
  const TransformerConfig again = ParseTransformerConfig(LlamaConfigJson(config)).value();
  EXPECT_EQ(again.head_size, 16);
  EXPECT_EQ(again.bos_token, 1);
  EXPECT_EQ(LlamaConfigJson(again), LlamaConfigJson(config));
}

TEST(TransformerConfigTest, TrainedModelsHaveOne) {
  v1::TransformerSpec spec;
  spec.set_vocabulary(64);
  spec.set_hidden(32);
  spec.set_blocks(2);
  spec.set_heads(4);
  spec.set_kv_heads(2);
  spec.set_intermediate(96);
  spec.set_norm_epsilon(1e-5);
  spec.set_rope_theta(10000);
  const TransformerConfig config = wire::ConfigOf(spec, 24).value();
  const TransformerConfig parsed = ParseTransformerConfig(config.json).value();
  EXPECT_EQ(parsed.json, config.json);
  EXPECT_EQ(LlamaConfigJson(parsed), config.json);
  EXPECT_EQ(parsed.context, 24);
  EXPECT_TRUE(parsed.tied);
  EXPECT_EQ(AllTensors(parsed).size(), 2u + 2 * 9);
}

TEST(TransformerConfigTest, CheckpointsSayTheirs) {
  const std::string model =
      R"({"transformer":{"vocabulary":64,"hidden":32,"blocks":2,"heads":4,"kvHeads":2,)"
      R"("intermediate":96,"normEpsilon":1e-5,"ropeTheta":10000}})";
  std::map<std::string, std::string> metadata = {{"model_spec", model}};
  EXPECT_EQ(ConfigOfCheckpoint(metadata)->context, kUnknownContext);
  metadata["data_spec"] = R"({"dataset":"text","text":{"context":24}})";
  EXPECT_EQ(ConfigOfCheckpoint(metadata)->context, 24);
  EXPECT_EQ(ConfigOfCheckpoint(metadata)->kv_heads, 2);
  // Of a pruned one: the file itself.
  metadata["config"] = ConfigOfCheckpoint(metadata)->json;
  metadata.erase("model_spec");
  EXPECT_EQ(ConfigOfCheckpoint(metadata)->json, metadata["config"]);
}

TEST(TransformerConfigTest, CheckpointsOfOtherModelsHaveNone) {
  for (const char* model : {"", "{", R"({"inputFeatures":9})"}) {
    const auto config = ConfigOfCheckpoint({{"model_spec", model}});
    EXPECT_EQ(base::ReasonOf(config.status()), "NOT_A_LANGUAGE_MODEL") << model;
  }
  EXPECT_EQ(base::ReasonOf(ConfigOfCheckpoint({}).status()), "NOT_A_LANGUAGE_MODEL");
  const auto damaged =
      ConfigOfCheckpoint({{"model_spec", R"({"transformer":{"vocabulary":-5,"hidden":32}})"}});
  EXPECT_FALSE(damaged.ok());
}

TEST(TransformerConfigTest, Gpt2AndOptHaveTheirOwnTensors) {
  const TransformerConfig gpt2 =
      ParseTransformerConfig(
          R"({"model_type":"gpt2","n_embd":12,"n_layer":2,"n_head":3,"vocab_size":17,"n_ctx":9})")
          .value();
  EXPECT_EQ(gpt2.feed_forward, FeedForward::kGeluTanh);
  EXPECT_EQ(gpt2.intermediate, 48);
  EXPECT_TRUE(BlockLinears(gpt2)[0].transposed);
  EXPECT_EQ(OuterTensors(gpt2).positions.shape, (std::vector<int64_t>{9, 12}));
  const TransformerConfig opt =
      ParseTransformerConfig(
          R"({"architectures":["OPTForCausalLM"],"hidden_size":12,"num_hidden_layers":2,
              "num_attention_heads":3,"ffn_dim":20,"vocab_size":17,"max_position_embeddings":9})")
          .value();
  EXPECT_EQ(opt.feed_forward, FeedForward::kRelu);
  EXPECT_EQ(OuterTensors(opt).positions.shape, (std::vector<int64_t>{11, 12}));
}

TEST(TransformerConfigTest, Qwen2HasBiasesOfQueryKeyAndValueAndUsesNoWindowUnlessItSays) {
  const std::string qwen2 =
      R"("hidden_size":64,"intermediate_size":96,"num_hidden_layers":1,"num_attention_heads":4,
         "num_key_value_heads":2,"vocab_size":17,"sliding_window":4096)";
  const TransformerConfig config =
      ParseTransformerConfig(R"({"model_type":"qwen2",)" + qwen2 + "}").value();
  EXPECT_EQ(config.context, 32'768);
  EXPECT_EQ(config.architecture, Architecture::kLlama);
  std::vector<std::string> biases;
  for (const LinearLayerSpec& linear : BlockLinears(config)) {
    if (linear.bias) biases.push_back(linear.name);
  }
  EXPECT_THAT(biases,
              testing::ElementsAre("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"));
  EXPECT_EQ(
      ParseTransformerConfig(R"({"architectures":["Qwen2ForCausalLM"],)" + qwen2 + "}")->kv_width(),
      32);
  EXPECT_EQ(ReasonOfParsing(R"({"model_type":"qwen2","use_sliding_window":true,)" + qwen2 + "}"),
            "MODEL_UNSUPPORTED");
}

TEST(TransformerConfigTest, UnknownArchitecturesAndOptionsAreNamed) {
  EXPECT_THAT(MessageOfParsing(R"({"model_type":"bert"})"), HasSubstr("found 'bert'"));
  for (const char* option : {R"("hidden_act":"gelu")", R"("rope_scaling":{"type":"linear"})",
                             R"("sliding_window":16)"}) {
    EXPECT_EQ(ReasonOfParsing(Llama(option)), "MODEL_UNSUPPORTED") << option;
  }
  EXPECT_EQ(ReasonOfParsing(Llama(R"("rope_scaling":null)")), "");
  EXPECT_EQ(ReasonOfParsing(R"({"model_type":"opt","hidden_size":12,"num_hidden_layers":2,
      "num_attention_heads":3,"ffn_dim":20,"vocab_size":17,"word_embed_proj_dim":6})"),
            "MODEL_UNSUPPORTED");
}

double ThetaOf(const std::string& option) {
  const auto config = ParseTransformerConfig(Llama(option));
  EXPECT_TRUE(config.ok()) << config.status();
  return config.ok() ? config->rope_theta : -1;
}

// transformers 4 and 5 write the same in different places.
TEST(TransformerConfigTest, RotaryPositionsAreReadInEverySpelling) {
  for (const char* option :
       {R"("rope_theta":500000.0)", R"("rope_parameters":{"rope_theta":500000.0})",
        R"("rope_parameters":{"rope_theta":500000.0,"rope_type":"default"})",
        R"("rope_parameters":{"full_attention":{"rope_theta":500000.0,"rope_type":"default"}})",
        R"("rope_theta":500000,"rope_parameters":{"rope_theta":500000.0,"factor":null})",
        R"("rope_theta":500000.0,"rope_scaling":{"rope_type":"default"})",
        R"("rope_theta":500000.0,"rope_scaling":{"type":"default"})",
        R"("rope_scaling":{"rope_theta":500000.0,"partial_rotary_factor":1.0})",
        R"("rope_theta":500000.0,"rope_parameters":null,"rope_scaling":null)",
        R"("rope_theta":500000.0,"partial_rotary_factor":1.0,"layer_types":["full_attention"])",
        R"("rope_theta":500000.0,"sliding_window":16,"use_sliding_window":false)"}) {
    EXPECT_EQ(ThetaOf(option), 500000) << option;
  }
  EXPECT_EQ(ThetaOf(R"("rope_parameters":{"rope_type":"default"})"), 10000);
}

TEST(TransformerConfigTest, WhatIsComputedInAnotherWayIsRefusedByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"("rope_parameters":{"rope_theta":500000.0,"rope_type":"llama3","factor":8.0})", "llama3"},
      {R"("rope_scaling":{"type":"yarn","factor":4.0})", "yarn"},
      {R"("rope_scaling":{"rope_type":"dynamic"})", "dynamic"},
      {R"("rope_scaling":{"factor":2.0})", "factor"},
      {R"("rope_parameters":{"rope_theta":1.0,"mscale":2})", "mscale"},
      {R"("rope_parameters":{"rope_theta":1.0,"partial_rotary_factor":0.5})",
       "partial_rotary_factor"},
      {R"("partial_rotary_factor":0.25)", "partial_rotary_factor"},
      {R"("rope_parameters":{"full_attention":{"rope_theta":1.0},"sliding_attention":{}})",
       "full_attention"},
      {R"("rope_parameters":{"sliding_attention":{"rope_theta":1.0}})", "sliding_attention"},
      {R"("rope_parameters":{"full_attention":{"rope_type":"linear"}})", "linear"},
      {R"("sliding_window":16,"layer_types":["full_attention","sliding_attention"])",
       "sliding_attention"},
      {R"("layer_types":["linear_attention"])", "linear_attention"},
      {R"("quantization_config":{"bits":4})", "quantization_config"},
      {R"("attn_logit_softcapping":50.0)", "attn_logit_softcapping"},
      {R"("embedding_multiplier":12.0)", "embedding_multiplier"},
  };
  for (const auto& [option, name] : cases) {
    const auto config = ParseTransformerConfig(Llama(option));
    EXPECT_EQ(base::ReasonOf(config.status()), "MODEL_UNSUPPORTED") << option;
    EXPECT_THAT(base::MessageOf(config.status()), ::testing::HasSubstr(name));
  }
  for (const char* option :
       {R"("rope_theta":1.0,"rope_parameters":{"rope_theta":2.0})", R"("rope_parameters":7)",
        R"("rope_parameters":{"rope_theta":"x"})", R"("rope_parameters":{"rope_type":1})"}) {
    EXPECT_EQ(ReasonOfParsing(Llama(option)), "CONFIG_INVALID") << option;
  }
}

TEST(TransformerConfigTest, ValuesOutOfRangeAreNamed) {
  EXPECT_THAT(MessageOfParsing(R"({"model_type":"llama"})"), HasSubstr("'hidden_size'"));
  EXPECT_THAT(MessageOfParsing(Llama(R"("num_key_value_heads":3)")), HasSubstr("must divide"));
  for (const char* value :
       {R"("num_key_value_heads":0)", R"("num_key_value_heads":-1)", R"("num_key_value_heads":1.5)",
        R"("num_key_value_heads":18446744073709551615)", R"("rms_norm_eps":0)",
        R"("rms_norm_eps":"x")", R"("rope_theta":-1)", R"("bos_token_id":512)",
        R"("tie_word_embeddings":1)", R"("head_dim":7)", R"("head_dim":1048576)",
        R"("max_position_embeddings":1e300)", R"("hidden_size":64)"}) {
    EXPECT_EQ(ReasonOfParsing(Llama(value)), "CONFIG_INVALID") << value;
  }
}

TEST(TransformerConfigTest, OnlyJsonObjectsOfSomeDepthAreRead) {
  EXPECT_EQ(ReasonOfParsing(""), "CONFIG_INVALID");
  EXPECT_EQ(ReasonOfParsing("[]"), "CONFIG_INVALID");
  EXPECT_EQ(ReasonOfParsing(Llama().substr(0, 50)), "CONFIG_INVALID");
  EXPECT_EQ(ReasonOfParsing(Llama("\"x\":" + std::string(100'000, '['))), "CONFIG_INVALID");
  EXPECT_EQ(ReasonOfParsing(std::string(kMaxConfigBytes + 1, ' ')), "CONFIG_INVALID");
}

}  // namespace
}  // namespace espalier::language
