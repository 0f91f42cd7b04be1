// What an evaluation of a network counts over its examples: sums by name, and the counts that the
// task asks for (PartialHeader.metric_sums, EvaluateTask.counts).
//
// Memory:      8 bytes for each count: classes², or 65,536 for each label.
// Threading:   not thread-safe.
// Determinism: sums in the order of the examples.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/v1/worker.pb.h"
#include "worker/engine/spec.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

class EvaluationSums {
 public:
  // `outputs`: of the network.
  EvaluationSums(const v1::Task& task, int64_t outputs);

  // Of a batch and what the network gave for it (Network::last_outputs()).
  void Add(const engine::Batch& batch, const float* outputs);
  // Adds sums and the section of counts to a result.
  void Write(Partial& partial) const;

 private:
  // One example: the column of the outputs that begins at `outputs`.
  void AddClass(const float* outputs, int64_t stride, int32_t label);
  void AddTargets(const float* outputs, const float* targets, int64_t stride);
  void AddScore(int64_t label, bool has, double log_odds);
  // ln(p / (1 − p)) of an output.
  double LogOdds(float output) const;

  // Sums over examples of one output.
  struct OutputSums {
    double squared_error = 0;
    double target = 0;
    double squared_target = 0;
  };

  const v1::Task& task_;
  const int64_t outputs_;
  bool has_confusion_ = false;
  bool has_scores_ = false;
  bool classes_ = true;  // labels of classes, rather than targets
  double top_5_ = 0;
  double squared_error_ = 0;
  double absolute_error_ = 0;
  std::vector<OutputSums> by_output_;  // none where there are too many
  std::vector<int64_t> confusion_;
  std::vector<int64_t> scores_;
};

}  // namespace espalier::worker::tasks
