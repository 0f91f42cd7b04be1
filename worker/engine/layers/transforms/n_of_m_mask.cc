#include "worker/engine/layers/transforms/n_of_m_mask.h"

#include "worker/engine/parallel.h"

namespace espalier::worker::engine {

NOfMMask::NOfMMask(const sparsity::NOfM& pattern, double decay, int64_t rows, int threads)
    : pattern_(pattern),
      decay_(static_cast<float>(decay)),
      rows_(rows),
      threads_(threads),
      masked_(rows * pattern.cols) {}

const float* NOfMMask::Forward(const float* stored, const float* /*own*/) {
  const auto cols = static_cast<size_t>(pattern_.cols);
  ParallelRows(threads_, rows_, [&](RowRange rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t first = row * pattern_.cols;
      sparsity::KeepNOfM(std::span(stored + first, cols), pattern_,
                         std::span(masked_.data() + first, cols));
    }
  });
  return masked_.data();
}

// A weight that was not kept is multiplied as 0; a kept weight of 0 has no decay either way.
void NOfMMask::Backward(const float* stored, const float* /*own*/, std::span<float> gradient,
                        std::span<float> /*own_gradient*/) const {
  if (decay_ == 0) return;
  ParallelRows(threads_, rows_, [&](RowRange rows) {
    for (int64_t i = rows.begin * pattern_.cols; i < rows.end * pattern_.cols; ++i) {
      gradient[i] += decay_ * (stored[i] - masked_.data()[i]);
    }
  });
}

void NOfMMask::BackwardAll(int64_t row, const float* stored, const float* /*own*/,
                           std::span<float> gradient) const {
  const int64_t first = row * pattern_.cols;
  for (int64_t i = 0; i < pattern_.cols; ++i) {
    gradient[i] += decay_ * (stored[first + i] - masked_.data()[first + i]);
  }
}

}  // namespace espalier::worker::engine
