// What the library fails at is computed by the reference.
#include <gmock/gmock.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/reference/reference_backend.h"

namespace espalier::worker::engine {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class OneDnnFaultsTest : public ::testing::TestWithParam<OneDnnStep> {
 protected:
  OneDnnFaultsTest() {
    ObserveOneDnnFailures([this](const std::string& message) { told_.push_back(message); });
    for (int i = 0; i < 4096; ++i) numbers_.push_back(static_cast<float>(i % 37) - 18.0f);
  }
  ~OneDnnFaultsTest() override {
    for (const OneDnnStep step : {OneDnnStep::kCreate, OneDnnStep::kExecute}) {
      FailOneDnnFrom(step, 0);
    }
    ObserveOneDnnFailures(nullptr);
  }

  std::vector<float> Gemm(Backend& backend) const {
    const GemmShape shape = {.m = 8, .n = 16, .k = 24, .lda = 24, .ldb = 16, .ldc = 16};
    EXPECT_TRUE(backend.PlanGemm(shape).ok());
    std::vector<float> c(8 * 16);
    backend.Gemm(shape, numbers_.data(), numbers_.data(), c.data());
    return c;
  }

  std::vector<float> Convolve(Backend& backend, ConvProblem::Pass pass) const {
    const ConvShape shape = {2, 5, 5, 3, 3, 1, 1};
    const ConvProblem problem = {pass, shape, 16, 16};
    EXPECT_TRUE(backend.PlanConvolution(problem).ok());
    std::vector<float> c(3 * 25 * 16);
    backend.Convolve(problem, numbers_.data(), numbers_.data(), c.data());
    return c;
  }

  std::vector<std::string> told_;
  std::vector<float> numbers_;
};

TEST_P(OneDnnFaultsTest, ProductsAreThoseOfTheReference) {
  const std::unique_ptr<Backend> reference = MakeReferenceBackend();
  FailOneDnnFrom(GetParam(), 1);
  const std::unique_ptr<Backend> backend = MakeOneDnnBackend(2);
  EXPECT_EQ(Gemm(*backend), Gemm(*reference));
  using Pass = ConvProblem::Pass;
  for (const Pass pass : {Pass::kForward, Pass::kInputGradient, Pass::kWeightGradient}) {
    EXPECT_EQ(Convolve(*backend, pass), Convolve(*reference, pass));
  }
  EXPECT_THAT(told_, SizeIs(GetParam() == OneDnnStep::kCreate ? 5 : 4));
  EXPECT_THAT(told_, Each(HasSubstr("oneDNN failed to")));
}

TEST_P(OneDnnFaultsTest, OneFailureIsToldOnce) {
  const std::unique_ptr<Backend> backend = MakeOneDnnBackend(1);
  FailOneDnnFrom(GetParam(), 1);
  const std::vector<float> first = Gemm(*backend);
  FailOneDnnFrom(GetParam(), 0);
  EXPECT_EQ(Gemm(*backend), first);
  EXPECT_THAT(told_, SizeIs(1));
  Convolve(*backend, ConvProblem::Pass::kForward);
  EXPECT_THAT(told_, SizeIs(1)) << "other products stay with the library";
}

TEST_P(OneDnnFaultsTest, NetworkLearnsOnWhenTheLibraryFailsInTheMiddle) {
  const NetworkSpec spec = {
      .input_features = 9,
      .layers = {{.units = 30, .dense = true},
                 {.units = 5, .activation = Activation::kLinear, .dense = true}}};
  const auto topology = MakeModelTopology(spec, 1);
  const auto network =
      Network::Create(spec, {.momentum = 0.9}, topology, 20, 2, BackendKind::kOneDnn).value();
  ASSERT_TRUE(network->SetValues(RandomFloats(topology->total_stored(), 42, 0.3)).ok());
  const OwnedBatch owned(spec.input_features, 5, 20, network->batch_stride(), 5);
  const OwnedBatch rest(spec.input_features, 5, 3, network->batch_stride(), 5);
  FailOneDnnFrom(GetParam(), 2);
  for (int step = 0; step < 200; ++step) network->Train(owned.batch, 0.1, step);
  EXPECT_EQ(network->Evaluate(owned.batch).correct, 20);
  network->Train(rest.batch, 0.1, 200);  // shapes that were not planned
  EXPECT_THAT(told_, Not(IsEmpty()));
}

INSTANTIATE_TEST_SUITE_P(Steps, OneDnnFaultsTest,
                         ::testing::Values(OneDnnStep::kCreate, OneDnnStep::kExecute),
                         [](const auto& info) {
                           return info.param == OneDnnStep::kCreate ? "Create" : "Execute";
                         });

}  // namespace
}  // namespace espalier::worker::engine
