// Small random transformers, and a naive forward pass of them in double precision.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/checkpoint_writer.h"

namespace espalier::support {

struct LanguageModel {
  language::TransformerConfig config;
  language::OuterWeights outer;
  std::vector<language::BlockWeights> blocks;
};

// config.json of a small model of each family.
inline std::string SmallConfig(const std::string& family) {
  if (family == "gpt2") {
    return R"({"model_type":"gpt2","n_embd":12,"n_layer":2,"n_head":3,"vocab_size":17,
               "n_positions":20,"activation_function":"gelu_new","bos_token_id":1})";
  }
  if (family == "opt") {
    return R"({"model_type":"opt","hidden_size":12,"num_hidden_layers":2,"num_attention_heads":2,
               "ffn_dim":20,"vocab_size":17,"max_position_embeddings":20,
               "word_embed_proj_dim":12,"activation_function":"relu"})";
  }
  if (family == "qwen2") {
    return R"({"model_type":"qwen2","hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,
               "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":17,
               "max_position_embeddings":20,"tie_word_embeddings":true})";
  }
  return R"({"model_type":"llama","hidden_size":16,"intermediate_size":24,"num_hidden_layers":2,
             "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":17,
             "max_position_embeddings":20,"rms_norm_eps":1e-5,"tie_word_embeddings":false})";
}

inline std::vector<float> RandomVector(int64_t size, double mean, double deviation,
                                       base::Rng& rng) {
  std::vector<float> values(static_cast<size_t>(size));
  for (float& value : values) value = static_cast<float>(mean + deviation * rng.Normal());
  return values;
}

// Random weights; `density` < 1 makes the linear layers sparse.
inline LanguageModel RandomLanguageModel(const std::string& config_json, uint64_t seed,
                                         double density = 1) {
  LanguageModel model;
  model.config = language::ParseTransformerConfig(config_json).value();
  const language::TransformerConfig& config = model.config;
  base::Rng rng(base::StreamKey(seed, "language model"));
  const int64_t hidden = config.hidden;
  const language::OuterNames names = language::OuterTensors(config);
  model.outer.embedding = RandomVector(config.vocabulary * hidden, 0, 0.5, rng);
  if (!names.positions.name.empty()) {
    model.outer.positions =
        RandomVector((config.context + config.position_offset) * hidden, 0, 0.3, rng);
    model.outer.final_norm_bias = RandomVector(hidden, 0, 0.2, rng);
  }
  model.outer.final_norm = RandomVector(hidden, 1, 0.2, rng);
  if (!config.tied) model.outer.output = RandomVector(config.vocabulary * hidden, 0, 0.5, rng);
  for (int64_t b = 0; b < config.blocks; ++b) {
    language::BlockWeights& block = model.blocks.emplace_back();
    block.attention_norm = RandomVector(hidden, 1, 0.2, rng);
    block.mlp_norm = RandomVector(hidden, 1, 0.2, rng);
    if (!config.rms_norm()) {
      block.attention_norm_bias = RandomVector(hidden, 0, 0.2, rng);
      block.mlp_norm_bias = RandomVector(hidden, 0, 0.2, rng);
    }
    for (const language::LinearLayerSpec& spec : language::BlockLinears(config)) {
      language::LinearWeights& linear = block.linears.emplace_back();
      linear.spec = spec;
      linear.values = RandomVector(spec.outputs * spec.inputs, 0, 0.4, rng);
      if (spec.bias) linear.bias = RandomVector(spec.outputs, 0, 0.2, rng);
      if (density >= 1) continue;
      for (float& value : linear.values) {
        if (rng.Uniform() >= density) value = 0;
      }
      (void)language::MakeSparse(linear);
    }
  }
  return model;
}

// Saves a model; aborts on errors, as it is for tests.
inline absl::Status SaveLanguageModel(const LanguageModel& model, const std::string& directory,
                                      language::CheckpointWriterOptions options = {}) {
  auto writer = language::CheckpointWriter::Create(io::PosixFileSystem(), directory, model.config,
                                                   std::move(options));
  if (!writer.ok()) return writer.status();
  if (absl::Status status = (*writer)->WriteOuter(model.outer); !status.ok()) return status;
  for (const language::BlockWeights& block : model.blocks) {
    if (absl::Status status = (*writer)->WriteBlock(block); !status.ok()) return status;
  }
  return (*writer)->Finish();
}

// Rows are tokens, here.
using Rows = std::vector<std::vector<double>>;

inline std::vector<double> NormalizedRow(const language::TransformerConfig& config,
                                         const std::vector<double>& x,
                                         const std::vector<float>& weight,
                                         const std::vector<float>& bias) {
  const auto n = static_cast<double>(x.size());
  double mean = 0;
  for (const double v : x) mean += config.rms_norm() ? 0.0 : v / n;
  double square = 0;
  for (const double v : x) square += (v - mean) * (v - mean) / n;
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = (x[i] - mean) / std::sqrt(square + config.norm_epsilon) * weight[i] +
           (bias.empty() ? 0.0 : bias[i]);
  }
  return y;
}

inline Rows LinearRows(const language::LinearWeights& linear, const Rows& x) {
  const std::vector<float> dense = language::DenseValues(linear);
  const auto inputs = static_cast<size_t>(linear.spec.inputs);
  Rows y(x.size(), std::vector<double>(static_cast<size_t>(linear.spec.outputs)));
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t o = 0; o < y[t].size(); ++o) {
      double sum = linear.bias.empty() ? 0.0 : linear.bias[o];
      for (size_t i = 0; i < inputs; ++i) sum += x[t][i] * dense[o * inputs + i];
      y[t][o] = sum;
    }
  }
  return y;
}

inline void RotateRows(const language::TransformerConfig& config, int64_t heads, Rows& x) {
  const auto half = static_cast<size_t>(config.head_size / 2);
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t h = 0; h < static_cast<size_t>(heads); ++h) {
      for (size_t d = 0; d < half; ++d) {
        const double angle = static_cast<double>(t) *
                             std::pow(config.rope_theta, -2.0 * static_cast<double>(d) /
                                                             static_cast<double>(config.head_size));
        double& low = x[t][h * 2 * half + d];
        double& high = x[t][h * 2 * half + half + d];
        const double a = low;
        low = a * std::cos(angle) - high * std::sin(angle);
        high = high * std::cos(angle) + a * std::sin(angle);
      }
    }
  }
}

inline Rows AttendRows(const language::TransformerConfig& config, const Rows& q, const Rows& k,
                       const Rows& v) {
  const auto size = static_cast<size_t>(config.head_size);
  const auto group = static_cast<size_t>(config.heads / config.kv_heads);
  Rows out(q.size(), std::vector<double>(static_cast<size_t>(config.query_width())));
  for (size_t t = 0; t < q.size(); ++t) {
    for (size_t h = 0; h < static_cast<size_t>(config.heads); ++h) {
      const size_t kv = h / group * size;
      std::vector<double> p(t + 1);
      double sum = 0;
      for (size_t j = 0; j <= t; ++j) {
        double score = 0;
        for (size_t d = 0; d < size; ++d) score += q[t][h * size + d] * k[j][kv + d];
        p[j] = std::exp(score / std::sqrt(static_cast<double>(size)));
        sum += p[j];
      }
      for (size_t j = 0; j <= t; ++j) {
        for (size_t d = 0; d < size; ++d) out[t][h * size + d] += p[j] / sum * v[j][kv + d];
      }
    }
  }
  return out;
}

inline double ActivationOf(language::FeedForward kind, double x) {
  switch (kind) {
    case language::FeedForward::kRelu:
      return x > 0 ? x : 0;
    case language::FeedForward::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case language::FeedForward::kGeluTanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    default:
      return x / (1 + std::exp(-x));
  }
}

inline void AddRowsTo(const Rows& x, Rows& y) {
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t i = 0; i < x[t].size(); ++i) y[t][i] += x[t][i];
  }
}

inline Rows Columns(const Rows& x, size_t first, int64_t count) {
  Rows part;
  for (const auto& row : x) {
    part.emplace_back(row.begin() + static_cast<int64_t>(first),
                      row.begin() + static_cast<int64_t>(first) + count);
  }
  return part;
}

inline void RunBlockRows(const language::TransformerConfig& config,
                         const language::BlockWeights& block, Rows& x) {
  Rows normed;
  for (const auto& row : x) {
    normed.push_back(NormalizedRow(config, row, block.attention_norm, block.attention_norm_bias));
  }
  const bool fused = block.linears[0].spec.role == language::LinearRole::kQueryKeyValue;
  const auto width = static_cast<size_t>(config.hidden);
  const Rows first = LinearRows(block.linears[0], normed);
  Rows q = fused ? Columns(first, 0, config.hidden) : first;
  Rows k = fused ? Columns(first, width, config.hidden) : LinearRows(block.linears[1], normed);
  const Rows v =
      fused ? Columns(first, 2 * width, config.hidden) : LinearRows(block.linears[2], normed);
  if (config.rotary()) {
    RotateRows(config, config.heads, q);
    RotateRows(config, config.kv_heads, k);
  }
  size_t linear = fused ? 1 : 3;
  AddRowsTo(LinearRows(block.linears[linear++], AttendRows(config, q, k, v)), x);
  for (size_t t = 0; t < x.size(); ++t) {
    normed[t] = NormalizedRow(config, x[t], block.mlp_norm, block.mlp_norm_bias);
  }
  Rows inner = LinearRows(block.linears[linear++], normed);
  for (auto& row : inner) {
    for (double& value : row) value = ActivationOf(config.feed_forward, value);
  }
  if (config.feed_forward == language::FeedForward::kSwiGlu) {
    const Rows up = LinearRows(block.linears[linear++], normed);
    for (size_t t = 0; t < inner.size(); ++t) {
      for (size_t i = 0; i < inner[t].size(); ++i) inner[t][i] *= up[t][i];
    }
  }
  AddRowsTo(LinearRows(block.linears[linear], inner), x);
}

// Logits [tokens][vocabulary].
inline Rows ReferenceLogits(const LanguageModel& model, const std::vector<int32_t>& tokens) {
  const language::TransformerConfig& config = model.config;
  const auto hidden = static_cast<size_t>(config.hidden);
  Rows x;
  for (size_t t = 0; t < tokens.size(); ++t) {
    std::vector<double>& row = x.emplace_back(hidden);
    for (size_t d = 0; d < hidden; ++d) {
      row[d] = model.outer.embedding[static_cast<size_t>(tokens[t]) * hidden + d];
      if (!model.outer.positions.empty()) {
        const size_t position = t + static_cast<size_t>(config.position_offset);
        row[d] += model.outer.positions[position * hidden + d];
      }
    }
  }
  for (const language::BlockWeights& block : model.blocks) RunBlockRows(config, block, x);
  const std::vector<float>& output = config.tied ? model.outer.embedding : model.outer.output;
  Rows logits;
  for (const auto& row : x) {
    const auto normed =
        NormalizedRow(config, row, model.outer.final_norm, model.outer.final_norm_bias);
    std::vector<double>& line = logits.emplace_back(static_cast<size_t>(config.vocabulary));
    for (size_t v = 0; v < line.size(); ++v) {
      for (size_t d = 0; d < hidden; ++d) line[v] += normed[d] * output[v * hidden + d];
    }
  }
  return logits;
}

// −ln softmax(logits)[target].
inline double ReferenceLoss(const std::vector<double>& logits, int32_t target) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  return std::log(sum) - logits[static_cast<size_t>(target)];
}

}  // namespace espalier::support
