// Perplexity of a transformer over a corpus, with the weights of one block in memory at a time.
//
// Definition:  windows of `context` inputs begin every `stride` tokens; the target of an input is
//              the token that follows it, so that all tokens but the first are predicted once.
//              With stride < context, windows overlap and only targets that no earlier window had
//              count: each is predicted from at least context − stride tokens (but for the first
//              window). The last window may be shorter. perplexity = exp(Σ −ln p / predicted).
// Memory:      windows are worked on in groups of at most `group_bytes` of residual stream; each
//              group reads all blocks once.
// Determinism: as LanguageEngine; sums run in the order of windows.
// Errors:      InvalidArgument TEXT_TOO_SHORT for fewer than two tokens, PERPLEXITY_PARAMETER;
//              those of the engine and the reader. Cancelled when `cancelled` becomes true.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/statusor.h"
#include "worker/language/language_engine.h"

namespace espalier::worker::language {

struct PerplexityOptions {
  int64_t context = 0;  // 0: the model's
  int64_t stride = 0;   // 0: context
  int64_t group_bytes = int64_t{256} << 20;
  const std::atomic<bool>* cancelled = nullptr;
};

struct PerplexityResult {
  double nll_sum = 0;  // nats
  int64_t predicted = 0;
  int64_t correct = 0;  // arg max = target
  double mean_nll() const;
  double perplexity() const;
};

// The weights of block i, for example of a CheckpointReader.
using BlockSource = std::function<absl::StatusOr<model::BlockWeights>(int64_t block)>;

absl::StatusOr<PerplexityResult> ComputePerplexity(const model::TransformerConfig& config,
                                                   const model::OuterWeights& outer,
                                                   const BlockSource& blocks,
                                                   std::span<const int32_t> tokens, int threads,
                                                   const PerplexityOptions& options = {});

}  // namespace espalier::worker::language
