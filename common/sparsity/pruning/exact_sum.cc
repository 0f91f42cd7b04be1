#include "common/sparsity/pruning/exact_sum.h"

#include <cmath>
#include <cstdint>

namespace espalier::sparsity {

bool ToExact(double value, ExactSum& sum) {
  if (!(std::abs(value) <= 0x1p62)) return false;
  const double scaled = std::ldexp(value, kExactFractionBits);
  // Below 2^53 rounding is needed; at and above it a double is an integer already.
  sum = static_cast<ExactSum>(std::abs(scaled) < 0x1p53 ? std::nearbyint(scaled) : scaled);
  return true;
}

double FromExact(ExactSum sum) {
  const auto high = static_cast<int64_t>(sum >> 64);
  const auto low = static_cast<uint64_t>(sum);
  const long double value =
      static_cast<long double>(high) * 0x1p64L + static_cast<long double>(low);
  return static_cast<double>(std::ldexp(value, -kExactFractionBits));
}

}  // namespace espalier::sparsity
