// ExampleForm: how examples become columns of a network's batches. Rows of a table, and images, are
// one column each; a text is one column for each token.
//
// Ownership:   forms have no state and live as long as the program.
// Threading:   any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/predict.pb.h"
#include "espalier/v1/worker.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/load_options.h"
#include "worker/engine/spec.h"
#include "worker/tasks/network/network_cache.h"

namespace espalier::worker::tasks {

class ExampleForm {
 public:
  virtual ~ExampleForm() = default;

  // Whether columns are tokens, and labels the tokens that follow them.
  virtual bool has_tokens() const = 0;
  // Columns, and labels, of one example. Results count them.
  virtual int64_t ColumnsPerExample(const v1::Task& task) const = 0;
  virtual absl::StatusOr<engine::NetworkSpec> NetworkSpecOf(const v1::ModelSpec& model,
                                                            int64_t columns) const = 0;
  // OK when the model can learn the data. Errors: DATASET_SHAPE_MISMATCH, DATASET_INVALID.
  virtual absl::Status CheckFits(const data::Dataset& dataset, const v1::Task& task) const = 0;
  // What the network of `task` with the values of `model` gives for `examples`, one after the
  // other. A prediction depends on its example alone, whichever examples share a batch.
  // `load` bounds what the examples take when they are decoded.
  // Errors: those of NetworkCache::Get(); Cancelled; DATASET_INVALID for examples that the model
  // cannot take; DATASET_TOO_LARGE.
  virtual absl::StatusOr<std::vector<float>> Predict(
      NetworkCache& networks, const v1::Task& task,
      const std::shared_ptr<const tensor::ModelState>& model, const v1::Examples& examples,
      const data::LoadOptions& load, const std::atomic<bool>& cancelled) const = 0;
};

const ExampleForm& FormOf(const v1::ModelSpec& model);

// Values of one example that is a row or an image.
int64_t InputFeatures(const v1::ModelSpec& model);

// The outputs for each row of `dataset`, row by row, as ExampleForm::Predict(). Of `task` model and
// data count.
absl::StatusOr<std::vector<float>> PredictRows(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const data::Dataset& dataset,
    const std::atomic<bool>& cancelled);

}  // namespace espalier::worker::tasks
