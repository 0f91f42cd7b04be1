#include "server/jobs/example_bound.h"

#include <algorithm>

namespace espalier::server::jobs {

int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task, const v1::DatasetInfo& info) {
  if (task.has_echo() || task.has_recommend()) return 1;
  if (spec.data().has_text()) return 0;
  const int64_t all = info.train_examples() + info.test_examples();
  if (spec.model().has_recommender()) return task.has_evaluate() ? info.users() : all;
  if (task.has_evaluate()) return all;
  int64_t train = info.train_examples();
  if (spec.data().train_limit() > 0) train = std::min(train, spec.data().train_limit());
  const v1::Partition& partition = spec.data().partition();
  const bool even = partition.kind() == v1::Partition::KIND_IID ||
                    partition.kind() == v1::Partition::KIND_UNSPECIFIED;
  if (!even || partition.shards() <= 1) return train;
  return (train + partition.shards() - 1) / partition.shards();
}

}  // namespace espalier::server::jobs
