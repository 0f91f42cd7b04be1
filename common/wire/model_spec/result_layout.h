// What the values in the result of a task are, told by the task: worker and coordinator read the
// same bytes, and nobody has to guess from how many there are.
//
// Order:     of training: for each stored weight its value; where the optimizer's state crosses
//            rounds momentum, or Adam's two moments; where the task asks for it the gradient; then,
//            with importance, one value for each position, stored or not. Of a calibration: the
//            running statistics. Of channel statistics: the mean of each channel, then the mean
//            squares. Of saliencies: one for each position that may be sparse.
// Threading: pure functions. Determinism: exact.
#pragma once

#include <cstdint>
#include <vector>

#include "common/tensor/model.h"

namespace espalier::v1 {
class Task;
}  // namespace espalier::v1

namespace espalier::wire {

struct ResultLayout {
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
  };
  int64_t values = 0;
  // Ascending: variances, means of squares and importance, of which none can be below 0.
  std::vector<Range> not_negative = {};
};

ResultLayout ResultLayoutOf(const v1::Task& task, const tensor::ModelTopology& topology);

}  // namespace espalier::wire
