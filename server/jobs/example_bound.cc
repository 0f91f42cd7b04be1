#include "server/jobs/example_bound.h"

#include <algorithm>

namespace espalier::server::jobs {

namespace {

// Tokens have at least one byte each; a task counts tokens, of overlapping examples several times,
// and a begin-of-sequence token before each document, which has at least one byte.
int64_t MostTextExamples(const v1::DataSpec& data, const v1::Task& task,
                         const v1::DatasetInfo& info) {
  const int64_t bytes =
      task.has_evaluate() ? info.train_bytes() + info.test_bytes() : info.train_bytes();
  if (bytes == 0) return 0;
  const int64_t context = std::max<int64_t>(1, data.text().context());
  const int64_t stride =
      std::max<int64_t>(1, data.text().stride() > 0 ? data.text().stride() : context);
  constexpr int64_t kMostBytes = int64_t{1} << 53;
  const int64_t tokens = 2 * std::min(bytes, kMostBytes / 4) + 2;
  return (tokens / stride + 1) * context;
}

}  // namespace

int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task, const v1::DatasetInfo& info) {
  if (task.has_echo() || task.has_recommend()) return 1;
  if (spec.data().has_text()) return MostTextExamples(spec.data(), task, info);
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
