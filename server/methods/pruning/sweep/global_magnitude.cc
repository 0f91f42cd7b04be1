#include "server/methods/pruning/sweep/global_magnitude.h"

#include <algorithm>

#include "common/sparsity/selection.h"

namespace espalier::server::methods {
namespace {

// Magnitudes have 31 bits: two passes over 16 and 15 of them.
constexpr uint32_t kLowBits = 15;
constexpr uint32_t kLowMask = (1U << kLowBits) - 1;
constexpr size_t kBins = size_t{1} << 16;

}  // namespace

GlobalMagnitude::GlobalMagnitude(int64_t count) : left_(count), counts_(kBins) {}

void GlobalMagnitude::Count(std::span<const float> values) {
  for (const float value : values) {
    const uint32_t bits = sparsity::MagnitudeBits(value);
    if (!narrowed_) {
      ++counts_[bits >> kLowBits];
    } else if (bits >> kLowBits == high_) {
      ++counts_[bits & kLowMask];
    }
  }
}

uint32_t GlobalMagnitude::Walk() {
  uint32_t bin = 0;
  while (bin + 1 < kBins && counts_[bin] <= left_) left_ -= counts_[bin++];
  return bin;
}

void GlobalMagnitude::Narrow() {
  high_ = Walk();
  narrowed_ = true;
  std::fill(counts_.begin(), counts_.end(), 0);
}

void GlobalMagnitude::Choose() { bits_ = (high_ << kLowBits) | Walk(); }

bool GlobalMagnitude::IsPruned(float value) {
  const uint32_t bits = sparsity::MagnitudeBits(value);
  if (bits != bits_) return bits < bits_;
  return left_-- > 0;
}

void GlobalMagnitude::Prune(std::span<float> values) {
  for (float& value : values) {
    if (IsPruned(value)) value = 0;
  }
}

}  // namespace espalier::server::methods
