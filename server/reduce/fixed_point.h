// Exact sums of weighted float32 values in 128-bit fixed point.
//
// Units:       a FixedPoint counts multiples of 2^-84. weight·value is exact when |value| >= 2^-60
//              and is cut towards zero (by less than 2^-84) below that.
// Range:       callers keep sums of |weight·value| below 2^42, which leaves one bit to spare.
// Determinism: integer addition is associative and commutative, so a sum depends on the set of its
//              terms only, never on their order.
// Threading:   pure functions.
#pragma once

#include <bit>
#include <cstdint>
#include <span>

namespace espalier::server::reduce {

__extension__ typedef __int128 FixedPoint;
__extension__ typedef unsigned __int128 UnsignedFixedPoint;

inline constexpr int kFractionBits = 84;
// Weights (numbers of examples) are below 2^39: a 24-bit significand times a weight fits 63 bits.
inline constexpr int64_t kMaxWeight = (int64_t{1} << 39) - 1;

// a + b; past the range, which callers refuse later, it wraps instead of being undefined.
inline FixedPoint Plus(FixedPoint a, FixedPoint b) {
  return static_cast<FixedPoint>(static_cast<UnsignedFixedPoint>(a) +
                                 static_cast<UnsignedFixedPoint>(b));
}

// weight·value in units of 2^-84; `value` finite, 0 <= weight <= kMaxWeight. Any bit pattern gives
// some defined result.
inline FixedPoint ToFixedPoint(float value, int64_t weight) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t exponent = (bits >> 23) & 0xff;
  const uint32_t hidden = exponent != 0 ? 0x800000u : 0;
  const uint64_t product = uint64_t{(bits & 0x7fffff) | hidden} * static_cast<uint64_t>(weight);
  // A normal value is significand · 2^(exponent - 150); this is the shift to units of 2^-84.
  const int shift = static_cast<int>(exponent) - (150 - kFractionBits);
  UnsignedFixedPoint magnitude;
  if (shift >= 0) [[likely]] {
    // Exponents that need a shift past 127 bits are out of the callers' range.
    magnitude = UnsignedFixedPoint{product} << (shift & 127);
  } else {
    magnitude = -shift < 64 ? product >> -shift : 0;  // subnormals are far below the resolution
  }
  const UnsignedFixedPoint sign =
      static_cast<UnsignedFixedPoint>(FixedPoint{static_cast<int32_t>(bits) >> 31});
  return static_cast<FixedPoint>((magnitude ^ sign) - sign);
}

// sum / (total_weight · 2^84) as float32. With one term the result is the term's value exactly (for
// |value| >= 2^-60): the quotient is within 2^-51 of it, far less than half a float32 step.
inline float MeanFromFixedPoint(FixedPoint sum, double total_weight) {
  const bool negative = sum < 0;
  const UnsignedFixedPoint magnitude =
      negative ? -static_cast<UnsignedFixedPoint>(sum) : static_cast<UnsignedFixedPoint>(sum);
  const double high = static_cast<double>(static_cast<uint64_t>(magnitude >> 64)) * 0x1p64;
  const double low = static_cast<double>(static_cast<uint64_t>(magnitude));
  const double mean = (high + low) * 0x1p-84 / total_weight;
  return static_cast<float>(negative ? -mean : mean);
}

// sums[i] += weight · values[i]; equal lengths.
void AddWeighted(std::span<const float> values, int64_t weight, std::span<FixedPoint> sums);

// sums[i] += others[i]; equal lengths.
void AddSums(std::span<const FixedPoint> others, std::span<FixedPoint> sums);

// Bits of the largest |value|: comparable as unsigned integers, 0x7f800000 and above are not
// finite.
uint32_t LargestMagnitudeBits(std::span<const float> values);

}  // namespace espalier::server::reduce
