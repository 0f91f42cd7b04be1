#include "common/sparsity/distribution.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "common/base/status.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;

const std::vector<LayerShape>& LeNet() {
  static const std::vector<LayerShape> layers = {{{300, 784}}, {{100, 300}}, {{10, 100}}};
  return layers;
}

const std::vector<LayerShape>& SmallCnn() {
  static const std::vector<LayerShape> layers = {
      {{64, 3, 3, 3}}, {{128, 64, 3, 3}}, {{256, 128, 3, 3}}, {{10, 256}}};
  return layers;
}

int64_t Sum(const std::vector<int64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

std::string ReasonOfAllocate(const std::vector<LayerShape>& layers, DistributionOptions options) {
  return base::ReasonOf(Allocate(layers, options).status());
}

struct LeNetRow {
  double sparsity;
  double epsilon;
  int iterations;
  std::vector<double> densities;
  std::vector<int64_t> counts;
};

TEST(DistributionTest, ErkOfLeNetGivesTheGoldenValues) {
  const std::vector<LeNetRow> rows = {
      {0.5, 94.188192, 3, {0.434099, 1, 1}, {102100, 30000, 1000}},
      {0.9, 17.264151, 2, {0.079568, 0.230189, 1}, {18714, 6906, 1000}},
      {0.98, 3.340025, 1, {0.015394, 0.044534, 0.367403}, {3621, 1336, 367}}};
  for (const LeNetRow& row : rows) {
    const Allocation got = Allocate(LeNet(), {.density = 1 - row.sparsity}).value();
    EXPECT_NEAR(got.epsilon, row.epsilon, 5e-7) << row.sparsity;
    EXPECT_EQ(got.iterations, row.iterations) << row.sparsity;
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(got.densities[i], row.densities[i], 5e-7);
    EXPECT_EQ(got.counts, row.counts) << row.sparsity;
  }
}

TEST(DistributionTest, ErkOfConvolutionsGivesTheGoldenValues) {
  const Allocation got = Allocate(SmallCnn(), {.density = 0.1}).value();
  EXPECT_NEAR(got.epsilon, 56.130612, 5e-7);
  EXPECT_NEAR(got.densities[1], 0.150741, 5e-7);
  EXPECT_NEAR(got.densities[2], 0.074229, 5e-7);
  EXPECT_THAT(got.counts, ElementsAre(1728, 11114, 21891, 2560));
}

TEST(DistributionTest, ErIgnoresTheKernel) {
  const Allocation got =
      Allocate(SmallCnn(), {.distribution = Distribution::kErdosRenyi, .density = 0.1}).value();
  EXPECT_NEAR(got.epsilon, 6.525651, 5e-7);
  EXPECT_EQ(got.densities[0], 1.0);
  EXPECT_NEAR(got.densities[1], 0.152945, 5e-7);
  EXPECT_NEAR(got.densities[2], 0.076472, 5e-7);
  EXPECT_NEAR(got.densities[3], 0.678056, 5e-7);
}

TEST(DistributionTest, SetCountsGiveTheGoldenValues) {
  EXPECT_THAT(SetCounts({{{1000, 784}}, {{1000, 1000}}, {{1000, 1000}}, {{10, 1000}}}, 13).value(),
              ElementsAre(23192, 26000, 26000, 10000));
  EXPECT_THAT(SetCounts({{{4000, 3072}}, {{1000, 4000}}, {{4000, 1000}}, {{10, 4000}}}, 20).value(),
              ElementsAre(141440, 100000, 100000, 40000));
}

TEST(DistributionTest, SetCountsOfZeroAndOfForcedDenseLayers) {
  EXPECT_THAT(SetCounts({{{20, 30}}, {{5, 20}, true}}, 0).value(), ElementsAre(0, 100));
}

// With nothing clipped, ER at density d is SET with epsilon = d·N / Σ(in + out).
TEST(DistributionTest, ErEqualsSetWhenNothingIsClipped) {
  const Allocation er =
      Allocate(LeNet(), {.distribution = Distribution::kErdosRenyi, .density = 0.02}).value();
  EXPECT_NEAR(er.epsilon, 0.02 * 266200 / (1084 + 400 + 110), 1e-12);
}

TEST(DistributionTest, CountsSumToTheBudgetExactly) {
  for (const Distribution distribution :
       {Distribution::kUniform, Distribution::kErdosRenyi, Distribution::kErdosRenyiKernel,
        Distribution::kBalanced}) {
    for (int step = 0; step <= 200; ++step) {
      const double density = step / 200.0;
      const Allocation got =
          Allocate(SmallCnn(), {.distribution = distribution, .density = density}).value();
      EXPECT_EQ(Sum(got.counts), std::llround(density * 372928)) << density;
      EXPECT_LE(got.counts[0], 1728);
      EXPECT_LE(got.counts[3], 2560);
    }
  }
}

TEST(DistributionTest, DensityOneFillsEveryLayerAndZeroNone) {
  EXPECT_THAT(Allocate(LeNet(), {.density = 1})->counts, ElementsAre(235200, 30000, 1000));
  EXPECT_THAT(Allocate(LeNet(), {.density = 0})->counts, ElementsAre(0, 0, 0));
}

TEST(DistributionTest, RemaindersGoToTheLargestFractionThenTheEarlierLayer) {
  // 3 · 0.5 = 1.5 each; the budget of round(4.5) = 5 gives one more to the first two.
  EXPECT_THAT(Allocate({{{3, 1}}, {{3, 1}}, {{3, 1}}},
                       {.distribution = Distribution::kUniform, .density = 0.5})
                  ->counts,
              ElementsAre(2, 2, 1));
}

TEST(DistributionTest, BalancedGivesEqualCountsAndHandsOnWhatDoesNotFit) {
  EXPECT_THAT(
      Allocate(LeNet(), {.distribution = Distribution::kBalanced, .density = 9000.0 / 266200})
          ->counts,
      ElementsAre(4000, 4000, 1000));
}

TEST(DistributionTest, ErkPowerZeroIsUniform) {
  const Allocation got = Allocate(LeNet(), {.density = 0.1, .power = 0}).value();
  for (const double density : got.densities) EXPECT_NEAR(density, 0.1, 1e-12);
}

TEST(DistributionTest, UniformDoesNotCompensateForForcedDenseLayers) {
  std::vector<LayerShape> layers = LeNet();
  layers[0].dense = true;
  EXPECT_THAT(Allocate(layers, {.distribution = Distribution::kUniform, .density = 0.1})->counts,
              ElementsAre(235200, 3000, 100));
}

TEST(DistributionTest, ErkTakesForcedDenseLayersFromTheBudget) {
  std::vector<LayerShape> layers = LeNet();
  layers[2].dense = true;
  const Allocation got = Allocate(layers, {.density = 0.1}).value();
  EXPECT_EQ(got.counts[2], 1000);
  EXPECT_EQ(Sum(got.counts), 26620);
}

TEST(DistributionTest, ExemptWeightsCountInTheBudget) {
  const Allocation got = Allocate(LeNet(), {.density = 0.1, .exempt_weights = 410}).value();
  EXPECT_EQ(Sum(got.counts), std::llround(0.1 * (266200 + 410) - 410));
}

TEST(DistributionTest, BudgetSmallerThanWhatMustBeDenseIsRefused) {
  std::vector<LayerShape> layers = LeNet();
  layers[1].dense = true;
  EXPECT_EQ(ReasonOfAllocate(layers, {.density = 0.1}), "BUDGET_TOO_SMALL");
  EXPECT_EQ(ReasonOfAllocate(LeNet(), {.density = 0.1, .exempt_weights = 100000}),
            "BUDGET_TOO_SMALL");
  EXPECT_EQ(ReasonOfAllocate(
                LeNet(),
                {.distribution = Distribution::kUniform, .density = 0.1, .exempt_weights = 100000}),
            "BUDGET_TOO_SMALL");
  // Exactly enough is enough.
  EXPECT_EQ(ReasonOfAllocate(layers, {.density = 30000.0 / 266200}), "");
}

TEST(DistributionTest, UnusableInputIsRefused) {
  EXPECT_EQ(ReasonOfAllocate(LeNet(), {.density = 1.1}), "DENSITY_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfAllocate(LeNet(), {.density = -0.1}), "DENSITY_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfAllocate(LeNet(), {.density = std::nan("")}), "DENSITY_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfAllocate(LeNet(), {.density = 0.1, .power = INFINITY}), "POWER_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfAllocate({{{0, 3}}}, {.density = 0.1}), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfAllocate({{{}}}, {.density = 0.1}), "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(ReasonOfAllocate({{{int64_t{1} << 40, int64_t{1} << 40}}}, {.density = 0.1}),
            "SHAPE_OUT_OF_RANGE");
  EXPECT_EQ(base::ReasonOf(SetCounts(LeNet(), -1).status()), "EPSILON_OUT_OF_RANGE");
}

}  // namespace
}  // namespace espalier::sparsity
