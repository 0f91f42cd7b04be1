// The development set of a shard: the part of its training examples by which candidates are chosen.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "common/base/rng.h"
#include "espalier/v1/worker.pb.h"
#include "worker/tasks/local_data.h"

namespace espalier::worker::tasks {

// `fraction` of the shard's training examples, at least one batch (or all there are). The same for
// every task of a job, whichever worker does it.
inline std::vector<int32_t> DevelopmentSet(const v1::Task& task, const ShardView& shard,
                                           double fraction, int64_t batch_size) {
  std::vector<int32_t> examples = shard.indices->train;
  base::Rng rng(base::StreamKey(task.seed(), "development", {static_cast<uint64_t>(task.shard())}));
  base::Shuffle(std::span(examples), rng);
  const auto total = static_cast<int64_t>(examples.size());
  const int64_t wanted = std::llround(fraction * static_cast<double>(total));
  examples.resize(std::min(total, std::max(wanted, batch_size)));
  return examples;
}

}  // namespace espalier::worker::tasks
