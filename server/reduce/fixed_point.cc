#include "server/reduce/fixed_point.h"

#include <algorithm>
#include <cstddef>

namespace espalier::server::reduce {

void AddWeighted(std::span<const float> values, int64_t weight, std::span<FixedPoint> sums) {
  for (size_t i = 0; i < values.size(); ++i) {
    sums[i] = Plus(sums[i], ToFixedPoint(values[i], weight));
  }
}

void AddSums(std::span<const FixedPoint> others, std::span<FixedPoint> sums) {
  for (size_t i = 0; i < sums.size(); ++i) sums[i] = Plus(sums[i], others[i]);
}

uint32_t LargestMagnitudeBits(std::span<const float> values) {
  uint32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<uint32_t>(value) & 0x7fffffffu);
  }
  return largest;
}

}  // namespace espalier::server::reduce
