#include "server/jobs/example_bound.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "server/scheduler/requirements.h"

namespace espalier::server::jobs {

const v1::DatasetInfo* CommonDataset(const scheduler::Fleet& fleet,
                                     const std::set<std::string>& workers,
                                     const std::string& dataset) {
  using Sizes = std::tuple<int64_t, int64_t, int64_t, int64_t>;
  std::map<Sizes, int> votes;
  const v1::DatasetInfo* common = nullptr;
  int most = 0;
  const auto sizes = [](const v1::DatasetInfo& info) {
    return Sizes{info.train_examples(), info.test_examples(), info.users(), info.interactions()};
  };
  const auto of = [&](const std::string& id) {
    const v1::Worker* worker = fleet.Find(id);
    return worker == nullptr ? nullptr : scheduler::FindDataset(*worker, dataset);
  };
  for (const std::string& id : workers) {
    if (const v1::DatasetInfo* info = of(id)) most = std::max(most, ++votes[sizes(*info)]);
  }
  for (const std::string& id : workers) {
    const v1::DatasetInfo* info = of(id);
    if (common == nullptr && info != nullptr && votes[sizes(*info)] == most) common = info;
  }
  return common;
}

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
