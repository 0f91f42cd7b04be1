// e^x that compilers vectorise, for the loops of softmax and gates.
//
// Accuracy:    relative error below 3e-7 for x in [−87, 88]; x is clamped to that range. NaN stays.
// Determinism: only additions, multiplications and bit operations: the same bits on every
//              processor.
// Source:      range reduction by ln 2 in two parts and the polynomial of Cephes' expf (Moshier).
#pragma once

#include <bit>
#include <cstdint>

namespace espalier::worker::engine {

inline float Exponential(float x) {
  // Adding and taking away this rounds to a whole number.
  constexpr float kRound = 12582912.0F;
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  const float n = (x * 1.44269504F + kRound) - kRound;
  const float r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  const float y = p * (r * r) + r + 1.0F;
  return y * std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
}

}  // namespace espalier::worker::engine
