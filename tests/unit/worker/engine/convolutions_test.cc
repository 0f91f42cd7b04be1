// Every product of sparse and dense convolutions, of every backend and instruction set, against the
// naive reference in double.
#include <gtest/gtest.h>

#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/kernels/sparse_convolution.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/reference/reference_backend.h"
#include "worker/engine/reference/reference_math.h"

namespace espalier::worker::engine {
namespace {

// in_channels, in_height, in_width, out_channels, kernel, stride, padding
const ConvShape kShapes[] = {
    {1, 1, 1, 1, 1, 1, 0},    {3, 5, 7, 4, 1, 1, 0},   {4, 8, 8, 6, 1, 2, 0},
    {2, 8, 8, 5, 3, 1, 1},    {3, 9, 9, 4, 3, 1, 0},   {5, 7, 11, 3, 3, 2, 1},
    {4, 8, 8, 4, 3, 2, 1},    {3, 10, 6, 2, 3, 2, 0},  {2, 12, 12, 3, 5, 1, 2},
    {2, 9, 13, 3, 5, 2, 0},   {3, 11, 11, 2, 5, 2, 1}, {2, 3, 3, 7, 3, 1, 2},
    {6, 2, 2, 5, 3, 1, 1},    {6, 2, 2, 5, 3, 2, 1},   {1, 1, 20, 2, 3, 1, 1},
    {40, 16, 16, 3, 3, 1, 1}, {700, 6, 5, 4, 3, 1, 1},
};
constexpr double kDensities[] = {1, 0.3, 0.05, 0};
constexpr int64_t kBatches[] = {1, 16, 37};

// Three products of one convolution: Y, dX and dW.
struct Products {
  std::vector<float> y;
  std::vector<float> dx;
  std::vector<float> dw;
};

struct Problem {
  Problem(const ConvShape& shape_given, double density, int64_t batch)
      : shape(shape_given),
        topology(RandomTopology(shape.out_channels, shape.cols(), density, 11)),
        width((batch + kLanes - 1) / kLanes * kLanes),
        stride(width + kLanes),
        values(RandomFloats(topology->nnz(), 1)),
        x(RandomFloats(shape.in_features() * stride, 2)),
        dy(RandomFloats(shape.out_features() * stride, 3)) {}

  Products Poisoned() const {
    return {std::vector<float>(dy.size(), 99.0F), std::vector<float>(x.size(), 99.0F),
            std::vector<float>(values.size(), 99.0F)};
  }

  Products Run(SparseConvolution& convolution) const {
    Products result = Poisoned();
    std::vector<float> scratch(convolution.scratch());
    convolution.Forward(values.data(), x.data(), width, result.y.data());
    convolution.InputGradient(values.data(), dy.data(), width, result.dx.data(), scratch.data());
    convolution.WeightGradient(dy.data(), x.data(), width, result.dw.data());
    return result;
  }

  void ExpectRight(const Products& found) const {
    std::vector<double> y(dy.size());
    std::vector<double> dx(x.size());
    std::vector<double> dw(values.size());
    reference::Convolve(*topology, shape, Doubles(values).data(), Doubles(x).data(), stride, width,
                        y.data());
    reference::ConvolveTransposed(*topology, shape, Doubles(values).data(), Doubles(dy).data(),
                                  stride, width, dx.data());
    reference::SampledConvolution(*topology, shape, Doubles(dy).data(), Doubles(x).data(), stride,
                                  width, dw.data());
    ExpectNear(found.y, y, shape.cols(), "Y");
    ExpectNear(found.dx, dx, shape.out_channels * shape.kernel * shape.kernel, "dX");
    ExpectNear(found.dw, dw, shape.out_features() / shape.out_channels * width, "dW");
  }

  // Activations are compared in the columns that count.
  void ExpectNear(const std::vector<float>& found, const std::vector<double>& expected,
                  int64_t terms, const char* what) const {
    // Rounding errors of a plain sum grow with its length.
    const double tolerance = 1e-7 * static_cast<double>(terms) + 5e-6;
    const bool activations = what[1] != 'W';
    for (int64_t i = 0; i < static_cast<int64_t>(found.size()); ++i) {
      if (activations && i % stride >= width) {
        ASSERT_EQ(found[i], 99.0F) << what << " outside the width";
      } else {
        ASSERT_NEAR(found[i], expected[i], tolerance) << what << " at " << i;
      }
    }
  }

  ConvShape shape;
  std::shared_ptr<const tensor::Topology> topology;
  int64_t width;
  int64_t stride;
  std::vector<float> values;
  std::vector<float> x;
  std::vector<float> dy;
};

template <typename Check>
void ForEachProblem(std::span<const double> densities, const Check& check) {
  for (const ConvShape& s : kShapes) {
    for (const double density : densities) {
      for (const int64_t batch : kBatches) {
        SCOPED_TRACE(testing::Message()
                     << s.in_channels << " × " << s.in_height << " × " << s.in_width << " → "
                     << s.out_channels << ", kernel " << s.kernel << ", stride " << s.stride
                     << ", padding " << s.padding << ", density " << density << ", batch "
                     << batch);
        check(Problem(s, density, batch));
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

std::unique_ptr<SparseConvolution> Plan(const Problem& problem, int threads, Isa isa) {
  auto plan = KernelSparseConvolution::Create(*problem.topology, problem.shape, problem.stride,
                                              true, std::make_shared<PanelPool>(threads), isa);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return std::move(plan).value();
}

TEST(KernelSparseConvolutionTest, AgreesWithReferenceOnEveryInstructionSet) {
  for (const Isa isa : SupportedIsas()) {
    SCOPED_TRACE(static_cast<int>(isa));
    ForEachProblem(kDensities, [&](const Problem& problem) {
      problem.ExpectRight(problem.Run(*Plan(problem, 2, isa)));
    });
  }
}

TEST(KernelSparseConvolutionTest, ThreadCountDoesNotChangeABit) {
  for (const int64_t stride : {1, 2}) {
    const Problem problem({30, 13, 16, 20, 3, stride, 1}, 0.1, 50);
    const Products one = problem.Run(*Plan(problem, 1, DetectIsa()));
    for (const int threads : {2, 3, 7}) {
      const Products many = problem.Run(*Plan(problem, threads, DetectIsa()));
      EXPECT_EQ(many.y, one.y) << threads;
      EXPECT_EQ(many.dx, one.dx) << threads;
      EXPECT_EQ(many.dw, one.dw) << threads;
    }
  }
}

TEST(BackendTest, DenseAndSparseConvolutionsAgreeWithReference) {
  std::unique_ptr<Backend> backends[] = {MakeReferenceBackend(), MakeOneDnnBackend(2)};
  for (const auto& backend : backends) {
    ForEachProblem(std::span(kDensities).first(1), [&](const Problem& p) {
      using Pass = ConvProblem::Pass;
      Products found = p.Poisoned();
      const auto run = [&](Pass pass, const float* a, const float* b, float* c) {
        const ConvProblem problem = {pass, p.shape, p.width, p.stride};
        ASSERT_TRUE(backend->PlanConvolution(problem).ok());
        backend->Convolve(problem, a, b, c);
      };
      run(Pass::kForward, p.values.data(), p.x.data(), found.y.data());
      run(Pass::kInputGradient, p.values.data(), p.dy.data(), found.dx.data());
      run(Pass::kWeightGradient, p.dy.data(), p.x.data(), found.dw.data());
      p.ExpectRight(found);
      auto sparse = backend->PlanSparseConvolution(p.topology, p.shape, p.stride, true);
      ASSERT_TRUE(sparse.ok()) << sparse.status();
      p.ExpectRight(p.Run(**sparse));
    });
  }
}

}  // namespace
}  // namespace espalier::worker::engine
