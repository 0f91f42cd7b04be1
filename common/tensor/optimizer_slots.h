// How many numbers an optimizer keeps for each value.
#pragma once

namespace espalier::tensor {

// 2 with moments (Adam), 1 with momentum above 0, else 0.
constexpr int OptimizerSlots(bool moments, double momentum) {
  if (moments) return 2;
  return momentum > 0 ? 1 : 0;
}

}  // namespace espalier::tensor
