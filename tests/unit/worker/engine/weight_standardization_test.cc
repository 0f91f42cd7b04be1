// Standardised weights alone, and what a network makes of them; gradients of whole networks are in
// conv_network_test.cc.
#include "worker/engine/layers/transforms/weight_standardization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/base/status.h"
#include "tests/unit/worker/engine/fixtures.h"
#include "tests/unit/worker/engine/reference_model.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {
namespace {

// Channels of 4, 1, 0 and 2 active weights out of 5.
std::shared_ptr<const tensor::Topology> FourChannels() {
  const std::vector<int64_t> positions = {0, 1, 3, 4, 7, 16, 18};
  return std::make_shared<const tensor::Topology>(
      tensor::Topology::FromPositions(4, 5, positions).value());
}
const std::vector<float> kWeights = {1, -2, 0.5, 3, 0.7F, 0.1F, 0.3F};
const std::vector<float> kScales = {2, 3, 5, -1};

TEST(WeightStandardizationTest, ChannelsHaveNoMeanAndTheNormOfTheirScale) {
  WeightStandardization standardization(FourChannels(), 4, 5, 2);
  const float* weights = standardization.Forward(kWeights.data(), kScales.data());
  double sum = 0;
  double squares = 0;
  for (int k = 0; k < 4; ++k) {
    sum += weights[k];
    squares += weights[k] * weights[k];
  }
  EXPECT_NEAR(sum, 0, 1e-6);
  EXPECT_NEAR(squares, 4, 1e-5);
  EXPECT_FLOAT_EQ(weights[4], 3 * 0.7F) << "a single weight is only scaled";
  EXPECT_NEAR(weights[5], std::sqrt(0.5), 1e-5) << "two weights are ±γ/√2";
  EXPECT_NEAR(weights[6], -std::sqrt(0.5), 1e-5);
}

TEST(WeightStandardizationTest, EqualWeightsAreZeroAndTheirGradientsFinite) {
  const std::vector<float> equal(7, 0.25F);
  WeightStandardization standardization(FourChannels(), 4, 5, 1);
  const float* weights = standardization.Forward(equal.data(), kScales.data());
  for (const int k : {0, 1, 2, 3, 5, 6}) EXPECT_EQ(weights[k], 0);
  std::vector<float> gradient = {1, 2, 3, 4, 5, 6, 7};
  std::vector<float> of_scale(4);
  standardization.Backward(equal.data(), kScales.data(), gradient, of_scale);
  for (const float g : gradient) EXPECT_TRUE(std::isfinite(g));
  EXPECT_EQ(of_scale[2], 0) << "a channel without weights";
}

TEST(WeightStandardizationTest, GradientsAtAllPositionsAgreeWithThoseOfTheActiveOnes) {
  const auto topology = FourChannels();
  WeightStandardization standardization(topology, 4, 5, 1);
  standardization.Forward(kWeights.data(), kScales.data());
  const std::vector<float> all = RandomFloats(20, 3);
  std::vector<float> active;
  for (const int64_t p : topology->Positions()) active.push_back(all[p]);
  std::vector<float> of_scale(4);
  standardization.Backward(kWeights.data(), kScales.data(), active, of_scale);
  size_t next = 0;
  for (int64_t c = 0; c < 4; ++c) {
    std::vector<float> row(all.begin() + c * 5, all.begin() + c * 5 + 5);
    standardization.BackwardAll(c, kWeights.data(), kScales.data(), row);
    const auto own = std::span(kWeights).subspan(
        topology->row_offsets()[c], topology->row_offsets()[c + 1] - topology->row_offsets()[c]);
    for (int64_t col = 0; col < 5; ++col) {
      if (next < active.size() && topology->Positions()[next] == c * 5 + col) {
        EXPECT_EQ(row[col], active[next++]);
      } else {
        EXPECT_FLOAT_EQ(row[col],
                        static_cast<float>(kScales[c] * StandardOf(own).factor * all[c * 5 + col]));
      }
    }
  }
  EXPECT_EQ(next, active.size());
}

NetworkSpec StandardizedSpec(double pruning = 0) {
  const auto conv = [](int64_t units, int64_t stride) {
    return LayerSpec{.kind = LayerKind::kConv,
                     .units = units,
                     .kernel = 3,
                     .stride = stride,
                     .padding = 1,
                     .standardize = true};
  };
  LayerSpec block = {.kind = LayerKind::kResidual, .activation = Activation::kRelu};
  block.body = {conv(8, 1), conv(8, 1)};
  return {
      .input_features = 2 * 8 * 6,
      .layers = {conv(8, 1), block, conv(12, 2), {.units = 3, .activation = Activation::kLinear}},
      .input_image = {2, 8, 6},
      .activation_pruning = pruning};
}

std::unique_ptr<Network> Make(const NetworkSpec& spec, double density, int threads) {
  const auto topology = MakeModelTopology(spec, density);
  auto network =
      Network::Create(spec, {.momentum = 0.9}, topology, 20, threads, BackendKind::kOneDnn);
  EXPECT_TRUE(network.ok()) << network.status();
  EXPECT_TRUE((*network)->SetValues(RandomFloats(topology->total_stored(), 42)).ok());
  return std::move(network).value();
}

// Few weights: channels of 0, 1 and 2 among them.
TEST(StandardizedNetworkTest, GradientsAgreeWithFiniteDifferencesWhereChannelsAreNearlyEmpty) {
  const NetworkSpec spec = StandardizedSpec();
  const auto topology = MakeModelTopology(spec, 0.06);
  const auto network = Make(spec, 0.06, 2);
  const OwnedBatch owned(spec.input_features, 3, 7, network->batch_stride(), 5);
  const std::vector<double> values(network->values().begin(), network->values().end());
  std::vector<float> gradients(values.size());
  network->Gradients(owned.batch, gradients);
  ReferenceModel reference(spec, topology);
  const std::vector<double> expected = reference.Gradients(values, owned.batch);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_NEAR(gradients[i], expected[i], 1e-4 * std::max(1.0, std::abs(expected[i]))) << i;
  }
}

TEST(StandardizedNetworkTest, LearnsWithoutBatchNormAndWithPrunedActivations) {
  const auto network = Make(StandardizedSpec(0.5), 0.4, 2);
  const OwnedBatch owned(96, 3, 20, network->batch_stride(), 5);
  const double first = network->Evaluate(owned.batch).loss_sum;
  for (uint64_t step = 0; step < 200; ++step) network->Train(owned.batch, 0.05, step);
  EXPECT_LT(network->Evaluate(owned.batch).loss_sum, 0.3 * first);
}

TEST(StandardizedNetworkTest, ThreadCountDoesNotChangeABit) {
  const auto trained = [](int threads) {
    const auto network = Make(StandardizedSpec(), 0.3, threads);
    const OwnedBatch owned(96, 3, 20, network->batch_stride(), 5);
    std::vector<float> gradients(network->values().size());
    network->Gradients(owned.batch, gradients);
    return gradients;
  };
  EXPECT_EQ(trained(1), trained(3));
}

TEST(StandardizedNetworkTest, ImportanceAtActivePositionsIsTheGradientThatIsFollowed) {
  const NetworkSpec spec = StandardizedSpec();
  const auto network = Make(spec, 0.3, 1);
  const tensor::ModelTopology& topology = *network->topology();
  const OwnedBatch owned(96, 3, 20, network->batch_stride(), 5);
  std::vector<float> gradients(network->values().size());
  network->Gradients(owned.batch, gradients);
  std::vector<float> sums(topology.total_size());
  network->TrainAndSum(owned.batch, 0, 1, sums);
  int64_t first = 0;
  for (size_t t = 0; t < topology.num_tensors(); ++t) {
    const auto positions = topology.Structure(t).value()->Positions();
    for (size_t k = 0; k < positions.size(); ++k) {
      ASSERT_NEAR(sums[first + positions[k]], gradients[topology.offset(t) + k], 1e-5)
          << "tensor " << t;
    }
    first += topology.layout()[t].size();
  }
}

TEST(StandardizedNetworkTest, LinearLayersAreNotStandardised) {
  NetworkSpec spec = StandardizedSpec();
  spec.layers.back().standardize = true;
  EXPECT_EQ(base::ReasonOf(
                Network::Create(spec, {}, MakeModelTopology(spec, 1), 4, 1, BackendKind::kReference)
                    .status()),
            "NETWORK_SPEC");
}

}  // namespace
}  // namespace espalier::worker::engine
