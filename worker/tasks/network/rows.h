// RowForm: rows of tables, and images.
#pragma once

#include "worker/tasks/network/example_form.h"

namespace espalier::worker::tasks {

class RowForm : public ExampleForm {
 public:
  bool has_tokens() const override { return false; }
  int64_t ColumnsPerExample(const v1::Task&) const override { return 1; }
  absl::StatusOr<engine::NetworkSpec> NetworkSpecOf(const v1::ModelSpec& model,
                                                    int64_t columns) const override;
  absl::Status CheckFits(const data::Dataset& dataset, const v1::Task& task) const override;
  absl::StatusOr<std::vector<float>> Predict(NetworkCache& networks, const v1::Task& task,
                                             const std::shared_ptr<const tensor::ModelState>& model,
                                             const v1::Examples& examples,
                                             const data::LoadOptions& load,
                                             const std::atomic<bool>& cancelled) const override;
};

}  // namespace espalier::worker::tasks
