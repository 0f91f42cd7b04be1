#include "worker/language/language_engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "worker/engine/activation.h"
#include "worker/engine/backend.h"
#include "worker/engine/kernels/kernels.h"
#include "worker/engine/loss.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/parallel.h"
#include "worker/engine/reference/reference_backend.h"
#include "worker/engine/sequence/attention.h"
#include "worker/engine/sequence/gates.h"
#include "worker/engine/sequence/norms.h"
#include "worker/engine/sequence/rotary.h"

namespace espalier::worker::language {
namespace {

using engine::AlignedBuffer;
using engine::ParallelRows;
using engine::RowRange;
using model::LinearRole;

// Columns whose logits are in memory at a time.
constexpr int64_t kLogitColumns = 64;

absl::Status InputError(const std::string& what) {
  return base::InvalidArgument("LANGUAGE_INPUT", what);
}

// Keys and values of the tokens so far, [kv width][context] each, of one block.
struct KeptKeys {
  AlignedBuffer keys;
  AlignedBuffer values;
  int64_t capacity = 0;
};

class Block final : public LoadedBlock {
 public:
  explicit Block(model::BlockWeights weights) : weights_(std::move(weights)) {}
  const model::BlockWeights& weights() const override { return weights_; }
  model::BlockWeights Take() override { return std::move(weights_); }

  absl::Status Plan(engine::Backend& backend, int64_t stride, int64_t width) {
    for (const model::LinearWeights& linear : weights_.linears) {
      products_.emplace_back();
      if (linear.topology == nullptr) {
        ESPALIER_RETURN_IF_ERROR(backend.PlanGemm(Shape(linear.spec, stride, width)));
        continue;
      }
      ESPALIER_ASSIGN_OR_RETURN(products_.back(), backend.PlanSparse(linear.topology, stride));
    }
    return absl::OkStatus();
  }

  // y = W x + b in the first `width` columns.
  void Multiply(engine::Backend& backend, size_t linear, const float* x, int64_t stride,
                int64_t width, float* y, int threads) {
    const model::LinearWeights& weights = weights_.linears[linear];
    if (products_[linear] != nullptr) {
      products_[linear]->Multiply(weights.values.data(), x, width, y);
    } else {
      backend.Gemm(Shape(weights.spec, stride, width), weights.values.data(), x, y);
    }
    if (weights.bias.empty()) return;
    ParallelRows(threads, weights.spec.outputs, [&](RowRange rows) {
      engine::BiasActivate(engine::Activation::kLinear, weights.bias.data(), y, stride, width,
                           rows);
    });
  }

 private:
  static engine::GemmShape Shape(const model::LinearLayerSpec& spec, int64_t stride,
                                 int64_t width) {
    return {.m = spec.outputs,
            .n = width,
            .k = spec.inputs,
            .lda = spec.inputs,
            .ldb = stride,
            .ldc = stride};
  }

  model::BlockWeights weights_;
  std::vector<std::unique_ptr<engine::SparseProduct>> products_;  // null: dense
};

absl::Status CheckWeights(const model::TransformerConfig& config,
                          const model::BlockWeights& weights) {
  const std::vector<model::LinearLayerSpec> specs = model::BlockLinears(config);
  const auto hidden = static_cast<size_t>(config.hidden);
  const size_t bias = config.rms_norm() ? 0 : hidden;
  bool fits = weights.linears.size() == specs.size() && weights.attention_norm.size() == hidden &&
              weights.mlp_norm.size() == hidden && weights.attention_norm_bias.size() == bias &&
              weights.mlp_norm_bias.size() == bias;
  for (size_t i = 0; fits && i < specs.size(); ++i) {
    const model::LinearWeights& linear = weights.linears[i];
    const int64_t stored =
        linear.topology == nullptr ? specs[i].outputs * specs[i].inputs : linear.topology->nnz();
    fits = linear.spec.role == specs[i].role && linear.spec.outputs == specs[i].outputs &&
           linear.spec.inputs == specs[i].inputs &&
           static_cast<int64_t>(linear.values.size()) == stored &&
           (linear.topology == nullptr || (linear.topology->rows() == specs[i].outputs &&
                                           linear.topology->cols() == specs[i].inputs)) &&
           linear.bias.size() == (specs[i].bias ? static_cast<size_t>(specs[i].outputs) : 0);
  }
  if (fits) return absl::OkStatus();
  return base::InvalidArgument(
      "SHAPE_MISMATCH",
      "expected the weights of a block of this configuration, found other shapes");
}

class Engine final : public LanguageEngine {
 public:
  Engine(model::TransformerConfig config, int64_t max_tokens, int threads,
         std::unique_ptr<engine::Backend> backend)
      : config_(std::move(config)),
        max_tokens_(max_tokens),
        stride_(engine::PaddedStride(max_tokens)),
        threads_(threads),
        backend_(std::move(backend)),
        normed_(config_.hidden * stride_),
        delta_(config_.hidden * stride_),
        middle_(config_.hidden * stride_),
        qkv_((config_.query_width() + 2 * config_.kv_width()) * stride_),
        mixed_(config_.query_width() * stride_),
        up_(config_.intermediate * stride_),
        gate_(config_.feed_forward == model::FeedForward::kSwiGlu ? config_.intermediate * stride_
                                                                  : 0) {
    if (config_.rotary()) {
      rotary_.emplace(config_.head_size, config_.context, config_.rope_theta);
    }
  }

  const model::TransformerConfig& config() const override { return config_; }
  int64_t stride() const override { return stride_; }

  absl::StatusOr<HiddenState> Embed(const model::OuterWeights& outer,
                                    std::span<const std::vector<int32_t>> sequences) const override;

  absl::StatusOr<std::unique_ptr<LoadedBlock>> Load(model::BlockWeights weights) override {
    ESPALIER_RETURN_IF_ERROR(CheckWeights(config_, weights));
    auto block = std::make_unique<Block>(std::move(weights));
    ESPALIER_RETURN_IF_ERROR(block->Plan(*backend_, stride_, engine::WholeLanes(max_tokens_)));
    return block;
  }

  void Run(LoadedBlock& block, HiddenState& hidden, const LinearObserver& observer) override {
    float* x = hidden.values.data();
    Forward({static_cast<Block&>(block), hidden, observer}, x, x, true);
  }

  void Observe(LoadedBlock& block, const HiddenState& hidden,
               const LinearObserver& observer) override {
    Forward({static_cast<Block&>(block), hidden, observer}, hidden.values.data(), middle_.data(),
            false);
  }

  absl::StatusOr<std::vector<SequenceLoss>> Losses(const model::OuterWeights& outer,
                                                   const HiddenState& hidden,
                                                   std::span<const int32_t> targets) override;
  std::vector<float> Logits(const model::OuterWeights& outer, const HiddenState& hidden,
                            int64_t column) override;
  absl::StatusOr<std::vector<int32_t>> Generate(
      const model::OuterWeights& outer, std::span<const std::unique_ptr<LoadedBlock>> blocks,
      std::span<const int32_t> prompt, int64_t count, int32_t stop_token) override;

 private:
  // What a pass through one block works on.
  struct Pass {
    Block& block;
    const HiddenState& hidden;
    const LinearObserver& observer;
    KeptKeys* kept = nullptr;  // of one sequence
    int64_t past = 0;          // its tokens so far
  };

  static int64_t WidthOf(const HiddenState& hidden) { return engine::WholeLanes(hidden.size()); }
  absl::Status CheckSequences(std::span<const std::vector<int32_t>> sequences) const;
  void EmbedColumn(const model::OuterWeights& outer, int32_t token, int64_t position,
                   int64_t column, HiddenState& hidden) const;
  void Normalize(const float* x, const std::vector<float>& weight, const std::vector<float>& bias,
                 int64_t width, float* y) const;
  // Shows the input of a linear layer and computes it.
  void Linear(const Pass& pass, size_t linear, const float* x, bool same, float* y) const;
  // Residual stream x → y through the block; without `finish` y ends up with attention only.
  void Forward(const Pass& pass, const float* x, float* y, bool finish);
  // Fills mixed_ from qkv_.
  void Attend(const Pass& pass);
  // Feed-forward layers on normed_; the result is in delta_ when `finish`.
  void FeedForwardLayers(const Pass& pass, size_t linear, bool finish);
  void AddDelta(const float* x, int64_t width, float* y) const;
  const float* OutputWeights(const model::OuterWeights& outer) const {
    return config_.tied ? outer.embedding.data() : outer.output.data();
  }
  // logits [vocabulary][kLogitColumns] of columns [first, first + width) of normed_.
  void LogitTile(const model::OuterWeights& outer, int64_t first, int64_t width, float* logits);

  model::TransformerConfig config_;
  int64_t max_tokens_;
  int64_t stride_;
  int threads_;
  std::unique_ptr<engine::Backend> backend_;
  std::optional<engine::Rotary> rotary_;
  AlignedBuffer normed_;
  AlignedBuffer delta_;
  AlignedBuffer middle_;
  AlignedBuffer qkv_;
  AlignedBuffer mixed_;
  AlignedBuffer up_;
  AlignedBuffer gate_;
};

absl::Status Engine::CheckSequences(std::span<const std::vector<int32_t>> sequences) const {
  int64_t total = 0;
  for (const std::vector<int32_t>& sequence : sequences) {
    const auto size = static_cast<int64_t>(sequence.size());
    if (size == 0 || size > config_.context) {
      return InputError(
          fmt::format("expected sequences of 1 to {} tokens, the model's context, "
                      "found one of {}; cut the text into shorter pieces",
                      config_.context, size));
    }
    total += size;
    for (const int32_t token : sequence) {
      if (token < 0 || token >= config_.vocabulary) {
        return InputError(
            fmt::format("expected tokens below {}, the model's vocabulary, found {}; "
                        "use the model's own tokenizer",
                        config_.vocabulary, token));
      }
    }
  }
  if (total == 0 || total > max_tokens_) {
    return InputError(
        fmt::format("expected 1 to {} tokens at a time, found {}", max_tokens_, total));
  }
  return absl::OkStatus();
}

void Engine::EmbedColumn(const model::OuterWeights& outer, int32_t token, int64_t position,
                         int64_t column, HiddenState& hidden) const {
  const float* embedding = outer.embedding.data() + token * config_.hidden;
  float* x = hidden.values.data() + column;
  for (int64_t d = 0; d < config_.hidden; ++d) x[d * stride_] = embedding[d];
  if (outer.positions.empty()) return;
  const float* row = outer.positions.data() + (position + config_.position_offset) * config_.hidden;
  for (int64_t d = 0; d < config_.hidden; ++d) x[d * stride_] += row[d];
}

absl::StatusOr<HiddenState> Engine::Embed(const model::OuterWeights& outer,
                                          std::span<const std::vector<int32_t>> sequences) const {
  ESPALIER_RETURN_IF_ERROR(CheckSequences(sequences));
  HiddenState hidden;
  hidden.stride = stride_;
  hidden.values = AlignedBuffer(config_.hidden * stride_);
  hidden.bounds = {0};
  for (const std::vector<int32_t>& sequence : sequences) {
    for (size_t i = 0; i < sequence.size(); ++i) {
      EmbedColumn(outer, sequence[i], static_cast<int64_t>(i),
                  static_cast<int64_t>(hidden.tokens.size()), hidden);
      hidden.tokens.push_back(sequence[i]);
    }
    hidden.bounds.push_back(static_cast<int64_t>(hidden.tokens.size()));
  }
  return hidden;
}

void Engine::Normalize(const float* x, const std::vector<float>& weight,
                       const std::vector<float>& bias, int64_t width, float* y) const {
  const engine::ColumnShape shape = {.features = config_.hidden, .stride = stride_, .width = width};
  if (config_.rms_norm()) {
    engine::RmsNorm(shape, x, weight.data(), config_.norm_epsilon, y, threads_);
  } else {
    engine::LayerNorm(shape, x, weight.data(), bias.data(), config_.norm_epsilon, y, threads_);
  }
}

void Engine::Linear(const Pass& pass, size_t linear, const float* x, bool same, float* y) const {
  if (pass.observer) {
    const model::LinearLayerSpec& spec = pass.block.weights().linears[linear].spec;
    pass.observer({.linear = linear,
                   .name = spec.name,
                   .x = x,
                   .inputs = spec.inputs,
                   .stride = stride_,
                   .tokens = pass.hidden.size(),
                   .bounds = &pass.hidden.bounds,
                   .same_as_previous = same});
  }
  if (y == nullptr) return;
  pass.block.Multiply(*backend_, linear, x, stride_, WidthOf(pass.hidden), y, threads_);
}

void Engine::Attend(const Pass& pass) {
  const engine::AttentionShape shape = {.heads = config_.heads,
                                        .kv_heads = config_.kv_heads,
                                        .head_size = config_.head_size,
                                        .stride = stride_};
  const SequenceBounds& bounds = pass.hidden.bounds;
  float* q = qkv_.data();
  float* k = q + config_.query_width() * stride_;
  float* v = k + config_.kv_width() * stride_;
  for (size_t s = 0; rotary_ && s + 1 < bounds.size(); ++s) {
    const int64_t count = bounds[s + 1] - bounds[s];
    rotary_->Apply(q, config_.heads, stride_, bounds[s], count, pass.past);
    rotary_->Apply(k, config_.kv_heads, stride_, bounds[s], count, pass.past);
  }
  if (pass.kept != nullptr) {
    const int64_t capacity = pass.kept->capacity;
    for (int64_t r = 0; r < config_.kv_width(); ++r) {
      const int64_t to = r * capacity + pass.past;
      std::copy_n(k + r * stride_, bounds.back(), pass.kept->keys.data() + to);
      std::copy_n(v + r * stride_, bounds.back(), pass.kept->values.data() + to);
    }
  }
  if (pass.past > 0) {
    engine::AttendOne(shape, q, pass.kept->keys.data(), pass.kept->values.data(),
                      pass.kept->capacity, pass.past + 1, mixed_.data(), threads_);
  } else {
    engine::Attention(shape, q, k, v, bounds, mixed_.data(), threads_);
  }
}

void Engine::FeedForwardLayers(const Pass& pass, size_t linear, bool finish) {
  const int64_t width = WidthOf(pass.hidden);
  const bool gated = config_.feed_forward == model::FeedForward::kSwiGlu;
  float* inner = up_.data();
  if (gated) {
    Linear(pass, linear++, normed_.data(), false, gate_.data());
    inner = gate_.data();
  }
  Linear(pass, linear++, normed_.data(), gated, up_.data());
  ParallelRows(threads_, config_.intermediate, [&](RowRange rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      float* row = inner + r * stride_;
      switch (config_.feed_forward) {
        case model::FeedForward::kSwiGlu:
          engine::SwiGlu(up_.data() + r * stride_, width, row);
          break;
        case model::FeedForward::kRelu:
          engine::BiasActivate(engine::Activation::kRelu, nullptr, row, stride_, width, {0, 1});
          break;
        case model::FeedForward::kGelu:
          engine::Gelu(width, row);
          break;
        case model::FeedForward::kGeluTanh:
          engine::GeluTanh(width, row);
          break;
      }
    }
  });
  Linear(pass, linear, inner, false, finish ? delta_.data() : nullptr);
}

void Engine::AddDelta(const float* x, int64_t width, float* y) const {
  ParallelRows(threads_, config_.hidden, [&](RowRange rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t row = r * stride_;
      for (int64_t c = 0; c < width; ++c) y[row + c] = x[row + c] + delta_.data()[row + c];
    }
  });
}

void Engine::Forward(const Pass& pass, const float* x, float* y, bool finish) {
  const model::BlockWeights& weights = pass.block.weights();
  const int64_t width = WidthOf(pass.hidden);
  Normalize(x, weights.attention_norm, weights.attention_norm_bias, width, normed_.data());
  size_t linear = 0;
  float* projected = qkv_.data();
  for (; weights.linears[linear].spec.role != LinearRole::kAttentionOutput; ++linear) {
    Linear(pass, linear, normed_.data(), linear > 0, projected);
    projected += weights.linears[linear].spec.outputs * stride_;
  }
  Attend(pass);
  Linear(pass, linear++, mixed_.data(), false, delta_.data());
  AddDelta(x, width, y);
  Normalize(y, weights.mlp_norm, weights.mlp_norm_bias, width, normed_.data());
  FeedForwardLayers(pass, linear, finish);
  if (finish) AddDelta(y, width, y);
}

void Engine::LogitTile(const model::OuterWeights& outer, int64_t first, int64_t width,
                       float* logits) {
  backend_->Gemm({.m = config_.vocabulary,
                  .n = width,
                  .k = config_.hidden,
                  .lda = config_.hidden,
                  .ldb = stride_,
                  .ldc = kLogitColumns},
                 OutputWeights(outer), normed_.data() + first, logits);
}

absl::StatusOr<std::vector<SequenceLoss>> Engine::Losses(const model::OuterWeights& outer,
                                                         const HiddenState& hidden,
                                                         std::span<const int32_t> targets) {
  if (static_cast<int64_t>(targets.size()) != hidden.size() ||
      std::ranges::any_of(targets, [&](int32_t t) { return t >= config_.vocabulary; })) {
    return InputError(fmt::format("expected {} targets below {}, found {} or one beyond",
                                  hidden.size(), config_.vocabulary, targets.size()));
  }
  const int64_t width = WidthOf(hidden);
  Normalize(hidden.values.data(), outer.final_norm, outer.final_norm_bias, width, normed_.data());
  AlignedBuffer logits(config_.vocabulary * kLogitColumns);
  std::vector<double> losses(targets.size(), 0.0);
  std::vector<char> correct(targets.size(), 0);
  for (int64_t first = 0; first < hidden.size(); first += kLogitColumns) {
    LogitTile(outer, first, std::min(kLogitColumns, width - first), logits.data());
    const int64_t columns = std::min(kLogitColumns, hidden.size() - first);
    ParallelRows(threads_, columns, [&](RowRange range) {
      const float* some = logits.data() + range.begin;
      const engine::ColumnSoftmax softmax = engine::SoftmaxOfColumns(
          some, config_.vocabulary, kLogitColumns, range.end - range.begin, nullptr);
      for (int64_t c = 0; c < range.end - range.begin; ++c) {
        const auto at = static_cast<size_t>(first + range.begin + c);
        const int32_t target = targets[at];
        if (target < 0) continue;
        losses[at] = softmax.top[c] + std::log(softmax.sum[c]) - some[target * kLogitColumns + c];
        correct[at] = softmax.best[c] == target ? 1 : 0;
      }
    });
  }
  std::vector<SequenceLoss> result(hidden.bounds.size() - 1);
  for (size_t s = 0; s < result.size(); ++s) {
    for (int64_t c = hidden.bounds[s]; c < hidden.bounds[s + 1]; ++c) {
      if (targets[static_cast<size_t>(c)] < 0) continue;
      result[s].nll_sum += losses[static_cast<size_t>(c)];
      result[s].correct += correct[static_cast<size_t>(c)];
      ++result[s].predicted;
    }
  }
  return result;
}

std::vector<float> Engine::Logits(const model::OuterWeights& outer, const HiddenState& hidden,
                                  int64_t column) {
  Normalize(hidden.values.data(), outer.final_norm, outer.final_norm_bias, WidthOf(hidden),
            normed_.data());
  AlignedBuffer logits(config_.vocabulary * kLogitColumns);
  // The group of lanes that the column is in.
  const int64_t first = column / engine::kLanes * engine::kLanes;
  LogitTile(outer, first, engine::kLanes, logits.data());
  std::vector<float> result(static_cast<size_t>(config_.vocabulary));
  for (size_t t = 0; t < result.size(); ++t) {
    result[t] = logits.data()[static_cast<int64_t>(t) * kLogitColumns + column - first];
  }
  return result;
}

absl::StatusOr<std::vector<int32_t>> Engine::Generate(
    const model::OuterWeights& outer, std::span<const std::unique_ptr<LoadedBlock>> blocks,
    std::span<const int32_t> prompt, int64_t count, int32_t stop_token) {
  if (static_cast<int64_t>(blocks.size()) != config_.blocks) {
    return InputError(
        fmt::format("expected {} loaded blocks, found {}", config_.blocks, blocks.size()));
  }
  const std::vector<int32_t> tokens(prompt.begin(), prompt.end());
  ESPALIER_ASSIGN_OR_RETURN(HiddenState hidden, Embed(outer, std::span(&tokens, 1)));
  const int64_t last = std::min(config_.context, hidden.size() + count);
  std::vector<KeptKeys> kept(blocks.size());
  for (KeptKeys& keys : kept) {
    keys.capacity = last;
    keys.keys = AlignedBuffer(config_.kv_width() * last);
    keys.values = AlignedBuffer(config_.kv_width() * last);
  }
  const LinearObserver none;
  std::vector<int32_t> generated;
  int64_t past = 0;
  while (true) {
    for (size_t b = 0; b < blocks.size(); ++b) {
      float* x = hidden.values.data();
      Forward({static_cast<Block&>(*blocks[b]), hidden, none, &kept[b], past}, x, x, true);
    }
    past += hidden.size();
    const std::vector<float> logits = Logits(outer, hidden, hidden.size() - 1);
    const auto token =
        static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (static_cast<int64_t>(generated.size()) >= count || token == stop_token) break;
    generated.push_back(token);
    if (past >= last) break;
    hidden.bounds = {0, 1};
    hidden.tokens = {token};
    EmbedColumn(outer, token, past, 0, hidden);
  }
  return generated;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LanguageEngine>> LanguageEngine::Create(
    const model::TransformerConfig& config, int64_t max_tokens, int threads,
    engine::BackendKind backend) {
  if (max_tokens < 1) {
    return InputError(fmt::format("expected at least one token at a time, found {}", max_tokens));
  }
  std::unique_ptr<engine::Backend> products = backend == engine::BackendKind::kOneDnn
                                                  ? engine::MakeOneDnnBackend(threads)
                                                  : engine::MakeReferenceBackend();
  return std::make_unique<Engine>(config, max_tokens, threads, std::move(products));
}

}  // namespace espalier::worker::language
