#include "server/jobs/example_bound.h"

#include "server/datasets/kinds/data_kind.h"

namespace espalier::server::jobs {

int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task, const v1::DatasetInfo& info) {
  if (task.has_echo() || task.has_recommend()) return 1;
  return datasets::DataKindOf(spec).MostExamples(spec, task, info);
}

}  // namespace espalier::server::jobs
