// Task kind `echo`: gives the values back as they came; measures the coordinator alone.
#include "common/wire/values_codec.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

absl::StatusOr<Partial> RunEcho(const v1::Task& task,
                                const std::shared_ptr<const tensor::ModelState>& model) {
  Partial partial;
  partial.header.set_examples(1);
  AddSection(v1::SECTION_KIND_VALUES, model->values, partial);
  return partial;
}

}  // namespace espalier::worker::tasks
