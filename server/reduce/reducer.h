// Reducer folds the partials of one step into one result.
//
// Shapes:      values of a partial are in layout order; how many a step expects
//              is wire::ResultValues(): weights, weights and optimizer state, or running
//              statistics.
// Units:       `examples` counts training samples; losses are sums over examples.
// Ownership:   Merge() borrows the partial for the call. Finish() leaves this object spent.
// Memory:      O(model) + O(1) per participant for scalars; never O(participants × model).
// Threading:   not thread-safe; lives on its job's strand.
// Determinism: bit-identical for any order of Merge() calls, duplicates and retries.
// Errors:      Merge(): InvalidArgument on wrong count, position out of range or non-finite value,
// with a
//              reason (SHAPE_MISMATCH, NON_FINITE, VALUE_OUT_OF_RANGE, NO_EXAMPLES); state
//              unchanged. Never throws.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/sparsity/pruning/activation_statistics.h"
#include "common/tensor/model.h"

namespace espalier::server::reduce {

// Growth candidates of one tensor: inactive flat positions, ascending, with the gradient there
// (mean over the examples it was computed on).
struct ScoreList {
  std::vector<int64_t> positions;
  std::vector<float> values;
};

// Source of a partial's float32 values, read in blocks so that an upload never needs to be in
// memory at once. Calls `sink` with consecutive pieces; returns the sink's or a read error. May be
// read twice.
using ValueSource =
    std::function<absl::Status(const std::function<absl::Status(std::span<const float>)>& sink)>;

// What one participant sent.
struct Partial {
  std::string participant;
  int64_t examples = 0;
  double loss_sum = 0;
  int64_t correct = 0;
  int64_t peak_memory_bytes = 0;
  int64_t values_count = 0;
  ValueSource values;             // empty function when values_count is 0
  std::vector<ScoreList> scores;  // empty, or one entry per tensor
};

// The result of a step.
struct Reduced {
  int64_t participants = 0;
  int64_t examples = 0;
  double loss_sum = 0;
  int64_t correct = 0;
  int64_t peak_memory_bytes = 0;  // largest over participants
  std::vector<float> values;      // example-weighted mean; empty for metric reducers
  std::vector<ScoreList> scores;  // example-weighted mean gradients of all reported positions
  std::vector<sparsity::ActivationStatistics> statistics;  // sums, one for each input of the task
};

class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual absl::Status Merge(const Partial& partial) = 0;
  virtual absl::StatusOr<Reduced> Finish() = 0;
};

// Which reducer a step uses.
enum class ReducerKind { kMean, kMetrics, kStatistics };

// kMean and kMetrics; a StatisticsReducer needs the inputs of its task.
std::unique_ptr<Reducer> MakeReducer(ReducerKind kind,
                                     std::shared_ptr<const tensor::ModelTopology> topology,
                                     int64_t values_count);

}  // namespace espalier::server::reduce
