// Every product of every backend and instruction set against the naive reference in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/kernels/sparse_product.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/reference/reference_math.h"

namespace espalier::worker::engine {
namespace {

struct Shape {
  int64_t rows;
  int64_t cols;
};

constexpr Shape kShapes[] = {{1, 1}, {7, 1}, {1, 33}, {40, 30}, {33, 257}, {64, 3000}};
constexpr double kDensities[] = {0, 0.01, 0.1, 0.5, 1};
constexpr int64_t kBatches[] = {1, 3, 16, 100, 300};

int64_t WidthOf(int64_t batch) { return (batch + kLanes - 1) / kLanes * kLanes; }
int64_t StrideOf(int64_t batch) { return WidthOf(batch) + kLanes; }

// One sparse matrix with operands; values, X and dY are uniform in [−1, 1).
struct Problem {
  Problem(Shape shape, double density, int64_t batch)
      : topology(RandomTopology(shape.rows, shape.cols, density, 11)),
        stride(StrideOf(batch)),
        width(WidthOf(batch)),
        values(RandomFloats(topology->nnz(), 1)),
        x(RandomFloats(shape.cols * stride, 2)),
        dy(RandomFloats(shape.rows * stride, 3)) {}

  void ExpectMultiplyIsRight(SparseProduct& product) const {
    std::vector<float> y(dy.size(), 99.0F);
    product.Multiply(values.data(), x.data(), width, y.data());
    std::vector<double> expected(dy.size());
    reference::Multiply(*topology, Doubles(values).data(), Doubles(x).data(), stride, width,
                        expected.data());
    const double tolerance = 3e-6 * std::sqrt(static_cast<double>(topology->cols())) + 1e-6;
    for (int64_t i = 0; i < static_cast<int64_t>(y.size()); ++i) {
      if (i % stride >= width) continue;
      ASSERT_NEAR(y[i], expected[i], tolerance) << "row " << i / stride;
    }
  }

  void ExpectGradientIsRight(SparseProduct& product) const {
    std::vector<float> gradient(values.size(), 99.0F);
    product.Gradient(dy.data(), x.data(), width, gradient.data());
    std::vector<double> expected(values.size());
    reference::SampledProduct(*topology, Doubles(dy).data(), Doubles(x).data(), stride, width,
                              expected.data());
    const double tolerance = 3e-6 * std::sqrt(static_cast<double>(width)) + 1e-6;
    for (size_t k = 0; k < gradient.size(); ++k) {
      ASSERT_NEAR(gradient[k], expected[k], tolerance) << "position " << k;
    }
  }

  std::shared_ptr<const tensor::Topology> topology;
  int64_t stride;
  int64_t width;
  std::vector<float> values;
  std::vector<float> x;
  std::vector<float> dy;
};

template <typename Check>
void ForEachProblem(const Check& check) {
  for (const Shape shape : kShapes) {
    for (const double density : kDensities) {
      for (const int64_t batch : kBatches) {
        SCOPED_TRACE(testing::Message() << shape.rows << " × " << shape.cols << ", density "
                                        << density << ", batch " << batch);
        check(Problem(shape, density, batch));
      }
    }
  }
}

TEST(KernelSparseProductTest, AgreesWithReferenceOnEveryInstructionSet) {
  for (const Isa isa : SupportedIsas()) {
    SCOPED_TRACE(static_cast<int>(isa));
    ForEachProblem([&](const Problem& problem) {
      KernelSparseProduct product(problem.topology, problem.stride, 2, isa);
      problem.ExpectMultiplyIsRight(product);
      problem.ExpectGradientIsRight(product);
    });
  }
}

TEST(KernelSparseProductTest, TilesOfAnyWidthAgreeWithReference) {
  for (int64_t blocks = 1; blocks <= 34; ++blocks) {
    SCOPED_TRACE(testing::Message() << blocks * kLanes << " examples");
    const Problem problem({40, 300}, 0.3, blocks * kLanes);
    KernelSparseProduct product(problem.topology, problem.stride, 2, DetectIsa());
    problem.ExpectMultiplyIsRight(product);
    problem.ExpectGradientIsRight(product);
  }
}

TEST(KernelSparseProductTest, ThreadCountDoesNotChangeABit) {
  for (const int64_t batch : {100, 256}) {
    const Problem problem({200, 3000}, 0.05, batch);
    std::vector<float> expected_y(problem.dy.size());
    std::vector<float> expected_gradient(problem.values.size());
    KernelSparseProduct one(problem.topology, problem.stride, 1, DetectIsa());
    one.Multiply(problem.values.data(), problem.x.data(), problem.width, expected_y.data());
    one.Gradient(problem.dy.data(), problem.x.data(), problem.width, expected_gradient.data());
    for (const int threads : {2, 3, 7}) {
      std::vector<float> y(expected_y.size());
      std::vector<float> gradient(expected_gradient.size());
      KernelSparseProduct product(problem.topology, problem.stride, threads, DetectIsa());
      product.Multiply(problem.values.data(), problem.x.data(), problem.width, y.data());
      product.Gradient(problem.dy.data(), problem.x.data(), problem.width, gradient.data());
      EXPECT_EQ(y, expected_y) << batch << " examples, " << threads << " threads";
      EXPECT_EQ(gradient, expected_gradient) << batch << " examples, " << threads << " threads";
    }
  }
}

TEST(KernelSparseProductTest, MoreThreadsThanRowsIsFine) {
  const Problem problem({1, 33}, 0.5, 16);
  KernelSparseProduct product(problem.topology, problem.stride, 8, DetectIsa());
  problem.ExpectMultiplyIsRight(product);
}

TEST(OneDnnCsrProductTest, AgreesWithReference) {
  ForEachProblem([](const Problem& problem) {
    if (problem.topology->nnz() == 0) return;  // the library refuses empty matrices
    auto product = MakeOneDnnCsrProduct(problem.topology, problem.stride, 1);
    ASSERT_TRUE(product.ok()) << product.status();
    problem.ExpectMultiplyIsRight(**product);
  });
}

TEST(OneDnnBackendTest, GemmAgreesWithReferenceForEveryTransposition) {
  auto backend = MakeOneDnnBackend(2);
  constexpr int64_t kM = 37;
  constexpr int64_t kN = 50;
  constexpr int64_t kK = 29;
  const std::vector<float> a = RandomFloats(64 * 64, 1);
  const std::vector<float> b = RandomFloats(64 * 64, 2);
  for (const bool transpose_a : {false, true}) {
    for (const bool transpose_b : {false, true}) {
      const GemmShape shape = {.transpose_a = transpose_a,
                               .transpose_b = transpose_b,
                               .m = kM,
                               .n = kN,
                               .k = kK,
                               .lda = 64,
                               .ldb = 64,
                               .ldc = 64};
      ASSERT_TRUE(backend->PlanGemm(shape).ok());
      std::vector<float> c(64 * 64);
      backend->Gemm(shape, a.data(), b.data(), c.data());
      for (int64_t i = 0; i < kM; ++i) {
        for (int64_t j = 0; j < kN; ++j) {
          double sum = 0;
          for (int64_t k = 0; k < kK; ++k) {
            sum += double{transpose_a ? a[k * 64 + i] : a[i * 64 + k]} *
                   (transpose_b ? b[j * 64 + k] : b[k * 64 + j]);
          }
          ASSERT_NEAR(c[i * 64 + j], sum, 1e-5) << i << ", " << j;
        }
      }
    }
  }
}

}  // namespace
}  // namespace espalier::worker::engine
