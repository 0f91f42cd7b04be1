// Numbers that tests and the programs that made their expected values draw alike.
#pragma once

#include <cstdint>
#include <vector>

namespace espalier::sparsity {

// `count` numbers in (0, 1) by a linear congruential generator, the same in every language.
inline std::vector<double> Uniform(uint32_t state, int64_t count) {
  std::vector<double> numbers;
  for (int64_t i = 0; i < count; ++i) {
    state = 1664525U * state + 1013904223U;
    numbers.push_back(((state >> 8U) + 0.5) / (1U << 24U));
  }
  return numbers;
}

}  // namespace espalier::sparsity
