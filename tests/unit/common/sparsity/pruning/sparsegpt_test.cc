#include "common/sparsity/pruning/sparsegpt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/pruning/scores.h"

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
