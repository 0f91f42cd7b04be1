// ExampleOrder: the examples of a shard in the order of training.
//
// Determinism: a function of seed, shard and step. Threading: one caller at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "common/base/rng.h"

namespace espalier::worker::tasks {

// A fresh permutation for each epoch, so that step s of the whole job always sees the same examples,
// whichever worker does it. `examples` is borrowed.
class ExampleOrder {
 public:
  ExampleOrder(std::span<const int32_t> examples, uint64_t seed, int shard, int64_t batch_size)
      : examples_(examples), seed_(seed), shard_(shard), batch_size_(batch_size) {}

  int64_t steps_per_epoch() const {
    return (static_cast<int64_t>(examples_.size()) + batch_size_ - 1) / batch_size_;
  }

  std::span<const int32_t> Batch(int64_t step) {
    const int64_t epoch = step / steps_per_epoch();
    if (epoch != epoch_) Permute(epoch);
    const int64_t begin = (step % steps_per_epoch()) * batch_size_;
    const int64_t size = std::min(batch_size_, static_cast<int64_t>(order_.size()) - begin);
    return std::span(order_).subspan(begin, size);
  }

 private:
  void Permute(int64_t epoch) {
    epoch_ = epoch;
    order_.assign(examples_.begin(), examples_.end());
    base::Rng rng(base::StreamKey(seed_, "order",
                                  {static_cast<uint64_t>(shard_), static_cast<uint64_t>(epoch)}));
    base::Shuffle(std::span(order_), rng);
  }

  std::span<const int32_t> examples_;
  uint64_t seed_;
  int shard_;
  int64_t batch_size_;
  int64_t epoch_ = -1;
  std::vector<int32_t> order_;
};

}  // namespace espalier::worker::tasks
