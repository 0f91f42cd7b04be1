// Task kind `echo`: gives the values back as they came; measures the coordinator alone.
#include "common/wire/values_codec.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

absl::StatusOr<Partial> RunEcho(const v1::Task& task,
                                const std::shared_ptr<const tensor::ModelState>& model) {
  Partial partial;
  partial.header.set_examples(1);
  partial.header.set_values_count(model->values.size());
  partial.body = std::string(wire::ValuesAsBytes(model->values));
  return partial;
}

}  // namespace espalier::worker::tasks
