// Importance of all positions of a model while it trains: (Σ gradient)² over groups of minibatches,
// added up (PruneFL).
//
// Memory:    4 bytes for each position of the dense model, twice that when there are several
//            groups.
// Threading: a plain value.
// Source:    Jiang et al., TNNLS 2022.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace espalier::worker::tasks {

class Importance {
 public:
  // Groups of `every` minibatches; 0: one group of all.
  Importance(int64_t positions, int64_t every) : every_(every), sums_(positions) {}

  // What the gradient of each minibatch is added to.
  std::span<float> sums() { return sums_; }

  void EndMinibatch() {
    if (every_ == 0 || ++in_group_ < every_) return;
    EndGroup();
  }

  // Leaves this object empty.
  std::vector<float> Take() {
    if (every_ == 0 || squares_.empty()) {
      for (float& sum : sums_) sum *= sum;
      return std::exchange(sums_, {});
    }
    if (in_group_ > 0) EndGroup();
    sums_ = {};
    return std::exchange(squares_, {});
  }

 private:
  void EndGroup() {
    squares_.resize(sums_.size());
    for (size_t i = 0; i < sums_.size(); ++i) {
      squares_[i] += sums_[i] * sums_[i];
      sums_[i] = 0;
    }
    in_group_ = 0;
  }

  int64_t every_;
  int64_t in_group_ = 0;
  std::vector<float> sums_;
  std::vector<float> squares_;  // of finished groups; empty before the first
};

}  // namespace espalier::worker::tasks
