// Exact sums of doubles as 128-bit integers.
//
// Units:       an ExactSum counts multiples of 2^-60.
// Range:       terms up to 2^62; sums up to 2^66, beyond which AddExact() says so.
// Determinism: integer addition is associative and commutative: a sum depends on the set of its
//              terms only, never on their order or on how they were divided between machines.
// Threading:   pure functions.
#pragma once

namespace espalier::sparsity {

__extension__ typedef __int128 ExactSum;

inline constexpr int kExactFractionBits = 60;

// `value` rounded to the nearest multiple of 2^-60. False when it is not finite or too large; then
// `sum` is unchanged.
bool ToExact(double value, ExactSum& sum);

// Nearest double, up to two roundings.
double FromExact(ExactSum sum);

// a += b. False when the result has no room; then `a` is unchanged.
inline bool AddExact(ExactSum& a, ExactSum b) {
  ExactSum result = 0;
  if (__builtin_add_overflow(a, b, &result)) return false;
  a = result;
  return true;
}

}  // namespace espalier::sparsity
