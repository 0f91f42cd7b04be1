// What the parameters of a pruning method say.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/config/parameters.h"
#include "common/sparsity/pruning/dsnot.h"
#include "common/sparsity/pruning/mask.h"

namespace espalier::server::methods {

enum class PruningCriterion { kMagnitude, kWanda, kSparseGpt };
// Halves of a transformer's block.
enum class BlockHalf { kNone, kAttention, kFeedForward, kBoth };

struct PruningSettings {
  PruningCriterion criterion = PruningCriterion::kWanda;
  sparsity::Pattern pattern;
  bool cumulative = false;  // Wanda: rows lose different numbers, see WandaCumulativeMask()
  bool layer_errors = false;
  BlockHalf skipped = BlockHalf::kNone;  // stays dense
  // SparseGPT.
  double damping = 0.01;
  int64_t block = 128;
  // DSnoT: refine the mask that the criterion chooses, which then changes no weight.
  bool refine = false;
  BlockHalf refined = BlockHalf::kAttention;
  sparsity::DsnotOptions dsnot;
  bool sign_check_is_auto = false;  // networks that are no language models then check
};

// Tokens of the sequences that DSnoT's threshold is stated for; it scales with their length.
inline constexpr double kThresholdTokens = 2048;

// Parameters of all pruning methods, then those of one. `method` is magnitude, wanda, sparsegpt or
// dsnot.
config::ParameterSchema PruningParameters(const std::string& method);
PruningSettings PruningSettingsOf(const std::string& method, const config::Parameters& parameters);

// Whether statistics need the Gram matrix.
bool NeedsGram(const PruningSettings& settings);

}  // namespace espalier::server::methods
