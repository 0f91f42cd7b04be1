// The minibatches on which growth gradients are taken, drawn anew from the shard: the same in every
// task of a round, whichever worker does it. Without augmentation.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "worker/engine/network.h"
#include "worker/tasks/local_data.h"
#include "worker/tasks/network/batch_buffer.h"

namespace espalier::worker::tasks {

class GrowthExamples {
 public:
  // `count` minibatches (0 means 1), as far as the examples reach.
  GrowthExamples(const v1::Task& task, const ShardView& shard, const engine::Network& network,
                 size_t batch_size, int count) {
    base::Rng rng(base::StreamKey(
        task.seed(), "growth",
        {static_cast<uint64_t>(task.shard()), static_cast<uint64_t>(task.round())}));
    std::vector<int32_t> examples = shard.indices->train;
    base::Shuffle(std::span(examples), rng);
    for (int i = 0; i < std::max(1, count); ++i) {
      const size_t begin = i * batch_size;
      if (begin >= examples.size()) break;
      buffers_.emplace_back(task, shard.dataset->features(), network.batch_stride());
      batches_.push_back(buffers_.back().Fill(
          *shard.dataset,
          std::span(examples).subspan(begin, std::min(batch_size, examples.size() - begin))));
    }
  }

  std::span<const engine::Batch> batches() const { return batches_; }

 private:
  std::vector<BatchBuffer> buffers_;
  std::vector<engine::Batch> batches_;
};

}  // namespace espalier::worker::tasks
