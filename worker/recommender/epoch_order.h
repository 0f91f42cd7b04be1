// The order in which an epoch looks at examples.
#pragma once

#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "common/base/rng.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// Shuffles 0..size − 1 for every epoch with StreamKey(seed, "order", {epoch}); keeps the last
// order.
class EpochOrder {
 public:
  explicit EpochOrder(int64_t size) : size_(size) {}

  int64_t steps(int64_t batch_size) const { return (size_ + batch_size - 1) / batch_size; }

  // The examples of a step; the last of an epoch has what is left.
  std::span<const int32_t> Of(const Step& step) {
    const auto epoch = static_cast<uint64_t>(step.index / steps(step.batch_size));
    const uint64_t key = base::StreamKey(step.seed, "order", {epoch});
    if (order_.empty() || key != key_) {
      key_ = key;
      order_.resize(size_);
      std::iota(order_.begin(), order_.end(), 0);
      base::Rng rng(key);
      base::Shuffle(std::span(order_), rng);
    }
    const int64_t first = step.index % steps(step.batch_size) * step.batch_size;
    return std::span(order_).subspan(first, std::min(step.batch_size, size_ - first));
  }

 private:
  int64_t size_;
  uint64_t key_ = 0;
  std::vector<int32_t> order_;
};

}  // namespace espalier::worker::recommender
