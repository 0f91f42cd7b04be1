// LanguageEngine: the forward pass of a transformer, block by block, so that the weights of one
// block are all that is in memory.
//
//   engine = LanguageEngine::Create(config, tokens, threads)
//   hidden = engine->Embed(outer, sequences)
//   for each block: loaded = engine->Load(weights); engine->Run(*loaded, hidden, observer)
//   losses = engine->Losses(outer, hidden)
//
// Shapes:      activations are feature-major: [features][stride()], one column per token, the
//              tokens of one sequence next to each other, sequences one after the other. Columns
//              from `tokens` on hold anything finite.
// Memory:      Run() works on everything in a HiddenState at once: about 4 · stride() · (3 · hidden
//              + 3 · query width + 2 · intermediate) bytes, beside the block itself. Attention
//              takes context floats per thread. Calibration on many sequences keeps one HiddenState
//              of 4 · stride() · hidden bytes for each batch of them.
// Threading:   one caller at a time; `threads` OpenMP threads.
// Determinism: the same calls give the same bits for any number of threads. What a token gets does
//              not depend on other sequences, but dense products may round differently in batches
//              of another size: give every sequence a HiddenState of its own where results must not
//              depend on how sequences are divided.
// Errors:      InvalidArgument LANGUAGE_INPUT (tokens out of range, too long, none), SHAPE_MISMATCH
//              (weights that do not fit the config).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/language/architecture/transformer_config.h"
#include "common/language/checkpoint_reader.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/spec.h"

namespace espalier::worker::language {

// What common/language has: configurations, weights, tokenizers.
namespace model = ::espalier::language;

// Where sequence s stands: columns [begin[s], begin[s + 1]). One entry more than sequences.
using SequenceBounds = std::vector<int64_t>;

// The residual stream of some sequences between two blocks: [hidden][stride].
struct HiddenState {
  engine::AlignedBuffer values;
  SequenceBounds bounds;
  std::vector<int32_t> tokens;  // in the order of the columns
  int64_t stride = 0;

  int64_t size() const { return bounds.empty() ? 0 : bounds.back(); }
};

// What a linear layer is given. Borrowed for the call.
struct LinearInput {
  size_t linear = 0;         // in BlockLinears()
  std::string_view name;     // "self_attn.q_proj"
  const float* x = nullptr;  // [inputs][stride]; row n is all of input column n
  int64_t inputs = 0;
  int64_t stride = 0;
  int64_t tokens = 0;  // columns that count
  const SequenceBounds* bounds = nullptr;
  // The layer before this one had the very same input (key and value after query, up after gate):
  // statistics of it may be shared.
  bool same_as_previous = false;
};

// Called for each linear layer just before it is computed, in the order of BlockLinears().
using LinearObserver = std::function<void(const LinearInput&)>;

// Sums over the columns of one sequence.
struct SequenceLoss {
  double nll_sum = 0;  // Σ −ln p(target), nats
  int64_t predicted = 0;
  int64_t correct = 0;  // arg max = target, the lowest number on ties
};

// The weights of one block with its products planned; see LanguageEngine::Load().
class LoadedBlock {
 public:
  virtual ~LoadedBlock() = default;
  virtual const model::BlockWeights& weights() const = 0;
  // Takes the weights out, for example to change them and load them again; the block is spent.
  virtual model::BlockWeights Take() = 0;
};

class LanguageEngine {
 public:
  // `max_tokens`: most columns of a HiddenState, ≥ 1.
  static absl::StatusOr<std::unique_ptr<LanguageEngine>> Create(
      const model::TransformerConfig& config, int64_t max_tokens, int threads,
      engine::BackendKind backend = engine::BackendKind::kOneDnn);
  virtual ~LanguageEngine() = default;

  virtual const model::TransformerConfig& config() const = 0;
  // Distance in floats between the features of activations.
  virtual int64_t stride() const = 0;

  // Embeds sequences of at most config().context tokens, together at most max_tokens.
  virtual absl::StatusOr<HiddenState> Embed(
      const model::OuterWeights& outer, std::span<const std::vector<int32_t>> sequences) const = 0;

  // Takes the weights of a block and plans its products. Linear layers with a topology run sparse.
  virtual absl::StatusOr<std::unique_ptr<LoadedBlock>> Load(model::BlockWeights weights) = 0;

  // Moves `hidden` through the block. `observer` may be empty.
  virtual void Run(LoadedBlock& block, HiddenState& hidden,
                   const LinearObserver& observer = {}) = 0;
  // Shows the observer what Run() would, and leaves `hidden` as it is. The last product, which
  // nothing depends on, is not computed.
  virtual void Observe(LoadedBlock& block, const HiddenState& hidden,
                       const LinearObserver& observer) = 0;

  // After the last block, for each sequence. `targets` has one token per column; a negative one is
  // left out.
  virtual absl::StatusOr<std::vector<SequenceLoss>> Losses(const model::OuterWeights& outer,
                                                           const HiddenState& hidden,
                                                           std::span<const int32_t> targets) = 0;
  // After the last block: the logits [vocabulary] of one column.
  virtual std::vector<float> Logits(const model::OuterWeights& outer, const HiddenState& hidden,
                                    int64_t column) = 0;

  // One sequence continued greedily: the arg max (lowest number on ties) `count` times, or until
  // `stop_token` (−1: none) was given or config().context is reached. Keys and values of earlier
  // tokens are kept: 8 · kv width · context bytes per block. All blocks are in memory.
  virtual absl::StatusOr<std::vector<int32_t>> Generate(
      const model::OuterWeights& outer, std::span<const std::unique_ptr<LoadedBlock>> blocks,
      std::span<const int32_t> prompt, int64_t count, int32_t stop_token = -1) = 0;
};

}  // namespace espalier::worker::language
