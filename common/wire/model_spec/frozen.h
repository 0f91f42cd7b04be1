// Frozen: the tensors that a job's training leaves as they are, and the part of a model that it
// changes.
//
// Order:       the learned part has the values of the tensors that are not frozen, in the model's
//              order.
// Threading:   pure functions. Determinism: exact.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"

namespace espalier::wire {

// For each tensor of the layout, whether a pattern of training.frozen matches its name, as shells
// match file names (fnmatch(3)). Running statistics never are.
std::vector<bool> FrozenTensors(const v1::Training& training, const tensor::ModelLayout& layout);

// The learned part of a model's values.
class LearnedPart {
 public:
  LearnedPart(const v1::Training& training, const tensor::ModelTopology& topology);

  // Whether that is all of the model.
  bool is_whole() const { return stored_ == total_; }
  int64_t stored() const { return stored_; }
  // Where a tensor's values begin in the learned part. Of a frozen one: where the next ones do.
  int64_t offset(size_t tensor) const { return offsets_[tensor]; }
  // Of `values`, whole sets of the model's, the learned part of each set.
  std::vector<float> Of(std::span<const float> values) const;
  // `values` with `learned`, as Of() gives it, in its places. Both have the same number of sets.
  std::vector<float> In(std::span<const float> learned, std::vector<float> values) const;

 private:
  struct Range {
    int64_t begin = 0;  // in the model
    int64_t size = 0;
  };

  std::vector<Range> ranges_;  // of learned tensors; neighbours are one
  std::vector<int64_t> offsets_;
  int64_t stored_ = 0;
  int64_t total_ = 0;
};

}  // namespace espalier::wire
