#include "common/sparsity/pruning/dsnot.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/base/rng.h"
#include "common/sparsity/pruning/scores.h"
#include "tests/unit/common/sparsity/pruning/numbers.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;

// A row computed by hand.
const std::vector<float> kWeights = {.5F,  -.4F, .3F,  .2F,   .1F,  .6F,
                                     -.7F, .05F, .25F, -.15F, .35F, -.45F};
ColumnMoments GoldenMoments() {
  ColumnMoments moments;
  moments.sum = {.1, -.5, -.2, 3, 5, -1, .4, 6, -.3, -4, -.8, .6};
  moments.sum_squares = {5, 2, 3, 1, 1.5, 1, 2.5, 4, 2, 2.5, 1.2, 1.9};
  moments.variance = {.5, .4, .3, .6, .7, .2, .5, .8, .45, .9, .35, .55};
  moments.pooled_variance = moments.variance;
  return moments;
}

std::vector<int> Pruned(const Mask& mask) {
  std::vector<int> pruned;
  for (size_t j = 0; j < mask.kept.size(); ++j) {
    if (mask.kept[j] == 0) pruned.push_back(static_cast<int>(j));
  }
  return pruned;
}

DsnotResult RefineGolden(bool sign_check, Mask& mask) {
  const ColumnMoments moments = GoldenMoments();
  mask = *WandaMask({kWeights, 1, 12}, moments.sum_squares, {.sparsity = .5}, 1);
  EXPECT_THAT(Pruned(mask), ElementsAre(3, 4, 7, 8, 9, 10));
  return RefineMask({kWeights, 1, 12}, moments, WandaFactors(moments.sum_squares), {.sparsity = .5},
                    {.max_cycles = 50, .sign_check = sign_check}, 1, mask);
}

TEST(DsnotTest, GoldenRowWithTheSignCheck) {
  Mask mask;
  const DsnotResult result = RefineGolden(true, mask);
  EXPECT_THAT(Pruned(mask), ElementsAre(2, 4, 7, 8, 9, 10));
  EXPECT_NEAR(result.mean_error_before, 1.645, 1e-6);
  EXPECT_NEAR(result.mean_error_after, .985, 1e-6);
  EXPECT_EQ(result.exchanges, 1);
}

TEST(DsnotTest, GoldenRowWithoutTheSignCheck) {
  Mask mask;
  const DsnotResult result = RefineGolden(false, mask);
  EXPECT_THAT(Pruned(mask), ElementsAre(0, 1, 2, 5, 7, 11));
  EXPECT_NEAR(result.mean_error_after, .380, 1e-6);
  EXPECT_EQ(result.exchanges, 5);
}

// A row as wide as those that the method was made for, at 60 %, from Wanda's mask. Expected: the
// published procedure, written anew in another language, with its one list of regrowing keys that
// is taken from both ends.
TEST(DsnotTest, GoldenExchangesOfAWideRow) {
  constexpr int64_t kColumns = 2048;
  std::vector<float> weights;
  ColumnMoments moments;
  const auto size = Uniform(1, kColumns);
  const auto large = Uniform(2, kColumns);
  const auto sum = Uniform(3, kColumns);
  const auto squares = Uniform(4, kColumns);
  const auto variance = Uniform(5, kColumns);
  for (int64_t j = 0; j < kColumns; ++j) {
    weights.push_back(static_cast<float>((size[j] - .5) * (large[j] > .9 ? 4 : 1)));
    moments.sum.push_back((sum[j] - .42) * 8);
    moments.sum_squares.push_back(squares[j] * 20 + .5);
    moments.variance.push_back(variance[j] * 2 + .05);
  }
  moments.pooled_variance = moments.variance;
  const WeightsView view{weights, 1, kColumns};
  const Pattern pattern = {.sparsity = .6};
  const Mask before = *WandaMask(view, moments.sum_squares, pattern, 1);
  const auto refine = [&](const DsnotOptions& options, Mask& mask) {
    mask = before;
    return RefineMask(view, moments, WandaFactors(moments.sum_squares), pattern, options, 1, mask);
  };
  const auto changed = [&](const Mask& mask, uint8_t to) {
    std::vector<int> columns;
    for (int j = 0; j < kColumns; ++j) {
      if (mask.kept[j] != before.kept[j] && mask.kept[j] == to) columns.push_back(j);
    }
    return columns;
  };
  Mask mask;
  DsnotResult result = refine({.max_cycles = 50}, mask);
  EXPECT_NEAR(result.mean_error_before, 74.908596, 1e-5);
  EXPECT_NEAR(result.mean_error_after, 0.643249, 1e-5);
  EXPECT_EQ(result.exchanges, 50);
  EXPECT_THAT(changed(mask, 1),
              ElementsAre(10, 97, 135, 158, 159, 177, 236, 299, 300, 322, 379, 527, 529, 576, 653,
                          661, 700, 712, 793, 821, 843, 851, 876, 943, 959, 1004, 1084, 1098, 1177,
                          1181, 1257, 1258, 1315, 1323, 1378, 1399, 1441, 1492, 1496, 1501, 1543,
                          1698, 1712, 1729, 1731, 1910, 1922, 1958, 1997, 2015));
  EXPECT_THAT(changed(mask, 0),
              ElementsAre(66, 108, 145, 184, 186, 251, 255, 288, 414, 461, 519, 614, 707, 776, 781,
                          783, 803, 834, 847, 967, 975, 995, 1113, 1134, 1190, 1216, 1230, 1235,
                          1241, 1256, 1287, 1307, 1331, 1352, 1385, 1422, 1478, 1498, 1503, 1516,
                          1524, 1579, 1622, 1757, 1793, 1798, 1854, 1889, 1962, 2014));
  result = refine({.max_cycles = 50, .sign_check = true}, mask);
  EXPECT_NEAR(result.mean_error_after, 1.619751, 1e-5);
  EXPECT_EQ(result.exchanges, 46);
  // Half as wide as the rows that 50 exchanges are for.
  EXPECT_EQ(refine({}, mask).exchanges, 25);
}

TEST(DsnotTest, AutomaticCyclesFollowTheWidthOfRows) {
  EXPECT_EQ(AutomaticCycles(4096), 50);
  EXPECT_EQ(AutomaticCycles(11008), 134);
  EXPECT_EQ(AutomaticCycles(192), 2);
  EXPECT_EQ(AutomaticCycles(64), 1);
  EXPECT_EQ(AutomaticCycles(1), 1);
}

TEST(DsnotTest, NothingIsRegrownThatTakesTheErrorFurtherAway) {
  // D: pruned 1, −.5, −.3, so that ε = .2; kept −.4, 3, −.2.
  const std::vector<float> weights = {.1F, .2F, .15F, 1, 1.1F, 1.2F};
  ColumnMoments moments;
  moments.sum = {10, -2.5, -2, -.4, 3 / 1.1, -.2 / 1.2};
  moments.sum_squares = moments.variance = moments.pooled_variance = {1, 1, 1, 1, 1, 1};
  Mask mask = *MagnitudeMask({weights, 1, 6}, {.sparsity = .5}, 1);
  EXPECT_THAT(mask.kept, ElementsAre(0, 0, 0, 1, 1, 1));
  const DsnotResult result = RefineMask({weights, 1, 6}, moments, std::vector<float>(6, 1.0F),
                                        {.sparsity = .5}, {.max_cycles = 50}, 1, mask);
  // 1 comes back for −.4: ε = −1.2. −.5 comes back for 3: ε = 2.3. −.3 would make it 2.6 and more.
  EXPECT_EQ(result.exchanges, 2);
  EXPECT_NEAR(result.mean_error_after, 2.3, 1e-6);
  EXPECT_THAT(mask.kept, ElementsAre(1, 1, 0, 0, 0, 1));
}

struct Layer {
  int64_t rows = 24;
  int64_t columns = 48;
  std::vector<float> weights;
  ColumnMoments moments;
};

Layer RandomLayer(uint64_t key) {
  base::Rng rng(base::StreamKey(11, "layer", {key}));
  Layer layer;
  for (int64_t i = 0; i < layer.rows * layer.columns; ++i) {
    layer.weights.push_back(static_cast<float>(rng.Normal()));
  }
  ColumnMoments& moments = layer.moments;
  for (int64_t j = 0; j < layer.columns; ++j) {
    moments.sum.push_back(j % 9 == 4 ? 0 : rng.Normal() * 10);
    moments.sum_squares.push_back(std::abs(rng.Normal()) + .1);
    moments.variance.push_back(j % 7 == 3 ? 0 : rng.Uniform() + .1);
  }
  moments.pooled_variance = moments.variance;
  return layer;
}

DsnotResult Refine(const Layer& layer, const Pattern& pattern, const DsnotOptions& options,
                   int threads, Mask& mask) {
  const auto factors = WandaFactors(layer.moments.sum_squares);
  const WeightsView view{layer.weights, layer.rows, layer.columns};
  mask = *MaskByRows(view, factors, pattern, threads);
  return RefineMask(view, layer.moments, factors, pattern, options, threads, mask);
}

TEST(DsnotTest, KeepsTheNumberOfWeightsOfEveryRowAndSettlesMostRows) {
  const Layer layer = RandomLayer(1);
  Mask mask;
  const DsnotResult result = Refine(layer, {.sparsity = .6}, {.max_cycles = 50}, 1, mask);
  for (int64_t i = 0; i < layer.rows; ++i) {
    int64_t kept = 0;
    for (const uint8_t bit : mask.row(i)) kept += bit;
    EXPECT_EQ(kept, 48 - 28);
  }
  EXPECT_GT(result.exchanges, layer.rows);
  EXPECT_LT(result.mean_error_after, result.mean_error_before);
}

TEST(DsnotTest, IsTheSameForAnyNumberOfThreads) {
  const Layer layer = RandomLayer(2);
  Mask one;
  Mask four;
  Refine(layer, {.sparsity = .5}, {.max_cycles = 50}, 1, one);
  Refine(layer, {.sparsity = .5}, {.max_cycles = 50}, 4, four);
  EXPECT_EQ(one.kept, four.kept);
}

TEST(DsnotTest, KeepsGroupsWhole) {
  const Layer layer = RandomLayer(3);
  for (const Pattern pattern : {Pattern{.kept = 2, .group = 4}, Pattern{.kept = 4, .group = 8}}) {
    Mask mask;
    const DsnotResult result =
        Refine(layer, pattern, {.max_cycles = 50, .sign_check = true}, 2, mask);
    EXPECT_GT(result.exchanges, 0);
    for (size_t begin = 0; begin < mask.kept.size(); begin += pattern.group) {
      int kept = 0;
      for (int k = 0; k < pattern.group; ++k) kept += mask.kept[begin + k];
      EXPECT_EQ(kept, pattern.kept);
    }
  }
}

TEST(DsnotTest, InGroupsThePartnerMayMakeTheErrorLargerUnlessMonotone) {
  // The first comes back for the second, which contributes more, and of the same sign.
  const std::vector<float> weights = {1, 2, 3, .5F};
  ColumnMoments moments;
  moments.sum = {2, 5, 5, 1};
  moments.sum_squares = moments.variance = moments.pooled_variance = {1, 1, 1, 1};
  const Pattern pattern = {.kept = 2, .group = 4};
  const auto refine = [&](bool monotone) {
    Mask mask = *MagnitudeMask({weights, 1, 4}, pattern, 1);
    return RefineMask({weights, 1, 4}, moments, std::vector<float>(4, 1.0F), pattern,
                      {.max_cycles = 50, .sign_check = true, .monotone = monotone}, 1, mask);
  };
  EXPECT_NEAR(refine(false).mean_error_before, 2.5, 1e-6);
  EXPECT_NEAR(refine(false).mean_error_after, 2.5 + 10 - 2 + 15 - .5, 1e-6);
  EXPECT_EQ(refine(true).exchanges, 0);
}

TEST(DsnotTest, MonotoneExchangesBringEveryRowCloser) {
  for (const Pattern pattern : {Pattern{.kept = 2, .group = 4}, Pattern{.sparsity = .6}}) {
    Layer row = RandomLayer(3);
    const std::vector<float> weights = row.weights;
    row.rows = 1;
    int64_t exchanges = 0;
    for (int64_t i = 0; i < 24; ++i) {
      row.weights.assign(weights.begin() + i * row.columns,
                         weights.begin() + (i + 1) * row.columns);
      Mask mask;
      const DsnotResult result =
          Refine(row, pattern, {.max_cycles = 50, .monotone = true}, 1, mask);
      EXPECT_LE(result.mean_error_after, result.mean_error_before);
      exchanges += result.exchanges;
    }
    EXPECT_GT(exchanges, 24);
  }
}

TEST(DsnotTest, NeverTakesAColumnTwiceAndNeverPrunesOneWithoutContribution) {
  // All kept columns contribute exactly nothing: there is no exchange, whatever the error.
  const std::vector<float> weights = {5, 5, 1, 1};
  ColumnMoments moments;
  moments.sum = {0, 0, 3, 3};
  moments.sum_squares = {1, 1, 1, 1};
  moments.variance = moments.pooled_variance = {1, 1, 1, 1};
  Mask mask = *MagnitudeMask({weights, 1, 4}, {.sparsity = .5}, 1);
  const DsnotResult result = RefineMask({weights, 1, 4}, moments, std::vector<float>(4, 1.0F),
                                        {.sparsity = .5}, {.max_cycles = 50}, 1, mask);
  EXPECT_EQ(result.exchanges, 0);
  EXPECT_THAT(mask.kept, ElementsAre(1, 1, 0, 0));
}

TEST(DsnotTest, PositionsWithoutAWeightAreNeverRegrown) {
  // The third column would be the next to grow if it had a weight.
  const std::vector<float> weights = {-5, -4, 0, -1};
  ColumnMoments moments;
  moments.sum = {1, 1, 9, -2};
  moments.sum_squares = moments.variance = moments.pooled_variance = {1, 1, 1, 1};
  Mask mask = *MagnitudeMask({weights, 1, 4}, {.sparsity = .5}, 1);
  EXPECT_THAT(mask.kept, ElementsAre(1, 1, 0, 0));
  const DsnotResult result = RefineMask({weights, 1, 4}, moments, std::vector<float>(4, 1.0F),
                                        {.sparsity = .5}, {.max_cycles = 50}, 1, mask);
  // The fourth contributes 2 and comes back for the second; then nothing is left to regrow.
  EXPECT_EQ(result.exchanges, 1);
  EXPECT_THAT(mask.kept, ElementsAre(1, 0, 0, 1));
}

TEST(DsnotTest, ColumnsWhoseInputDoesNotVaryAreRegrownLast) {
  const std::vector<float> weights = {-5, -4, 1, 1};
  ColumnMoments moments;
  moments.sum = {1, 1, 9, 2};
  moments.sum_squares = {100, 100, 1, 1};
  moments.variance = moments.pooled_variance = {1, 1, 0, 1};
  Mask mask = *WandaMask({weights, 1, 4}, moments.sum_squares, {.sparsity = .5}, 1);
  DsnotOptions options;
  options.max_cycles = 1;
  RefineMask({weights, 1, 4}, moments, std::vector<float>(4, 1.0F), {.sparsity = .5}, options, 1,
             mask);
  EXPECT_THAT(mask.kept, ElementsAre(1, 0, 0, 1));
}

}  // namespace
}  // namespace espalier::sparsity
