// TransformerConfig: what a config.json in Hugging Face's layout says of a decoder-only
// transformer, and the tensors that follow from it.
//
// Families:    llama (also mistral and qwen2): RMSNorm, rotary positions, grouped-query attention,
//              SwiGLU; qwen2 has biases of query, key and value.
//              gpt2: LayerNorm, learned positions, GELU, one fused weight for query, key and
//              value, weights stored inputs × outputs ("Conv1D").
//              opt: LayerNorm, learned positions with an offset of 2, ReLU or GELU.
// Threading:   plain values and pure functions.
// Errors:      InvalidArgument CONFIG_INVALID; MODEL_UNSUPPORTED for architectures and options
//              that are valid elsewhere but not computed here. Messages name the key, what was
//              expected, what was found and what to do.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::language {

// Whose names and shapes the tensors have.
enum class Architecture { kLlama, kGpt2, kOpt };

// kGelu is exact (erf), kGeluTanh the approximation that GPT-2 uses ("gelu_new").
enum class FeedForward { kSwiGlu, kRelu, kGelu, kGeluTanh };

struct TransformerConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t hidden = 0;        // width of the residual stream
  int64_t intermediate = 0;  // width of the feed-forward layers
  int64_t blocks = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_size = 0;
  int64_t vocabulary = 0;
  int64_t context = 0;  // most positions
  double norm_epsilon = 1e-5;
  double rope_theta = 10000;  // llama only
  FeedForward feed_forward = FeedForward::kSwiGlu;
  bool tied = false;           // the output weights are the embedding
  bool attention_bias = true;  // of query, key and value; llama: false unless the config says so
  bool attention_output_bias = true;  // the same, of the projection after attention
  bool mlp_bias = true;               // the same
  int64_t position_offset = 0;        // row of position 0 in the table of learned positions
  int64_t bos_token = -1;             // −1: none
  int64_t eos_token = -1;
  std::string json;  // the file as it was read, to be saved back

  bool rms_norm() const { return architecture == Architecture::kLlama; }
  bool rotary() const { return architecture == Architecture::kLlama; }
  int64_t query_width() const { return heads * head_size; }
  int64_t kv_width() const { return kv_heads * head_size; }
};

// Largest config.json that is read.
inline constexpr uint64_t kMaxConfigBytes = 1 << 20;

absl::StatusOr<TransformerConfig> ParseTransformerConfig(std::string_view json);

// config.json for a LLaMA-family model with these dimensions; the inverse of
// ParseTransformerConfig for them.
std::string LlamaConfigJson(const TransformerConfig& config);

// What a linear layer does in its block. kQueryKeyValue: GPT-2's fused weight, whose outputs are
// queries, then keys, then values.
enum class LinearRole {
  kQuery,
  kKey,
  kValue,
  kQueryKeyValue,
  kAttentionOutput,
  kGate,
  kUp,
  kDown,
};

// Whether a role belongs to the feed-forward half of a block ("mlp").
bool IsFeedForward(LinearRole role);

struct LinearLayerSpec {
  std::string name;  // within its block, without ".weight": "self_attn.q_proj"
  LinearRole role = LinearRole::kQuery;
  int64_t outputs = 0;
  int64_t inputs = 0;
  bool bias = false;
  bool transposed = false;  // stored inputs × outputs; in memory it is always outputs × inputs
};

// The linear layers of every block, in the order in which they are computed. Layers that share an
// input (query, key and value; gate and up) follow each other.
std::vector<LinearLayerSpec> BlockLinears(const TransformerConfig& config);

// "model.layers.3." for LLaMA. Names of the tensors of a block are this, then
// LinearLayerSpec::name, then ".weight" or ".bias".
std::string BlockPrefix(const TransformerConfig& config, int64_t block);

// A tensor as it is stored.
struct StoredTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// Normalisation parameters of a block: weight and, with LayerNorm, bias of the norm before
// attention, then of the one before the feed-forward layers.
std::vector<StoredTensor> BlockNorms(const TransformerConfig& config, int64_t block);

// Everything outside the blocks: embedding, positions, final norm, output weights unless tied.
struct OuterNames {
  StoredTensor embedding;
  StoredTensor positions;  // empty name: none
  StoredTensor final_norm;
  StoredTensor final_norm_bias;  // empty name: none
  StoredTensor output;           // empty name: tied
};
OuterNames OuterTensors(const TransformerConfig& config);

// kAsInFiles:    Hugging Face's, which has GPT-2's matrices inputs × outputs.
// kOutputsFirst: outputs × inputs everywhere, as checkpoints of training jobs have them.
enum class MatrixOrder { kAsInFiles, kOutputsFirst };

// All tensors, in the order in which they are saved.
std::vector<StoredTensor> AllTensors(const TransformerConfig& config,
                                     MatrixOrder order = MatrixOrder::kAsInFiles);

}  // namespace espalier::language
