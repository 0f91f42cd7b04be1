// Padding of activations, and numbers that optimizers keep.
#include "common/tensor/lanes.h"

#include <gtest/gtest.h>

#include "common/tensor/optimizer_slots.h"

namespace espalier::tensor {
namespace {

TEST(LanesTest, StridesAreOddNumbersOfCacheLinesThatHoldAllColumns) {
  EXPECT_EQ(WholeLanes(1), 16);
  EXPECT_EQ(WholeLanes(16), 16);
  EXPECT_EQ(WholeLanes(17), 32);
  for (int64_t columns = 1; columns <= 200; ++columns) {
    const int64_t stride = PaddedStride(columns);
    EXPECT_GE(stride, columns);
    EXPECT_LT(stride, columns + 2 * kLanes);
    EXPECT_EQ(stride % (2 * kLanes), kLanes);
  }
}

TEST(OptimizerSlotsTest, CountMomentsOrMomentum) {
  EXPECT_EQ(OptimizerSlots(true, 0), 2);
  EXPECT_EQ(OptimizerSlots(true, 0.9), 2);
  EXPECT_EQ(OptimizerSlots(false, 0.9), 1);
  EXPECT_EQ(OptimizerSlots(false, 0), 0);
}

}  // namespace
}  // namespace espalier::tensor
