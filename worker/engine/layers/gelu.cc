#include "worker/engine/layers/gelu.h"

#include "worker/engine/activation.h"
#include "worker/engine/parallel.h"
#include "worker/engine/sequence/gates.h"

namespace espalier::worker::engine {

void GeluLayer::Forward(const Pass& pass, const float* input) {
  const int64_t width = pass.extent.width;
  ParallelRows(threads(), shape().features(), [&](RowRange rows) {
    CopyRows(input, mutable_output(), stride(), width, rows);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      float* row = mutable_output() + r * stride();
      if (approximate_) {
        GeluTanh(width, row);
      } else {
        Gelu(width, row);
      }
    }
  });
}

void GeluLayer::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                         const BackwardTarget&) {
  if (input_delta == nullptr) return;
  const int64_t width = pass.extent.width;
  ParallelRows(threads(), shape().features(), [&](RowRange rows) {
    CopyRows(delta, input_delta, stride(), width, rows);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t row = r * stride();
      if (approximate_) {
        GeluTanhGradient(input + row, width, input_delta + row);
      } else {
        GeluGradient(input + row, width, input_delta + row);
      }
    }
  });
}

}  // namespace espalier::worker::engine
