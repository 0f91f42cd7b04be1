#include "common/sparsity/top_k.h"

#include <algorithm>
#include <limits>

#include "common/base/check.h"

namespace espalier::sparsity {

TopK::TopK(int64_t k)
    : k_(static_cast<size_t>(k)),
      threshold_bits_(InitialThreshold()),
      threshold_position_(std::numeric_limits<int64_t>::max()) {
  ESPALIER_CHECK(k >= 0, "k is not negative");
}

// With k = 0 nothing may enter: no magnitude reaches all ones.
uint32_t TopK::InitialThreshold() const {
  return k_ == 0 ? std::numeric_limits<uint32_t>::max() : 0;
}

bool TopK::Better(const Entry& a, const Entry& b) {
  const uint32_t a_bits = MagnitudeBits(a.value);
  const uint32_t b_bits = MagnitudeBits(b.value);
  return a_bits != b_bits ? a_bits > b_bits : a.position < b.position;
}

void TopK::Insert(int64_t position, float value) {
  if (MagnitudeBits(value) == threshold_bits_ && position > threshold_position_) return;
  entries_.push_back({position, value});
  if (entries_.size() == 2 * k_) Shrink();
}

void TopK::Shrink() {
  const auto worst = entries_.begin() + static_cast<ptrdiff_t>(k_ - 1);
  std::nth_element(entries_.begin(), worst, entries_.end(), Better);
  threshold_bits_ = MagnitudeBits(worst->value);
  threshold_position_ = worst->position;
  entries_.resize(k_);
}

ScoredPositions TopK::TakeSorted() {
  if (entries_.size() > k_) Shrink();
  std::sort(entries_.begin(), entries_.end(),
            [](const Entry& a, const Entry& b) { return a.position < b.position; });
  ScoredPositions result;
  result.positions.reserve(entries_.size());
  result.values.reserve(entries_.size());
  for (const Entry& entry : entries_) {
    result.positions.push_back(entry.position);
    result.values.push_back(entry.value);
  }
  entries_.clear();
  threshold_bits_ = InitialThreshold();
  threshold_position_ = std::numeric_limits<int64_t>::max();
  return result;
}

}  // namespace espalier::sparsity
