// Questions to a model what it says of examples that it has not seen.
//
// Bounds:      kMostPredictedExamples, kMostRequestBytes and the other limits below of one
//              question, so that task, result and answer fit into one message each.
// Threading:   pure functions.
// Errors:      INVALID_EXAMPLES, TOO_MANY_PREDICTIONS, NO_PREDICTIONS (a pruned language model).
#pragma once

#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/predict.pb.h"
#include "server/jobs/questions/questions.h"

namespace espalier::server::jobs {

inline constexpr int kMostPredictedExamples = 10'000;
inline constexpr size_t kMostRequestBytes = size_t{2} << 20;
// Numbers that a worker decodes and computes.
inline constexpr int64_t kMostInputs = int64_t{32} << 20;
inline constexpr int64_t kMostOutputs = int64_t{4} << 20;
// Numbers in the answer.
inline constexpr int64_t kMostAnswered = int64_t{1} << 19;
inline constexpr int64_t kMostAnswerBytes = int64_t{3} << 20;

absl::Status CheckPredict(const v1::PredictRequest& request);
absl::Status PreparePredict(const v1::PredictRequest& request, const AskedModel& model,
                            round::StepPlan& plan);
// `outputs`: those of each example, one after the other.
v1::PredictResponse PredictionsOf(const v1::PredictRequest& request, const AskedModel& model,
                                  std::span<const float> outputs);

}  // namespace espalier::server::jobs
