#include "common/sparsity/pruning/mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/pruning/scores.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;

std::vector<float> Random(int64_t count, uint64_t key) {
  base::Rng rng(base::StreamKey(7, "values", {key}));
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.Normal());
  return values;
}

TEST(MaskTest, GroupsBreakTiesByTheLowerColumn) {
  const std::vector<float> weights = {.5F, -.5F, .5F, .1F};
  const auto mask = MagnitudeMask({weights, 1, 4}, {.kept = 2, .group = 4}, 1);
  ASSERT_TRUE(mask.ok());
  EXPECT_THAT(mask->kept, ElementsAre(0, 1, 1, 0));
}

TEST(MaskTest, MagnitudePrunesTheLayerByCount) {
  const std::vector<float> weights = {3, 0, 0, 0, -2, 1};
  const auto mask = MagnitudeMask({weights, 2, 3}, {.sparsity = .5}, 1);
  ASSERT_TRUE(mask.ok());
  EXPECT_THAT(mask->kept, ElementsAre(1, 0, 0, 0, 1, 1));
  // Of equal zeros only as many as are asked for, the lower ones.
  const auto third = MagnitudeMask({weights, 2, 3}, {.sparsity = 1.0 / 3}, 1);
  EXPECT_THAT(third->kept, ElementsAre(1, 0, 0, 1, 1, 1));
}

TEST(MaskTest, WandaWeighsColumnsByTheirInputsAndPrunesEveryRow) {
  const std::vector<float> weights = {1, 2, 3, 4, 4, 3, 2, 1};
  const std::vector<double> squares = {100, 1, 1, 0};
  const auto mask = WandaMask({weights, 2, 4}, squares, {.sparsity = .5}, 1);
  ASSERT_TRUE(mask.ok());
  EXPECT_THAT(mask->kept, ElementsAre(1, 0, 1, 0, 1, 1, 0, 0));
}

TEST(MaskTest, RowsAreTheSameForAnyNumberOfThreads) {
  const auto weights = Random(37 * 64, 1);
  const std::vector<double> squares(64, 1.0);
  const auto one = WandaMask({weights, 37, 64}, squares, {.sparsity = .7}, 1);
  const auto four = WandaMask({weights, 37, 64}, squares, {.sparsity = .7}, 4);
  ASSERT_TRUE(one.ok() && four.ok());
  EXPECT_EQ(one->kept, four->kept);
  EXPECT_EQ(one->KeptCount(), 37 * (64 - 44));
}

TEST(MaskTest, GroupsThatDoNotDivideTheWidthAreAnError) {
  const std::vector<float> weights(6);
  const auto mask = MagnitudeMask({weights, 1, 6}, {.kept = 2, .group = 4}, 1);
  EXPECT_EQ(base::ReasonOf(mask.status()), "PATTERN_WIDTH");
  EXPECT_THAT(base::MessageOf(mask.status()), ::testing::HasSubstr("2:4"));
}

TEST(MaskTest, OutputErrorIsThatOfTheProduct) {
  constexpr int64_t kTokens = 11;
  const auto a = Random(3 * 5, 2);
  const auto b = Random(3 * 5, 3);
  const auto x = Random(5 * kTokens, 4);
  std::vector<double> gram(25);
  for (int i = 0; i < 5; ++i) {
    for (int j = 0; j < 5; ++j) {
      for (int t = 0; t < kTokens; ++t)
        gram[i * 5 + j] += double{x[i * kTokens + t]} * x[j * kTokens + t];
    }
  }
  double expected = 0;
  for (int row = 0; row < 3; ++row) {
    for (int t = 0; t < kTokens; ++t) {
      double y = 0;
      for (int j = 0; j < 5; ++j)
        y += (double{a[row * 5 + j]} - b[row * 5 + j]) * x[j * kTokens + t];
      expected += y * y;
    }
  }
  EXPECT_NEAR(OutputError({a, 3, 5}, b, gram, 2), expected, 1e-9 * expected);
}

// 40 × 50 weights whose rows are unequally even. Expected: the authors' rule, written anew in
// another language.
TEST(WandaCumulativeTest, RowsLoseTheSameShareOfTheirScores) {
  const auto uniform = [](uint32_t state, int64_t count) {
    std::vector<double> numbers;
    for (int64_t i = 0; i < count; ++i) {
      state = 1664525U * state + 1013904223U;
      numbers.push_back(((state >> 8U) + 0.5) / (1U << 24U));
    }
    return numbers;
  };
  constexpr int64_t kRows = 40;
  constexpr int64_t kColumns = 50;
  std::vector<float> weights;
  for (const double u : uniform(21, kRows * kColumns)) {
    const int power = 1 + static_cast<int>(weights.size()) / static_cast<int>(kColumns) % 4;
    weights.push_back(static_cast<float>(std::copysign(std::pow(std::abs(u - .5), power), u - .5)));
  }
  std::vector<double> squares = uniform(22, kColumns);
  for (double& square : squares) square = square * 9 + .1;
  const auto pruned_of_rows = [&](double sparsity, int threads) {
    const Mask mask = WandaCumulativeMask({weights, kRows, kColumns}, squares, sparsity, threads);
    std::vector<int64_t> counts;
    for (int64_t i = 0; i < kRows; ++i) {
      const auto row = mask.row(i);
      counts.push_back(std::count(row.begin(), row.end(), uint8_t{0}));
    }
    return counts;
  };
  const std::map<double, std::pair<int64_t, std::vector<int64_t>>> expected = {
      {.3, {599, {7, 10, 17, 21, 7, 12, 17, 24}}},
      {.5, {1000, {17, 21, 29, 30, 18, 22, 27, 35}}},
      {.7, {1401, {29, 32, 39, 39, 30, 34, 37, 42}}},
      {.95, {1865, {46, 46, 48, 48, 45, 47, 47, 48}}}};
  for (const auto& [sparsity, counts] : expected) {
    std::vector<int64_t> found = pruned_of_rows(sparsity, 1);
    EXPECT_EQ(found, pruned_of_rows(sparsity, 3));
    EXPECT_EQ(std::accumulate(found.begin(), found.end(), int64_t{0}), counts.first);
    found.resize(counts.second.size());
    EXPECT_EQ(found, counts.second) << sparsity;
  }
}

}  // namespace
}  // namespace espalier::sparsity
