// Gradients at all positions while training, against finite differences in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/unit/worker/engine/fixtures.h"
#include "tests/unit/worker/engine/reference_model.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kClasses = 3;

LayerSpec Conv(int64_t units, int64_t stride, bool dense = false) {
  return {.kind = LayerKind::kConv,
          .units = units,
          .activation = Activation::kTanh,
          .dense = dense,
          .kernel = 3,
          .stride = stride,
          .padding = 1};
}

std::vector<NetworkSpec> Specs() {
  const LayerSpec last = {.units = kClasses, .activation = Activation::kLinear};
  const LayerSpec norm = {.kind = LayerKind::kBatchNorm, .activation = Activation::kTanh};
  const LayerSpec residual = {.kind = LayerKind::kResidual,
                              .activation = Activation::kTanh,
                              .body = {Conv(4, 1), norm, Conv(4, 1)},
                              .shortcut = {}};
  return {{.input_features = 70,
           .layers = {{.units = 66, .activation = Activation::kTanh},
                      {.units = 5, .activation = Activation::kTanh, .dense = true},
                      last}},
          {.input_features = 84,
           .layers = {Conv(4, 1), norm, residual, Conv(3, 2, true), last},
           .input_image = {2, 7, 6}}};
}

// The values of a sparse model among zeros.
std::vector<double> Densified(const tensor::ModelTopology& sparse,
                              const tensor::ModelTopology& full, std::span<const float> values) {
  std::vector<double> result(full.total_stored());
  for (size_t t = 0; t < sparse.num_tensors(); ++t) {
    const std::vector<int64_t> positions = sparse.Structure(t).value()->Positions();
    for (size_t k = 0; k < positions.size(); ++k) {
      result[full.offset(t) + positions[k]] = values[sparse.offset(t) + static_cast<int64_t>(k)];
    }
  }
  return result;
}

class AllGradientsTest : public testing::TestWithParam<BackendKind> {};

TEST_P(AllGradientsTest, AgreeWithFiniteDifferencesAtActiveAndInactivePositions) {
  for (const NetworkSpec& spec : Specs()) {
    for (const double density : {0.2, 0.0}) {
      const auto topology = MakeModelTopology(spec, density);
      const auto full = MakeModelTopology(spec, 1);
      auto network = Network::Create(spec, {}, topology, 20, 2, GetParam()).value();
      ASSERT_TRUE(network->SetValues(RandomFloats(topology->total_stored(), 3, 0.5)).ok());
      ReferenceModel reference(spec, full);
      std::vector<double> expected(full->total_stored());
      std::vector<float> sums(full->total_stored());
      for (const int64_t size : {20, 3}) {
        const OwnedBatch batch(spec.input_features, kClasses, size, network->batch_stride(), 7);
        const std::vector<double> dense = Densified(*topology, *full, network->values());
        const std::vector<double> gradient = reference.Gradients(dense, batch.batch);
        for (size_t i = 0; i < expected.size(); ++i) expected[i] += gradient[i];
        // Values move between the two, so that the second gradient is that of other weights.
        network->TrainAndSum(batch.batch, 0.1, 0, sums);
      }
      for (size_t i = 0; i < expected.size(); ++i) {
        ASSERT_NEAR(sums[i], expected[i], 2e-4 * std::max(1.0, std::abs(expected[i])))
            << "position " << i << ", density " << density;
      }
    }
  }
}

TEST_P(AllGradientsTest, TrainingIsTheSame) {
  for (const NetworkSpec& spec : Specs()) {
    const auto topology = MakeModelTopology(spec, 0.2);
    const OptimizerSpec optimizer = {.momentum = 0.9, .weight_decay = 0.01};
    std::vector<std::vector<float>> results;
    for (const bool sum : {false, true}) {
      auto network = Network::Create(spec, optimizer, topology, 20, 2, GetParam()).value();
      ASSERT_TRUE(network->SetValues(RandomFloats(topology->total_stored(), 3, 0.5)).ok());
      const OwnedBatch batch(spec.input_features, kClasses, 20, network->batch_stride(), 7);
      std::vector<float> sums(topology->total_size());
      for (int step = 0; step < 3; ++step) {
        if (sum) {
          network->TrainAndSum(batch.batch, 0.1, 0, sums);
        } else {
          network->Train(batch.batch, 0.1, 0);
        }
      }
      results.emplace_back(network->values().begin(), network->values().end());
    }
    EXPECT_EQ(results[0], results[1]);
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, AllGradientsTest,
                         testing::Values(BackendKind::kReference, BackendKind::kOneDnn));

}  // namespace
}  // namespace espalier::worker::engine
