#include "common/sparsity/pruning/sparsegpt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/pruning/scores.h"
#include "tests/unit/common/sparsity/pruning/numbers.h"

namespace espalier::sparsity {
namespace {

constexpr int64_t kRows = 20;
constexpr int64_t kColumns = 32;

struct Problem {
  std::vector<float> weights;
  std::vector<double> gram;
  std::vector<double> squares;
  WeightsView view() const { return {weights, kRows, kColumns}; }
};

// Correlated inputs, of which column 5 is dead.
Problem MakeProblem() {
  base::Rng rng(base::StreamKey(13, "sparsegpt", {}));
  Problem problem;
  for (int64_t i = 0; i < kRows * kColumns; ++i) {
    problem.weights.push_back(static_cast<float>(rng.Normal()));
  }
  problem.gram.resize(kColumns * kColumns);
  for (int t = 0; t < 200; ++t) {
    std::vector<double> x(kColumns);
    double previous = 0;
    for (int64_t j = 0; j < kColumns; ++j) {
      previous = .8 * previous + .6 * rng.Normal();
      x[j] = j == 5 ? 0 : previous * (1 + static_cast<double>(j % 5));
    }
    for (int64_t i = 0; i < kColumns; ++i) {
      for (int64_t j = 0; j < kColumns; ++j) problem.gram[i * kColumns + j] += x[i] * x[j];
    }
  }
  for (int64_t j = 0; j < kColumns; ++j) problem.squares.push_back(problem.gram[j * kColumns + j]);
  return problem;
}

double ErrorOf(const Problem& problem, std::span<const float> pruned) {
  return OutputError(problem.view(), pruned, problem.gram, 1);
}

double ErrorOf(const Problem& problem, const Mask& mask) {
  std::vector<float> pruned = problem.weights;
  Apply(mask, pruned);
  return ErrorOf(problem, pruned);
}

// 4 × 12 weights in three blocks of four columns, with correlated inputs. Expected: the published
// algorithm, written anew in another language in double precision; zeros are exact.
TEST(SparseGptTest, GoldenMatricesOfThreeBlocks) {
  constexpr int64_t kColumnsOfAll = 12;
  constexpr int64_t kTokens = 40;
  std::vector<float> weights;
  for (const double u : Uniform(7, 4 * kColumnsOfAll)) {
    weights.push_back(2 * static_cast<float>(u - .5));
  }
  std::vector<std::vector<double>> x(kColumnsOfAll);
  const auto numbers = Uniform(8, kColumnsOfAll * kTokens);
  for (int64_t j = 0; j < kColumnsOfAll; ++j) {
    for (int64_t t = 0; t < kTokens; ++t) {
      x[j].push_back(static_cast<float>(numbers[j * kTokens + t] - .3));
    }
  }
  for (int64_t t = 0; t < kTokens; ++t) {
    x[1][t] += x[0][t];
    x[9][t] += x[2][t];
    x[6][t] -= x[3][t];
  }
  std::vector<double> gram;
  for (int64_t i = 0; i < kColumnsOfAll; ++i) {
    for (int64_t j = 0; j < kColumnsOfAll; ++j) {
      gram.push_back(std::inner_product(x[i].begin(), x[i].end(), x[j].begin(), 0.0));
    }
  }
  const auto factor = FactorInverse(gram, kColumnsOfAll, .01).value();
  const auto expect = [&](const Pattern& pattern, const std::vector<double>& expected) {
    std::vector<float> pruned = weights;
    const Mask mask = SparseGptPrune(pruned, 4, factor, pattern, /*block=*/4, 1).value();
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_EQ(mask.kept[i] != 0, expected[i] != 0) << i;
      EXPECT_NEAR(pruned[i], expected[i], 2e-5) << i;
    }
  };
  expect({.sparsity = .5}, {0,        0.525510,  0,         0.993461,  -0.947756, 0.739969,   //
                            0,        -0.875078, -0.871964, 1.160492,  0.910031,  0,          //
                            0,        0,         0,         0.613181,  0.553834,  0,          //
                            0,        0.711969,  0,         0,         -0.892258, 0,          //
                            0.668403, -0.283774, -0.642302, 0.963527,  -0.755868, 0,          //
                            0,        -0.796727, -0.760286, 0,         0,         -0.342466,  //
                            0,        0.974532,  0,         0,         0,         -0.355801,  //
                            0,        0,         0,         -0.960458, 0.851795,  0});
  expect({.sparsity = .5, .kept = 2, .group = 4},
         {0,        0.525510,  0,         0.993461,  -0.947756, 0,          //
          0,        -0.826598, 0,         1.150237,  1.102096,  0,          //
          0,        0,         0.216946,  0.599916,  0.545844,  0,          //
          0,        0.692071,  0,         0,         -0.905698, 0.397614,   //
          0.668403, 0,         0,         0.766314,  -0.755177, 0,          //
          0,        -0.850004, -0.760995, 0,         0,         -0.753801,  //
          0,        0.974532,  -0.457693, 0,         0,         -0.349668,  //
          0,        0.393521,  0,         -0.748695, 0.743611,  0});
}

TEST(SparseGptTest, LosesLessThanWandaWhichLosesLessThanMagnitude) {
  const Problem problem = MakeProblem();
  const auto factor = FactorInverse(problem.gram, kColumns, .01);
  ASSERT_TRUE(factor.ok()) << factor.status();
  for (const Pattern pattern :
       {Pattern{.sparsity = .5}, Pattern{.sparsity = .7}, Pattern{.kept = 2, .group = 4}}) {
    std::vector<float> values = problem.weights;
    const auto mask = SparseGptPrune(values, kRows, *factor, pattern, 16, 1);
    ASSERT_TRUE(mask.ok());
    const double wanda = ErrorOf(problem, *WandaMask(problem.view(), problem.squares, pattern, 1));
    const double magnitude = ErrorOf(problem, *MagnitudeMask(problem.view(), pattern, 1));
    EXPECT_LT(ErrorOf(problem, values), wanda);
    EXPECT_LT(wanda, magnitude);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_TRUE(mask->kept[i] != 0 || values[i] == 0);
    }
  }
}

TEST(SparseGptTest, TheFactorInvertsTheDampedMatrix) {
  const Problem problem = MakeProblem();
  const auto factor = FactorInverse(problem.gram, kColumns, .01);
  ASSERT_TRUE(factor.ok());
  EXPECT_EQ(factor->dead[5], 1);
  double mean = 1.0 / kColumns;  // the dead column's
  for (int64_t j = 0; j < kColumns; ++j) mean += 2 * problem.squares[j] / kColumns;
  const auto hessian = [&](int64_t i, int64_t j) {
    const double own = i == j ? .01 * mean + (i == 5 ? 1 : 0) : 0;
    return 2 * problem.gram[i * kColumns + j] + own;
  };
  // UᵀU · H = I.
  for (const int64_t i : {0, 5, 17}) {
    for (int64_t j = 0; j < kColumns; ++j) {
      double product = 0;
      for (int64_t k = 0; k < kColumns; ++k) {
        double inverse = 0;
        for (int64_t m = 0; m <= std::min(i, k); ++m) {
          inverse += double{factor->upper[m * kColumns + i]} * factor->upper[m * kColumns + k];
        }
        product += inverse * hessian(k, j);
      }
      EXPECT_NEAR(product, i == j ? 1 : 0, 2e-3) << i << "," << j;
    }
  }
}

TEST(SparseGptTest, IsTheSameForAnyNumberOfThreadsAndHitsItsSparsity) {
  const Problem problem = MakeProblem();
  const auto factor = FactorInverse(problem.gram, kColumns, .01);
  ASSERT_TRUE(factor.ok());
  std::vector<float> one = problem.weights;
  std::vector<float> three = problem.weights;
  const auto mask = SparseGptPrune(one, kRows, *factor, {.sparsity = .5}, 16, 1);
  ASSERT_TRUE(SparseGptPrune(three, kRows, *factor, {.sparsity = .5}, 16, 3).ok());
  EXPECT_EQ(one, three);
  EXPECT_EQ(mask->KeptCount(), kRows * kColumns / 2);
}

TEST(SparseGptTest, AMatrixWithoutFactorIsAnError) {
  std::vector<double> gram(4, std::nan(""));
  EXPECT_EQ(base::ReasonOf(FactorInverse(gram, 2, .01).status()), "HESSIAN_SINGULAR");
}

}  // namespace
}  // namespace espalier::sparsity
