// RoundSteps: what a recommender's steps of one task are drawn with.
//
// Determinism: a function of the task and the number of steps in an epoch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/base/rng.h"
#include "espalier/v1/worker.pb.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::tasks {

// The steps of a task's training, those of the whole job counted on.
class RoundSteps {
 public:
  RoundSteps(const v1::Task& task, const recommender::RecommenderModel& model)
      : batch_size_(task.train().training().batch_size()),
        learning_rate_(task.train().learning_rate()),
        seed_(base::StreamKey(task.seed(), "recommender", {static_cast<uint64_t>(task.shard())})) {
    const v1::Training& training = task.train().training();
    if (training.local_steps() > 0) {
      first_ = task.train().first_step();
      count_ = training.local_steps();
      return;
    }
    count_ = model.StepsPerEpoch(batch_size_) * std::max(1, training.local_epochs());
    first_ = (task.round() - 1) * count_;
  }

  int64_t first() const { return first_; }
  int64_t count() const { return count_; }
  // Step `index` of the round, from 0; those past its end are the next round's.
  recommender::Step At(int64_t index) const {
    return {.index = first_ + index,
            .batch_size = batch_size_,
            .learning_rate = learning_rate_,
            .seed = seed_};
  }
  // `count` steps from step `index` on.
  std::vector<recommender::Step> From(int64_t index, int count) const {
    std::vector<recommender::Step> steps;
    for (int i = 0; i < std::max(1, count); ++i) steps.push_back(At(index + i));
    return steps;
  }

 private:
  int64_t batch_size_;
  double learning_rate_;
  uint64_t seed_;
  int64_t first_ = 0;
  int64_t count_ = 0;
};

}  // namespace espalier::worker::tasks
