// The minibatches on which growth gradients are taken, drawn anew from the shard: the same in every
// task of a round, whichever worker does it. Without augmentation.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/wire/values_codec.h"
#include "worker/tasks/batch_buffer.h"
#include "worker/tasks/task.h"

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

// Appends the section of growth scores: lists, one for each tensor of the layout.
template <typename List>
void AddScores(std::vector<List> lists, const tensor::ModelLayout& layout, Partial& partial) {
  lists.resize(layout.size());
  std::vector<wire::TensorScores> scores;
  scores.reserve(lists.size());
  uint64_t count = 0;
  for (List& list : lists) {
    count += list.positions.size();
    scores.push_back({std::move(list.positions), std::move(list.values)});
  }
  AddSection(v1::SECTION_KIND_GROWTH, v1::SECTION_TYPE_SCORES, count,
             wire::EncodeScores(scores, layout), partial);
}

}  // namespace espalier::worker::tasks
