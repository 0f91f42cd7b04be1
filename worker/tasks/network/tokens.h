// TokenForm: texts, as many columns as the model's context has tokens.
#pragma once

#include "worker/tasks/network/example_form.h"

namespace espalier::worker::tasks {

class TokenForm : public ExampleForm {
 public:
  bool has_tokens() const override { return true; }
  int64_t ColumnsPerExample(const v1::Task& task) const override;
  absl::StatusOr<engine::NetworkSpec> NetworkSpecOf(const v1::ModelSpec& model,
                                                    int64_t columns) const override;
  absl::Status CheckFits(const data::Dataset& dataset, const v1::Task& task) const override;
  // The probabilities of the token that follows each example's tokens.
  absl::StatusOr<std::vector<float>> Predict(NetworkCache& networks, const v1::Task& task,
                                             const std::shared_ptr<const tensor::ModelState>& model,
                                             const v1::Examples& examples,
                                             const data::LoadOptions& load,
                                             const std::atomic<bool>& cancelled) const override;
};

}  // namespace espalier::worker::tasks
