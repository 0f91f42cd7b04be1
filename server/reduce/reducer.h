// Reducer folds the partials of one step into one result.
//
// Shapes:      values of a partial are the float32 of its sections, one after the other, as
//              wire::ResultLayout says; the result names them again.
// Units:       `examples` counts training samples; losses are sums over examples.
// Ownership:   Merge() borrows the partial for the call. Finish() leaves this object spent.
// Memory:      the mean O(model) + O(1) per participant for scalars; rules that compare updates,
//              and keep_updates, O(participants × model) until Finish().
// Threading:   not thread-safe; lives on its job's strand.
// Determinism: bit-identical for any order of Merge() calls, duplicates and retries.
// Errors:      Merge(): InvalidArgument on wrong count, position out of range or non-finite value,
//              with a reason (SHAPE_MISMATCH, NON_FINITE, VALUE_IMPOSSIBLE,
//              VALUE_OUT_OF_RANGE for what is too large to be summed, NO_EXAMPLES); state
//              unchanged. Never throws.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/sparsity/pruning/activation_statistics.h"
#include "common/tensor/model.h"
#include "common/wire/model_spec/result_sections.h"
#include "server/reduce/aggregation.h"

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

// Source of a section that is bytes, likewise.
using ByteSource =
    std::function<absl::Status(const std::function<absl::Status(std::string_view)>& sink)>;

// What one participant sent.
struct Partial {
  std::string participant;
  int64_t examples = 0;
  double loss_sum = 0;
  int64_t correct = 0;
  int64_t steps = 0;  // of the optimizer; training only
  int64_t peak_memory_bytes = 0;
  double compute_seconds = 0;
  std::map<std::string, double> metric_sums;  // over `examples`
  std::vector<int64_t> counts;                // of examples, see EvaluateTask.counts
  int64_t values_count = 0;
  ValueSource values;             // empty function when values_count is 0
  ByteSource statistics;          // of kStatistics: encoded sums; otherwise an empty function
  std::vector<ScoreList> scores;  // empty, or one entry per tensor
  // kOwnersMean: the structure that the values have. Null: the step's.
  std::shared_ptr<const tensor::ModelTopology> topology;
};

// What one participant sent, where a step keeps it (Aggregation::keep_updates).
struct Update {
  std::string participant;
  int64_t steps = 0;          // of the optimizer
  std::vector<float> values;  // of the stored weights
};

// The scalars of one participant.
struct Score {
  std::string participant;
  int64_t examples = 0;
  double loss_sum = 0;
  int64_t correct = 0;
  std::map<std::string, double> metric_sums;
};

// The result of a step.
struct Reduced {
  int64_t participants = 0;
  int64_t examples = 0;
  double loss_sum = 0;
  int64_t correct = 0;
  int64_t peak_memory_bytes = 0;  // largest over participants
  double compute_seconds = 0;     // sum over participants
  std::map<std::string, double> metric_sums;
  std::vector<int64_t> counts;  // sums
  // By the step's rule, for each section of float32 that the task asked for.
  std::map<v1::SectionKind, std::vector<float>> sections;
  std::vector<ScoreList> scores;      // by the step's rule, of all reported positions
  std::vector<Update> updates;        // by participants' names; empty unless they are kept
  std::vector<Score> by_participant;  // by participants' names; of kMetrics only
  // kOwnersMean: the structure that the values have: all positions that any participant has.
  std::shared_ptr<const tensor::ModelTopology> topology;
  std::vector<sparsity::ActivationStatistics> statistics;  // sums, one for each input of the task
  std::string decision;  // of a step that a planner did, as its bytes; nothing was reduced then

  // A section's values; none when the step had no such section.
  std::span<const float> Section(v1::SectionKind kind) const;
  // The same, which this object then has no more.
  std::vector<float> Take(v1::SectionKind kind);
};

// `values`, which are those of `layout`, as sections.
std::map<v1::SectionKind, std::vector<float>> SplitSections(const wire::ResultLayout& layout,
                                                            std::vector<float> values);

class Reducer {
 public:
  virtual ~Reducer() = default;
  virtual absl::Status Merge(const Partial& partial) = 0;
  // Before Finish(): so many participants sent only updates that Merge() refused. A rule that
  // tolerates hostile updates has met that many of them already.
  virtual void Refused(int64_t participants) {}
  // What was merged so far, for Absorb() of a reducer of the same step: to be kept beside the
  // program's state, or sent on by whoever merges a part of the participants. Errors:
  // REDUCER_BROKEN, as Merge().
  virtual absl::StatusOr<std::string> Save() const = 0;
  // Merges everything that `saved` has. However partials are divided among reducers, and in
  // whatever order those are absorbed, the result has the same bits. Errors: InvalidArgument
  // SAVED_SUMS_INVALID (saved.h); those of Merge() for a participant that was counted here before
  // or scalars out of range; state unchanged.
  virtual absl::Status Absorb(std::string_view saved) = 0;
  virtual absl::StatusOr<Reduced> Finish() = 0;
};

// Which reducer a step uses: one of values (by an Aggregation, or over those who have a weight), of
// scalars alone, or of activation statistics.
enum class ReducerKind { kMean, kMetrics, kOwnersMean, kStatistics };

// All but a StatisticsReducer, which needs the inputs of its task.
// `aggregation` is how kMean folds; `reference` the step's model as far as it
// is learned (LearnedPart), which clip_norm needs.
// `layout`: the values of a partial, as its task says (wire::ResultLayoutOf()).
std::unique_ptr<Reducer> MakeReducer(ReducerKind kind,
                                     std::shared_ptr<const tensor::ModelTopology> topology,
                                     const wire::ResultLayout& layout,
                                     const Aggregation& aggregation = {},
                                     std::span<const float> reference = {});

}  // namespace espalier::server::reduce
