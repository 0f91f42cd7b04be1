// Networks of images: every kind of layer against finite differences of a reference in double.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "tests/unit/worker/engine/fixtures.h"
#include "tests/unit/worker/engine/reference_model.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kClasses = 3;

LayerSpec Conv(int64_t units, int64_t kernel, int64_t stride, int64_t padding) {
  return {.kind = LayerKind::kConv,
          .units = units,
          .activation = Activation::kTanh,
          .kernel = kernel,
          .stride = stride,
          .padding = padding};
}

LayerSpec Norm(Activation activation) {
  return {.kind = LayerKind::kBatchNorm, .activation = activation};
}

LayerSpec Pool(LayerKind kind, int64_t kernel, int64_t stride) {
  return {.kind = kind, .activation = Activation::kLinear, .kernel = kernel, .stride = stride};
}

LayerSpec Residual(std::vector<LayerSpec> body, std::vector<LayerSpec> shortcut,
                   Activation activation) {
  return {.kind = LayerKind::kResidual,
          .activation = activation,
          .body = std::move(body),
          .shortcut = std::move(shortcut)};
}

// Images of 2 × 7 × 6, `layers`, and a linear layer of kClasses.
NetworkSpec ImageSpec(std::vector<LayerSpec> layers) {
  layers.push_back({.units = kClasses, .activation = Activation::kLinear});
  return {.input_features = 84, .layers = std::move(layers), .input_image = {2, 7, 6}};
}

LayerSpec Dense(LayerSpec layer) {
  layer.dense = true;
  return layer;
}
LayerSpec WithoutBias(LayerSpec layer) {
  layer.bias = false;
  return layer;
}

LayerSpec Standardized(LayerSpec layer) {
  layer.standardize = true;
  return layer;
}

struct Case {
  const char* name;
  NetworkSpec spec;
};

std::vector<Case> AllCases() {
  const LayerSpec conv = Conv(4, 3, 1, 1);
  return {
      {"conv", ImageSpec({conv})},
      {"conv of stride 2 and kernel 5", ImageSpec({Conv(4, 5, 2, 2), Conv(3, 3, 2, 0)})},
      {"dense conv", ImageSpec({Dense(conv), Dense(Conv(3, 1, 2, 0))})},
      {"conv with relu, without bias",
       ImageSpec(
           {WithoutBias({.kind = LayerKind::kConv, .units = 4, .kernel = 3, .padding = 1}), conv})},
      {"standardised conv", ImageSpec({Standardized(conv)})},
      {"standardised conv without bias, of stride 2",
       ImageSpec({Standardized(WithoutBias(Conv(4, 3, 2, 1))), Standardized(conv)})},
      {"dense standardised conv", ImageSpec({Dense(Standardized(conv)), Standardized(conv)})},
      {"standardised residual with projection",
       ImageSpec({conv, Residual({Standardized(Conv(6, 3, 2, 1)), Standardized(conv)},
                                 {Standardized(Conv(4, 1, 2, 0))}, Activation::kRelu)})},
      {"batch norm first", ImageSpec({Norm(Activation::kTanh), conv})},
      {"batch norm", ImageSpec({WithoutBias(conv), Norm(Activation::kRelu), conv})},
      {"batch norm of plain features",
       ImageSpec({{.units = 5, .activation = Activation::kTanh}, Norm(Activation::kSigmoid)})},
      {"max pool", ImageSpec({conv, Pool(LayerKind::kMaxPool, 2, 2), conv})},
      {"overlapping max pool", ImageSpec({conv, Pool(LayerKind::kMaxPool, 3, 1)})},
      {"average pool", ImageSpec({conv, Pool(LayerKind::kAveragePool, 3, 2), conv})},
      {"global average pool", ImageSpec({conv, Pool(LayerKind::kGlobalAveragePool, 1, 1)})},
      {"flatten",
       ImageSpec(
           {conv, Pool(LayerKind::kFlatten, 1, 1), {.units = 5, .activation = Activation::kTanh}})},
      {"residual with identity",
       ImageSpec(
           {conv, Residual({conv, Norm(Activation::kTanh), conv}, {}, Activation::kRelu), conv})},
      {"residual with projection",
       ImageSpec(
           {conv, Residual({Conv(6, 3, 2, 1), Conv(6, 3, 1, 1)},
                           {Conv(6, 1, 2, 0), Norm(Activation::kLinear)}, Activation::kTanh)})},
      {"residual first", ImageSpec({Residual({conv, Conv(2, 3, 1, 1)}, {}, Activation::kLinear)})},
      {"residual in residual",
       ImageSpec({conv, Residual({Residual({conv}, {}, Activation::kTanh), conv}, {conv},
                                 Activation::kTanh)})},
  };
}

std::unique_ptr<Network> MakeNetwork(const NetworkSpec& spec, double density, int64_t max_batch,
                                     int threads, BackendKind backend,
                                     const OptimizerSpec& optimizer = {}) {
  const auto topology = MakeModelTopology(spec, density);
  auto network = Network::Create(spec, optimizer, topology, max_batch, threads, backend);
  EXPECT_TRUE(network.ok()) << network.status();
  EXPECT_TRUE((*network)->SetValues(RandomFloats(topology->total_stored(), 42)).ok());
  return std::move(network).value();
}

OwnedBatch MakeBatch(const Network& network, int64_t size, uint64_t key = 5) {
  return {84, kClasses, size, network.batch_stride(), key};
}

std::vector<float> Values(const Network& network) {
  return {network.values().begin(), network.values().end()};
}

class ConvNetworkTest : public testing::TestWithParam<BackendKind> {};

TEST_P(ConvNetworkTest, LossAndGradientsOfEveryLayerAgreeWithFiniteDifferences) {
  for (const Case& c : AllCases()) {
    for (const double density : {1.0, 0.4}) {
      const auto network = MakeNetwork(c.spec, density, 20, 2, GetParam());
      ReferenceModel reference(c.spec, MakeModelTopology(c.spec, density));
      const std::vector<double> values(network->values().begin(), network->values().end());
      // A large batch first, so that a small one finds leftovers in its padding.
      for (const int64_t size : {20, 3}) {
        SCOPED_TRACE(testing::Message() << c.name << ", density " << density << ", batch " << size);
        const OwnedBatch owned = MakeBatch(*network, size);
        std::vector<float> gradients(values.size());
        const BatchResult result = network->Gradients(owned.batch, gradients);
        EXPECT_NEAR(result.loss_sum / static_cast<double>(size),
                    reference.Loss(values, owned.batch), 2e-5);
        const std::vector<double> expected = reference.Gradients(values, owned.batch);
        for (size_t i = 0; i < values.size(); ++i) {
          ASSERT_NEAR(gradients[i], expected[i], 1e-4 * std::max(1.0, std::abs(expected[i])))
              << "value " << i;
        }
      }
    }
  }
}

TEST_P(ConvNetworkTest, GrowthCandidatesAreTheLargestGradientsOfInactivePositions) {
  const NetworkSpec spec = ImageSpec(
      {Conv(4, 3, 1, 1), Residual({Conv(4, 3, 1, 1)}, {Conv(4, 1, 1, 0)}, Activation::kTanh)});
  const auto topology = MakeModelTopology(spec, 0.3);
  const auto network = MakeNetwork(spec, 0.3, 20, 2, GetParam());
  // The same network with all weights stored, those that were inactive at 0.
  const auto full = MakeModelTopology(spec, 1.0);
  const tensor::ModelState state = tensor::Relayout({topology, Values(*network)}, full);
  const auto dense = MakeNetwork(spec, 1.0, 20, 2, GetParam());
  ASSERT_TRUE(dense->SetValues(state.values).ok());
  const OwnedBatch first = MakeBatch(*network, 20, 1);
  const OwnedBatch second = MakeBatch(*network, 5, 2);
  std::vector<float> gradients[2] = {std::vector<float>(state.values.size()),
                                     std::vector<float>(state.values.size())};
  dense->Gradients(first.batch, gradients[0]);
  dense->Gradients(second.batch, gradients[1]);
  const Batch batches[] = {first.batch, second.batch};
  const std::vector<int64_t> counts(topology->num_tensors(), 7);
  const std::vector<ScoreList> lists = network->GrowthCandidates(batches, counts);
  for (size_t t = 0; t < topology->num_tensors(); ++t) {
    if (!topology->is_sparse(t)) {
      EXPECT_TRUE(lists[t].positions.empty());
      continue;
    }
    const std::vector<int64_t> active = topology->topology(t).Positions();
    std::vector<std::pair<double, int64_t>> ranked;
    for (int64_t p = 0; p < topology->topology(t).size(); ++p) {
      if (std::ranges::binary_search(active, p)) continue;
      const size_t i = full->offset(t) + p;
      ranked.emplace_back(-std::abs(0.8 * gradients[0][i] + 0.2 * gradients[1][i]), p);
    }
    std::ranges::sort(ranked);
    std::vector<int64_t> expected;
    for (size_t i = 0; i < std::min<size_t>(7, ranked.size()); ++i) {
      expected.push_back(ranked[i].second);
    }
    std::ranges::sort(expected);
    EXPECT_EQ(lists[t].positions, expected) << "tensor " << t;
  }
}

TEST_P(ConvNetworkTest, GrowthCandidatesOfStandardisedWeightsAreTheSameWithoutTheActiveOnes) {
  const NetworkSpec spec = ImageSpec({Standardized(Conv(4, 3, 1, 1)), Conv(4, 3, 1, 1)});
  const auto topology = MakeModelTopology(spec, 0.3);
  const auto network = MakeNetwork(spec, 0.3, 20, 2, GetParam());
  const OwnedBatch owned = MakeBatch(*network, 20, 1);
  const Batch batches[] = {owned.batch};
  const std::vector<int64_t> counts(topology->num_tensors(), 7);
  std::vector<float> active(network->values().size());
  const std::vector<ScoreList> both = network->GrowthCandidates(batches, counts, active);
  const std::vector<ScoreList> alone = network->GrowthCandidates(batches, counts);
  ASSERT_EQ(both.size(), alone.size());
  EXPECT_EQ(alone[0].positions.size(), 7U);
  for (size_t t = 0; t < both.size(); ++t) {
    EXPECT_EQ(both[t].positions, alone[t].positions);
    EXPECT_EQ(both[t].values, alone[t].values);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, ConvNetworkTest,
                         testing::Values(BackendKind::kReference, BackendKind::kOneDnn));

NetworkSpec SmallResNet(bool dense) {
  LayerSpec conv = Conv(6, 3, 1, 1);
  conv.dense = dense;
  return ImageSpec({conv, Norm(Activation::kRelu),
                    Residual({conv, Norm(Activation::kRelu), conv, Norm(Activation::kLinear)}, {},
                             Activation::kRelu),
                    Pool(LayerKind::kMaxPool, 2, 2), Pool(LayerKind::kFlatten, 1, 1)});
}

std::vector<float> TrainedValues(bool dense, int threads) {
  const auto network =
      MakeNetwork(SmallResNet(dense), 0.3, 50, threads, BackendKind::kOneDnn, {.momentum = 0.9});
  for (const int64_t size : {50, 50, 13}) {
    network->Train(MakeBatch(*network, size).batch, 0.05, static_cast<uint64_t>(size));
  }
  return Values(*network);
}

TEST(ConvNetworkDeterminismTest, SameThreadsGiveTheSameBits) {
  for (const bool dense : {false, true}) {
    EXPECT_EQ(TrainedValues(dense, 2), TrainedValues(dense, 2));
  }
}

TEST(ConvNetworkDeterminismTest, SparseConvolutionsDoNotDependOnThreadCount) {
  const std::vector<float> one = TrainedValues(false, 1);
  EXPECT_EQ(TrainedValues(false, 2), one);
  EXPECT_EQ(TrainedValues(false, 5), one);
}

TEST(BatchNormTest, RunningStatisticsFollowTheBatchAndServeEvaluation) {
  NetworkSpec spec = ImageSpec({Norm(Activation::kLinear)});
  spec.layers[0].momentum = 1;
  const auto network = MakeNetwork(spec, 1, 20, 1, BackendKind::kOneDnn);
  const auto topology = MakeModelTopology(spec, 1);
  const OwnedBatch owned = MakeBatch(*network, 19);
  const double trained = network->Train(owned.batch, 0, 0).loss_sum;
  const int64_t n = 42 * 19;
  for (int64_t c = 0; c < 2; ++c) {
    double mean = 0;
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) {
      const double x = owned.data.data()[(c * 42 + i / 19) * owned.batch.stride + i % 19];
      mean += x / static_cast<double>(n);
      squares += x * x;
    }
    EXPECT_NEAR(network->values()[topology->offset(2) + c], mean, 1e-5);
    EXPECT_NEAR(network->values()[topology->offset(3) + c],
                (squares - mean * mean * static_cast<double>(n)) / static_cast<double>(n - 1),
                1e-5);
  }
  // Up to n − 1 for n, the statistics are those of the batch.
  EXPECT_NEAR(network->Evaluate(owned.batch).loss_sum, trained, 0.02 * trained);
  const std::vector<float> before = Values(*network);
  std::vector<float> gradients(before.size());
  network->Gradients(owned.batch, gradients);
  network->Evaluate(owned.batch);
  EXPECT_EQ(Values(*network), before);
}

TEST(BatchNormTest, RowsWithoutGapsGiveWhatRowsWithGapsGive) {
  const NetworkSpec spec =
      ImageSpec({Norm(Activation::kTanh), Conv(4, 3, 2, 1), Norm(Activation::kRelu)});
  std::vector<std::vector<float>> found;
  std::vector<double> losses;
  for (const int64_t max_batch : {16, 17}) {  // 16 fill their rows, which then are one array
    const auto network = MakeNetwork(spec, 1, max_batch, 1, BackendKind::kOneDnn);
    const OwnedBatch owned = MakeBatch(*network, 16);
    found.emplace_back(network->values().size());
    network->Gradients(owned.batch, found.back());
    losses.push_back(network->Train(owned.batch, 0, 0).loss_sum);
    found.push_back(Values(*network));  // with the running statistics
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-4);
  EXPECT_THAT(found[0], testing::Pointwise(testing::FloatNear(1e-5), found[2]));
  EXPECT_THAT(found[1], testing::Pointwise(testing::FloatNear(1e-5), found[3]));
}

TEST(BatchNormTest, CalibrationAveragesOverBatchesAndLeavesWeightsAlone) {
  const NetworkSpec spec = ImageSpec({Norm(Activation::kLinear)});
  const auto network = MakeNetwork(spec, 1, 20, 1, BackendKind::kOneDnn);
  const auto topology = MakeModelTopology(spec, 1);
  const std::vector<float> before = Values(*network);
  const int64_t mean = topology->offset(2);
  const OwnedBatch first = MakeBatch(*network, 20);
  const OwnedBatch second = MakeBatch(*network, 5, 77);
  network->Calibrate(second.batch, 1.0);
  const float of_second = network->values()[mean];
  network->Calibrate(first.batch, 1.0);
  const float of_first = network->values()[mean];
  EXPECT_NE(of_first, of_second);
  network->Calibrate(second.batch, 5.0 / 25.0);
  EXPECT_NEAR(network->values()[mean], (20 * of_first + 5 * of_second) / 25, 1e-6);
  for (int64_t i = 0; i < mean; ++i) EXPECT_EQ(network->values()[i], before[i]) << i;
}

TEST(BatchNormTest, OneExampleOnOnePositionGivesTheShiftAndNoGradient) {
  NetworkSpec spec =
      ImageSpec({Pool(LayerKind::kGlobalAveragePool, 1, 1), Norm(Activation::kLinear)});
  spec.layers.insert(spec.layers.begin(), Conv(3, 3, 1, 1));
  const auto network = MakeNetwork(spec, 1, 20, 1, BackendKind::kOneDnn);
  const auto topology = MakeModelTopology(spec, 1);
  const OwnedBatch owned = MakeBatch(*network, 1);
  std::vector<float> gradients(network->values().size());
  EXPECT_TRUE(std::isfinite(network->Gradients(owned.batch, gradients).loss_sum));
  for (int64_t i = 0; i < topology->offset(2); ++i) EXPECT_EQ(gradients[i], 0) << i;
  for (int step = 0; step < 30; ++step) network->Train(owned.batch, 0.1, 0);
  for (const float value : network->values()) EXPECT_TRUE(std::isfinite(value));
}

TEST(ConvNetworkLearningTest, RepeatedTrainingLearnsABatchByHeart) {
  for (const bool dense : {false, true}) {
    const auto network =
        MakeNetwork(SmallResNet(dense), 0.5, 20, 2, BackendKind::kOneDnn, {.momentum = 0.9});
    const OwnedBatch owned = MakeBatch(*network, 20);
    for (int step = 0; step < 200; ++step) network->Train(owned.batch, 0.02, step);
    EXPECT_EQ(network->Evaluate(owned.batch).correct, 20) << dense;
  }
}

TEST(ConvNetworkSpecTest, LayersThatDoNotFitAreRefused) {
  const LayerSpec conv = Conv(2, 3, 1, 1);
  NetworkSpec other_image = ImageSpec({conv});
  other_image.input_image = {3, 7, 6};
  NetworkSpec no_linear = ImageSpec({conv});
  no_linear.layers.pop_back();
  NetworkSpec softmax = ImageSpec({conv});
  softmax.layers[0].activation = Activation::kSoftmax;
  NetworkSpec momentum = ImageSpec({Norm(Activation::kRelu)});
  momentum.layers[0].momentum = 0;
  for (const NetworkSpec& spec :
       {other_image, no_linear, softmax, momentum, ImageSpec({Conv(2, 9, 1, 0)}),
        ImageSpec({Conv(2, 3, 3, 1)}), ImageSpec({Pool(LayerKind::kMaxPool, 8, 1)}),
        ImageSpec({{.kind = LayerKind("of_a_newer_worker")}}),
        ImageSpec({Residual({Conv(3, 3, 1, 1)}, {}, Activation::kRelu)})}) {
    const auto network = Network::Create(spec, {}, MakeModelTopology(ImageSpec({conv}), 1), 4, 1,
                                         BackendKind::kReference);
    EXPECT_THAT(base::ReasonOf(network.status()), testing::AnyOf("NETWORK_SPEC", "SHAPE_MISMATCH"));
  }
}

}  // namespace
}  // namespace espalier::worker::engine
