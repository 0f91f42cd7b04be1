// Pruned activations: what is kept, that all but weight gradients stays exact, and what it saves.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>

#include "common/base/status.h"
#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/layers/pruned_output.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {
namespace {

// What pruning leaves, by sorting.
std::vector<float> Expected(const AlignedBuffer& data, const PrunedOutput::Shape& shape,
                            Extent extent, double share) {
  std::vector<std::pair<float, int64_t>> order;  // by −|value|, then (row, column)
  for (int64_t row = 0; row < shape.rows; ++row) {
    for (int64_t b = 0; b < extent.size; ++b) {
      const int64_t at = row * shape.stride + b;
      order.emplace_back(-std::abs(data.data()[at]), at);
    }
  }
  std::ranges::sort(order);
  const auto number = static_cast<int64_t>(order.size());
  order.resize(number - static_cast<int64_t>(std::floor(share * static_cast<double>(number))));
  std::vector<float> expected(data.size(), 0.0F);
  for (const auto& [magnitude, at] : order) expected[at] = data.data()[at];
  return expected;
}

TEST(PrunedOutputTest, KeepsTheLargestOfTheWholeTensorAndAmongEqualsTheLowerIndex) {
  for (const int64_t rows : {1, 7, 64, 130}) {
    for (const Extent extent : {Extent{1, 16}, Extent{16, 16}, Extent{37, 48}}) {
      const PrunedOutput::Shape shape = {rows, 80, 64};
      AlignedBuffer data(rows * shape.stride);
      // Few distinct values, so that there are many ties; zeros among them.
      const std::vector<float> random = RandomFloats(data.size(), rows + extent.size);
      for (int64_t i = 0; i < data.size(); ++i) data.data()[i] = std::round(3 * random[i]);
      for (const double share : {0.0, 0.1, 0.5, 0.75, 0.99}) {
        for (const int threads : {1, 3}) {
          PrunedOutput output(shape, share, true, false, threads);
          output.Keep(data.data(), extent);
          AlignedBuffer restored(data.size());
          output.Restore(restored.data());
          const std::vector<float> expected = Expected(data, shape, extent, share);
          ASSERT_TRUE(std::ranges::equal(restored.span(), expected))
              << rows << " rows, " << extent.size << " examples, share " << share;
        }
      }
    }
  }
}

LayerSpec Conv(int64_t units, Activation activation = Activation::kLinear, int64_t stride = 1) {
  return {.kind = LayerKind::kConv,
          .units = units,
          .activation = activation,
          .bias = activation != Activation::kLinear,
          .kernel = 3,
          .stride = stride,
          .padding = 1};
}
LayerSpec Norm(Activation activation) {
  return {.kind = LayerKind::kBatchNorm, .activation = activation};
}
LayerSpec Pool(LayerKind kind) {
  return {.kind = kind, .activation = Activation::kLinear, .kernel = 2, .stride = 2};
}
LayerSpec Block(int64_t units, int64_t stride) {
  LayerSpec block = {.kind = LayerKind::kResidual, .activation = Activation::kRelu};
  block.body = {Conv(units, Activation::kLinear, stride), Norm(Activation::kRelu), Conv(units),
                Norm(Activation::kLinear)};
  if (stride == 2) {
    block.shortcut = {{.kind = LayerKind::kConv,
                       .units = units,
                       .activation = Activation::kLinear,
                       .bias = false,
                       .kernel = 1,
                       .stride = 2}};
    block.shortcut.push_back(Norm(Activation::kLinear));
  }
  return block;
}
NetworkSpec ImageSpec(MapShape image, std::vector<LayerSpec> layers, double pruning) {
  layers.push_back({.units = 3, .activation = Activation::kLinear});
  return {.input_features = image.features(),
          .layers = std::move(layers),
          .input_image = image,
          .activation_pruning = pruning};
}

std::vector<std::vector<LayerSpec>> Stacks() {
  return {
      {Conv(4, Activation::kRelu), Conv(5, Activation::kRelu), Conv(3, Activation::kTanh)},
      {Conv(4), Norm(Activation::kRelu), Conv(4), Norm(Activation::kTanh), Conv(2)},
      {Conv(4, Activation::kRelu), Pool(LayerKind::kMaxPool), Conv(4, Activation::kRelu)},
      {Conv(4, Activation::kRelu), Pool(LayerKind::kAveragePool), Conv(4)},
      {Conv(4), Norm(Activation::kRelu), Block(4, 1), Block(6, 2), Pool(LayerKind::kAveragePool)},
      {{.units = 20, .activation = Activation::kRelu},
       {.units = 15, .activation = Activation::kRelu, .dropout = 0.5},
       {.units = 10, .activation = Activation::kSigmoid}},
  };
}

struct Result {
  double loss = 0;
  std::vector<float> gradients;
};

std::unique_ptr<Network> Make(const NetworkSpec& spec, int64_t batch, int threads) {
  const auto topology = MakeModelTopology(spec, 0.6);
  auto network = Network::Create(spec, {}, topology, batch, threads, BackendKind::kOneDnn);
  EXPECT_TRUE(network.ok()) << network.status();
  std::vector<float> values = RandomFloats(topology->total_stored(), 42, 0.5);
  for (size_t i = 0; i < topology->num_tensors(); ++i) {
    // Running variances are not negative.
    if (topology->is_sparse(i)) continue;
    for (int64_t k = 0; k < topology->stored(i); ++k) {
      float& value = values[topology->offset(i) + k];
      value = std::abs(value);
    }
  }
  EXPECT_TRUE((*network)->SetValues(values).ok());
  return std::move(network).value();
}

Result Gradients(const std::vector<LayerSpec>& layers, double pruning, int threads = 2,
                 int64_t size = 11) {
  const NetworkSpec spec = ImageSpec({2, 8, 6}, layers, pruning);
  const auto network = Make(spec, 20, threads);
  const OwnedBatch owned(spec.input_features, 3, size, network->batch_stride(), 5);
  Result result;
  result.gradients.resize(network->values().size());
  result.loss = network->Gradients(owned.batch, result.gradients).loss_sum;
  return result;
}

TEST(ActivationPruningTest, ASharedThatDropsNothingGivesTheSameBits) {
  for (const auto& layers : Stacks()) {
    const Result exact = Gradients(layers, 0);
    const Result pruned = Gradients(layers, 1e-9);
    EXPECT_EQ(exact.loss, pruned.loss);
    EXPECT_EQ(exact.gradients, pruned.gradients);
  }
}

TEST(ActivationPruningTest, OnlyWeightGradientsAfterTheFirstLayerChange) {
  for (const auto& layers : Stacks()) {
    const NetworkSpec spec = ImageSpec({2, 8, 6}, layers, 0.9);
    const auto topology = MakeModelTopology(spec, 0.6);
    const Result exact = Gradients(layers, 0);
    const Result pruned = Gradients(layers, 0.9);
    EXPECT_EQ(exact.loss, pruned.loss);
    for (size_t i = 0; i < topology->num_tensors(); ++i) {
      // Deltas are exact, and with them all gradients but those of weights that read what was
      // pruned. The first layer reads the batch.
      if (i > 0 && topology->layout()[i].sparsifiable) continue;
      for (int64_t k = topology->offset(i); k < topology->offset(i) + topology->stored(i); ++k) {
        ASSERT_EQ(exact.gradients[k], pruned.gradients[k]) << "tensor " << i;
      }
    }
    EXPECT_NE(exact.gradients, pruned.gradients);
  }
}

TEST(ActivationPruningTest, ThreadCountDoesNotChangeABitOfSparseNetworks) {
  for (const auto& layers : Stacks()) {
    EXPECT_EQ(Gradients(layers, 0.7, 1).gradients, Gradients(layers, 0.7, 3).gradients);
  }
}

// Two layers by hand: the second weight's gradient is delta · pruned(h)ᵀ.
TEST(ActivationPruningTest, TheGradientIsThatOfThePrunedInput) {
  const NetworkSpec with = {.input_features = 4,
                            .layers = {{.units = 6, .activation = Activation::kLinear},
                                       {.units = 3, .activation = Activation::kLinear}},
                            .loss = Loss::kMeanSquaredError,
                            .activation_pruning = 0.4};
  const auto network = Make(with, 5, 1);
  const OwnedBatch owned(4, 3, 5, network->batch_stride(), 5);
  std::vector<float> gradients(network->values().size());
  network->Gradients(owned.batch, gradients);
  const tensor::ModelTopology& t = *network->topology();
  const auto product = [&](size_t weight, const AlignedBuffer& x) {
    AlignedBuffer y(t.layout()[weight].rows * network->batch_stride());
    const std::vector<int64_t> positions = t.topology(weight).Positions();
    for (int64_t b = 0; b < 5; ++b) {
      for (int64_t r = 0; r < t.layout()[weight].rows; ++r) {
        y.data()[r * network->batch_stride() + b] = network->values()[t.offset(weight + 1) + r];
      }
      for (size_t k = 0; k < positions.size(); ++k) {
        y.data()[positions[k] / t.topology(weight).cols() * network->batch_stride() + b] +=
            network->values()[t.offset(weight) + static_cast<int64_t>(k)] *
            x.data()[positions[k] % t.topology(weight).cols() * network->batch_stride() + b];
      }
    }
    return y;
  };
  const AlignedBuffer hidden = product(0, owned.data);
  const AlignedBuffer output = product(2, hidden);
  const std::vector<float> kept = Expected(hidden, {6, network->batch_stride(), 16}, {5, 16}, 0.4);
  EXPECT_EQ(std::ranges::count_if(kept, [](float v) { return v != 0; }), 30 - 12);
  const std::vector<int64_t> positions = t.topology(2).Positions();
  for (size_t k = 0; k < positions.size(); ++k) {
    const int64_t row = positions[k] / 6;
    double expected = 0;
    for (int64_t b = 0; b < 5; ++b) {
      const double target = owned.labels[b] == row ? 1 : 0;
      expected += (output.data()[row * network->batch_stride() + b] - target) *
                  kept[positions[k] % 6 * network->batch_stride() + b] / 5;
    }
    EXPECT_NEAR(gradients[t.offset(2) + static_cast<int64_t>(k)], expected, 1e-5);
  }
}

TEST(ActivationPruningTest, EvaluationAndTrainingMayTakeTurns) {
  const NetworkSpec spec = ImageSpec({2, 8, 6}, Stacks()[4], 0.5);
  const auto network = Make(spec, 20, 2);
  const OwnedBatch owned(spec.input_features, 3, 20, network->batch_stride(), 5);
  const double first = network->Evaluate(owned.batch).loss_sum;
  EXPECT_EQ(network->Evaluate(owned.batch).loss_sum, first);
  double last = 0;
  for (uint64_t step = 0; step < 300; ++step) {
    last = network->Train(owned.batch, 0.2, step).loss_sum;
    network->Evaluate(owned.batch);
  }
  EXPECT_LT(last, 0.5 * first) << "learns with half of its activations";
}

TEST(ActivationPruningTest, SharesOutOfRangeAreRefused) {
  for (const double share : {-0.1, 1.0, std::nan("")}) {
    const NetworkSpec spec = ImageSpec({2, 8, 6}, {Conv(2)}, share);
    const auto network =
        Network::Create(spec, {}, MakeModelTopology(spec, 1), 4, 1, BackendKind::kReference);
    EXPECT_EQ(base::ReasonOf(network.status()), "NETWORK_SPEC");
  }
}

// A convolution in place of one with a batch norm.
LayerSpec Standardized(int64_t units, Activation activation, int64_t stride = 1,
                       int64_t kernel = 3) {
  return {.kind = LayerKind::kConv,
          .units = units,
          .activation = activation,
          .kernel = kernel,
          .stride = stride,
          .padding = kernel / 2,
          .standardize = true};
}
LayerSpec StandardizedBlock(int64_t units, int64_t stride) {
  LayerSpec block = {.kind = LayerKind::kResidual, .activation = Activation::kRelu};
  block.body = {Standardized(units, Activation::kRelu, stride),
                Standardized(units, Activation::kLinear)};
  if (stride == 2) block.shortcut = {Standardized(units, Activation::kLinear, 2, 1)};
  return block;
}

// MiB that resnet8 stores between the passes, and with the buffers that layers share.
struct Stored {
  double between = 0;
  double all = 0;
};
Stored MeasureResNet8(const char* name, const std::vector<LayerSpec>& layers, double share) {
  const NetworkSpec spec = ImageSpec({3, 32, 32}, layers, share);
  const auto network = Make(spec, 64, 1);
  const OwnedBatch owned(spec.input_features, 3, 64, network->batch_stride(), 5);
  network->Train(owned.batch, 0.01, 1);
  Stored stored = {static_cast<double>(network->StoredActivationBytes()) / (1 << 20)};
  stored.all = stored.between + static_cast<double>(network->SharedActivationBytes()) / (1 << 20);
  std::cout << name << ", batch 64, share " << share << ": stored " << stored.between
            << " MiB, with shared buffers " << stored.all << " MiB\n";
  return stored;
}

// The numbers in docs/methods/fedmef.md.
TEST(ActivationPruningTest, ResNet8StoresFortyPercentLessAtOneHalf) {
  const std::vector<LayerSpec> layers = {Conv(16),     Norm(Activation::kRelu),
                                         Block(16, 1), Block(32, 2),
                                         Block(64, 2), Pool(LayerKind::kGlobalAveragePool)};
  const Stored none = MeasureResNet8("resnet8", layers, 0);
  const Stored half = MeasureResNet8("resnet8", layers, 0.5);
  const Stored most = MeasureResNet8("resnet8", layers, 0.9);
  EXPECT_LT(half.between, 0.6 * none.between);
  EXPECT_LT(most.between, 0.5 * none.between);
  EXPECT_LT(half.all, 0.85 * none.all);
}

TEST(ActivationPruningTest, WithoutBatchNormNothingIsStoredExactly) {
  const std::vector<LayerSpec> layers = {
      Standardized(16, Activation::kRelu), StandardizedBlock(16, 1), StandardizedBlock(32, 2),
      StandardizedBlock(64, 2), Pool(LayerKind::kGlobalAveragePool)};
  const Stored none = MeasureResNet8("resnet8 with standardised weights", layers, 0);
  const Stored half = MeasureResNet8("resnet8 with standardised weights", layers, 0.5);
  const Stored most = MeasureResNet8("resnet8 with standardised weights", layers, 0.9);
  // A bit each for places and signs, and the share that is left, of every 32.
  EXPECT_LT(half.between, 0.6 * none.between);
  EXPECT_LT(most.between, 0.2 * none.between);
}

}  // namespace
}  // namespace espalier::worker::engine
