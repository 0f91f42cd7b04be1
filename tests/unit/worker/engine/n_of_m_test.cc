// N:M masks in front of products.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/unit/worker/engine/dense_network.h"
#include "worker/engine/layers/transforms/n_of_m_mask.h"

namespace espalier::worker::engine {
namespace {

using ::testing::ElementsAre;

// Golden values: keep 0 and 1, g = .1 each, λ = 2e-4.
TEST(NOfMMaskTest, DecayOfSrSteIsThatOfWeightsThatAreNotKept) {
  const std::vector<float> weights = {.5F, -.3F, .2F, .1F};
  NOfMMask mask({.kept = 2, .group = 4, .step = 1, .cols = 4}, 2e-4, 1, 1);
  const float* effective = mask.Forward(weights.data(), nullptr);
  EXPECT_THAT(std::vector<float>(effective, effective + 4), ElementsAre(.5F, -.3F, 0, 0));
  std::vector<float> gradient(4, .1F);
  mask.Backward(weights.data(), nullptr, gradient, {});
  EXPECT_FLOAT_EQ(gradient[0], .1F);
  EXPECT_FLOAT_EQ(gradient[1], .1F);
  EXPECT_FLOAT_EQ(gradient[2], .10004F);
  EXPECT_FLOAT_EQ(gradient[3], .10002F);
  NOfMMask plain({.kept = 2, .group = 4, .step = 1, .cols = 4}, 0, 1, 1);
  plain.Forward(weights.data(), nullptr);
  std::vector<float> through(4, .1F);
  plain.Backward(weights.data(), nullptr, through, {});
  EXPECT_THAT(through, ElementsAre(.1F, .1F, .1F, .1F));
}

TEST(NOfMMaskTest, IsTheSameForAnyNumberOfThreads) {
  std::vector<float> weights(40 * 12);
  for (size_t i = 0; i < weights.size(); ++i) weights[i] = std::sin(static_cast<float>(i));
  const sparsity::NOfM pattern{.kept = 1, .group = 4, .step = 1, .cols = 12};
  NOfMMask one(pattern, 0.1, 40, 1);
  NOfMMask three(pattern, 0.1, 40, 3);
  const float* a = one.Forward(weights.data(), nullptr);
  const float* b = three.Forward(weights.data(), nullptr);
  EXPECT_TRUE(std::equal(a, a + weights.size(), b));
  EXPECT_EQ(std::count_if(a, a + weights.size(), [](float w) { return w != 0; }), 40 * 3);
}

NetworkSpec Masked(double decay) {
  NetworkSpec spec = DenseSpec();
  for (LayerSpec& layer : spec.layers) {
    layer.options = {
        {tensor::kKeptOption, 2}, {tensor::kGroupOption, 4}, {tensor::kDecayOption, decay}};
  }
  return spec;
}

// A network whose small weights are 0 gives the same outputs, and the gradient of its kept weights is that of the masked one.
TEST(NOfMNetworkTest, MultipliesByTheMaskedWeightsForwardsAndBackwards) {
  const NetworkSpec masked_spec = Masked(0);
  NetworkSpec plain_spec = masked_spec;
  for (LayerSpec& layer : plain_spec.layers) layer.options.clear();
  const auto masked = MakeNetwork(masked_spec);
  const auto plain = MakeNetwork(plain_spec);
  std::vector<float> pruned(masked->values().begin(), masked->values().end());
  const tensor::ModelTopology& topology = *masked->topology();
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const tensor::TensorSpec& tensor = topology.layout()[i];
    if (tensor.cols == 1) continue;
    for (int64_t row = 0; row < tensor.rows; ++row) {
      const auto values =
          std::span(pruned).subspan(topology.offset(i) + row * tensor.cols, tensor.cols);
      const std::vector<float> before(values.begin(), values.end());
      sparsity::KeepNOfM(before, {.kept = 2, .group = 4, .step = 1, .cols = tensor.cols}, values);
    }
  }
  ASSERT_TRUE(plain->SetValues(pruned).ok());
  const OwnedBatch owned = MakeBatch(masked_spec, *masked);
  EXPECT_EQ(masked->Evaluate(owned.batch).loss_sum, plain->Evaluate(owned.batch).loss_sum);
  const std::vector<float> before(masked->values().begin(), masked->values().end());
  masked->Train(owned.batch, 0.1, 1);
  plain->Train(owned.batch, 0.1, 1);
  int64_t moved = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    // Straight through: the step of a weight is that of the pruned network at its place.
    EXPECT_NEAR(masked->values()[i] - before[i], plain->values()[i] - pruned[i], 1e-6) << i;
    if (pruned[i] == 0 && before[i] != 0 && masked->values()[i] != before[i]) ++moved;
  }
  EXPECT_GT(moved, 0) << "weights that are not multiplied learn, too";
}

TEST(NOfMNetworkTest, DecayDrawsWeightsThatAreNotKeptTowardsZero) {
  const auto plain = MakeNetwork(Masked(0));
  const auto decayed = MakeNetwork(Masked(0.5));
  const OwnedBatch owned = MakeBatch(Masked(0), *plain);
  const std::vector<float> before(plain->values().begin(), plain->values().end());
  plain->Train(owned.batch, 0.1, 1);
  decayed->Train(owned.batch, 0.1, 1);
  int64_t differ = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    const float extra = decayed->values()[i] - plain->values()[i];
    if (extra == 0) continue;
    ++differ;
    EXPECT_NEAR(extra, -0.1F * 0.5F * before[i], 1e-6);
  }
  EXPECT_GT(differ, 0);
}

}  // namespace
}  // namespace espalier::worker::engine
