// AttentionLayer: one interacting layer of AutoInt.
//
// Shapes:      matrices are feature-major: row f holds, for each field m, `segment` examples from
//              m · segment on; columns without an example are zero. The weight is 4·units × inputs:
//              queries, keys, values and residual, each head after head.
// Memory:      4 bytes per column for each of 9·units + inputs rows and heads·fields² / fields
//              attention weights.
// Threading:   one caller at a time; products use `threads` OpenMP threads.
// Determinism: the same bits for any number of threads.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/sparse_product.h"

namespace espalier::worker::recommender {

struct AttentionShape {
  int64_t inputs = 0;
  int64_t units = 0;
  int64_t heads = 0;
  int64_t fields = 0;
  int64_t segment = 0;  // a multiple of 16
};

class AttentionLayer {
 public:
  AttentionLayer(const AttentionShape& shape, int threads);

  const float* output() const { return output_.data(); }
  // Of the output, then, where the layer below reads it, of nothing any more.
  float* delta() { return delta_.data(); }

  // `weight` is row-major; `x` has `inputs` rows. The first `examples` of every field are computed.
  void Forward(const float* weight, const float* x, int64_t examples);
  // Adds the weight's gradient to `gradient` and writes that of x, all from delta(), which changes.
  void Backward(const float* weight, const float* x, int64_t examples, float* gradient, float* dx);

 private:
  // Row of a part (0: queries, 1: keys, 2: values, 3: residual) of the projections.
  float* Projected(engine::AlignedBuffer& of, int part, int64_t unit, int64_t field) const {
    return of.data() + (part * shape_.units + unit) * width() + field * shape_.segment;
  }
  float* Alpha(int64_t head, int64_t field, int64_t other) {
    return alpha_.data() +
           ((head * shape_.fields + field) * shape_.fields + other) * shape_.segment;
  }
  int64_t width() const { return shape_.fields * shape_.segment; }
  int64_t units_of_head() const { return shape_.units / shape_.heads; }
  void Attend(int64_t head, int64_t field, int64_t examples);
  void AttendBackward(int64_t head, int64_t field, int64_t examples);

  AttentionShape shape_;
  engine::KernelSparseProduct product_;
  engine::KernelSparseProduct transposed_;
  engine::AlignedBuffer projections_;
  engine::AlignedBuffer projection_deltas_;
  engine::AlignedBuffer alpha_;
  engine::AlignedBuffer output_;
  engine::AlignedBuffer delta_;
  std::vector<float> scratch_;
};

}  // namespace espalier::worker::recommender
