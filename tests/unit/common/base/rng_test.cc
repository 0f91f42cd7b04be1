#include "common/base/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace espalier::base {
namespace {

using Block = std::array<uint32_t, 4>;

// Known answers published with the Random123 library.
TEST(RngTest, PhiloxGivesThePublishedBlocks) {
  EXPECT_EQ(Philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RngTest, EveryPartOfTheKeyGivesAnotherStream) {
  const uint64_t key = StreamKey(1, "grow", {2, 3});
  EXPECT_EQ(key, StreamKey(1, "grow", {2, 3}));
  EXPECT_NE(key, StreamKey(2, "grow", {2, 3}));
  EXPECT_NE(key, StreamKey(1, "drop", {2, 3}));
  EXPECT_NE(key, StreamKey(1, "grow", {3, 2}));
}

TEST(RngTest, BelowIsUniform) {
  Rng rng(7);
  std::vector<int> counts(6);
  for (int i = 0; i < 60000; ++i) ++counts[rng.Below(6)];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);
}

TEST(RngTest, NormalAndGammaHaveTheRightMoments) {
  Rng rng(9);
  constexpr int kDraws = 200000;
  double sum = 0, squares = 0, small = 0, large = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.Normal();
    sum += x;
    squares += x * x;
    small += rng.Gamma(0.5);
    large += rng.Gamma(3.0);
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.01);
  EXPECT_NEAR(squares / kDraws, 1, 0.02);
  EXPECT_NEAR(small / kDraws, 0.5, 0.01);
  EXPECT_NEAR(large / kDraws, 3, 0.02);
}

}  // namespace
}  // namespace espalier::base
