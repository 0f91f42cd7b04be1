// What a network says of examples without labels.
//
// Threading:   one caller at a time.
// Determinism: a prediction is a function of the model and its example alone, on one type of
//              processor, whichever examples share a batch.
// Errors:      those of engine::Network::Create(); Cancelled; DATASET_INVALID for tokens that the
//              model does not have, or more of them than its context.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/predict.pb.h"
#include "espalier/v1/worker.pb.h"
#include "worker/data/dataset.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

// Values of one example of a model that is no recommender and reads no text.
int64_t InputFeatures(const v1::ModelSpec& model);

// The outputs of `model`, a network, for each row of `dataset`, row by row. Of `task` model and
// data count.
absl::StatusOr<std::vector<float>> PredictRows(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const data::Dataset& dataset,
    const std::atomic<bool>& cancelled);

// Likewise of a transformer: the probabilities of the token that follows each example's tokens.
absl::StatusOr<std::vector<float>> PredictTokens(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const v1::Examples& examples,
    const std::atomic<bool>& cancelled);

}  // namespace espalier::worker::tasks
