// One layer: from its weights and the statistics of its inputs to what is left of it.
//
// Shapes:      rows × columns, row by row.
// Memory:      a few copies of the layer; SparseGPT's matrices (sparsegpt.h).
// Determinism: independent of `threads`.
// Errors:      InvalidArgument PATTERN_WIDTH; FailedPrecondition HESSIAN_SINGULAR,
//              NO_CALIBRATION_DATA.
#pragma once

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/sparsity/pruning/activation_statistics.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/pruning/settings.h"

namespace espalier::server::methods {

// Relative to the output of the whole layer.
struct LayerError {
  double output = 0;  // ‖(W − W')X‖ / ‖WX‖
  // The part of it that the inputs' mean alone makes, √tokens · ‖(W − W')·mean(x)‖ / ‖WX‖. DSnoT
  // looks at nothing else; the rest is √(output² − expected²).
  double expected = 0;
};

struct PrunedLayer {
  std::vector<float> values;  // pruned ones are zero
  sparsity::Mask mask;
  int64_t exchanged = 0;
  // Only with layer_errors; the initial one only when the mask was refined.
  std::optional<LayerError> error;
  std::optional<LayerError> initial_error;
};

// `refine` says whether this layer is one that DSnoT refines.
absl::StatusOr<PrunedLayer> PruneLayer(const sparsity::WeightsView& weights,
                                       const sparsity::ActivationStatistics& statistics,
                                       const PruningSettings& settings, bool refine, int threads);

// What happened to the layer, in its summary.
void Describe(const PrunedLayer& pruned, v1::LayerSummary& summary);

// Threads for a layer's rows on this machine.
int PruningThreads();

}  // namespace espalier::server::methods
