// N:M sparsity on dense master weights with straight-through gradients.
//
// Forward:     the weights that are multiplied are the stored ones with all but the N of largest
//              magnitude in each group of M set to 0 (common/sparsity/n_of_m.h), chosen anew in
//              every pass.
// Gradient:    that of the multiplied weights is taken for that of all stored ones; with SR-STE
//              λ · w is added where w was set to 0.
// Memory:      4 bytes per weight.
// Threading:   one caller at a time; rows are split over threads. Determinism: the same bits for
//              any number of threads.
// Source:      Bengio et al., arXiv 1308.3432 (STE); Zhou et al., Learning N:M Fine-grained
//              Structured Sparse Neural Networks From Scratch, ICLR 2021, equation 6 (SR-STE).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/sparsity/n_of_m.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/layers/weight_transform.h"

namespace espalier::worker::engine {

class NOfMMask final : public WeightTransform {
 public:
  // Of rows × pattern.cols weights, all of which are stored. `decay` is λ; 0 is plain STE.
  NOfMMask(const sparsity::NOfM& pattern, double decay, int64_t rows, int threads);

  std::vector<TensorShape> own_tensors() const override { return {}; }
  const float* Forward(const float* stored, const float* own) override;
  const float* effective() const override { return masked_.data(); }
  void Backward(const float* stored, const float* own, std::span<float> gradient,
                std::span<float> own_gradient) const override;
  void BackwardAll(int64_t row, const float* stored, const float* own,
                   std::span<float> gradient) const override;

 private:
  const sparsity::NOfM pattern_;
  const float decay_;
  const int64_t rows_;
  const int threads_;
  AlignedBuffer masked_;
};

}  // namespace espalier::worker::engine
