#include "worker/engine/network.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "common/base/status.h"
#include "tests/unit/worker/engine/fixtures.h"
#include "tests/unit/worker/engine/reference_network.h"

namespace espalier::worker::engine {
namespace {

constexpr double kDensity = 0.4;

NetworkSpec MakeSpec(Activation hidden, bool dense, Activation last, Loss loss) {
  return {.input_features = 9,
          .layers = {{.units = 12, .activation = hidden, .dense = dense},
                     {.units = 7, .activation = hidden, .bias = false},
                     {.units = 5, .activation = last, .dense = dense}},
          .loss = loss};
}

// Every layer type, activation and loss that may be combined.
std::vector<NetworkSpec> AllSpecs() {
  std::vector<NetworkSpec> specs;
  for (const bool dense : {false, true}) {
    for (const Activation hidden :
         {Activation::kLinear, Activation::kRelu, Activation::kSigmoid, Activation::kTanh}) {
      for (const Activation last : {Activation::kLinear, Activation::kSoftmax}) {
        specs.push_back(MakeSpec(hidden, dense, last, Loss::kCrossEntropy));
      }
      specs.push_back(MakeSpec(hidden, dense, Activation::kSigmoid, Loss::kBinaryCrossEntropy));
      for (const Activation last : {Activation::kLinear, Activation::kRelu, Activation::kSigmoid,
                                    Activation::kTanh, Activation::kSoftmax}) {
        specs.push_back(MakeSpec(hidden, dense, last, Loss::kMeanSquaredError));
      }
    }
  }
  return specs;
}

std::unique_ptr<Network> MakeNetwork(const NetworkSpec& spec, const OptimizerSpec& optimizer,
                                     int64_t max_batch, int threads,
                                     BackendKind backend = BackendKind::kOneDnn) {
  const auto topology = MakeModelTopology(spec, kDensity);
  auto network = Network::Create(spec, optimizer, topology, max_batch, threads, backend);
  EXPECT_TRUE(network.ok()) << network.status();
  EXPECT_TRUE((*network)->SetValues(RandomFloats(topology->total_stored(), 42)).ok());
  return std::move(network).value();
}

OwnedBatch MakeBatch(const NetworkSpec& spec, const Network& network, int64_t size,
                     uint64_t key = 5) {
  return {spec.input_features, spec.layers.back().units, size, network.batch_stride(), key};
}

std::vector<float> Values(const Network& network) {
  return {network.values().begin(), network.values().end()};
}

TEST(ReferenceNetworkTest, GradientsAgreeWithFiniteDifferencesInDouble) {
  for (const NetworkSpec& spec : AllSpecs()) {
    const auto topology = MakeModelTopology(spec, kDensity);
    ReferenceNetwork<double> reference(spec, topology);
    const OwnedBatch owned(spec.input_features, 5, 6, 16, 5);
    const std::vector<float> start = RandomFloats(topology->total_stored(), 42);
    std::vector<double> values(start.begin(), start.end());
    const std::vector<double> gradients = reference.Gradients(values, owned.batch);
    for (size_t i = 0; i < values.size(); ++i) {
      constexpr double kStep = 1e-5;
      const double before = values[i];
      values[i] = before + kStep;
      const double above = reference.Loss(values, owned.batch);
      values[i] = before - kStep;
      const double below = reference.Loss(values, owned.batch);
      values[i] = before;
      ASSERT_NEAR(gradients[i], (above - below) / (2 * kStep),
                  1e-6 * std::max(1e-2, std::abs(gradients[i])))
          << "value " << i << ", hidden " << static_cast<int>(spec.layers[0].activation)
          << ", last " << static_cast<int>(spec.layers[2].activation);
    }
  }
}

TEST(NetworkTest, GradientsAndLossAgreeWithReferenceNetwork) {
  for (const BackendKind backend : {BackendKind::kReference, BackendKind::kOneDnn}) {
    for (const NetworkSpec& spec : AllSpecs()) {
      const auto network = MakeNetwork(spec, {}, 20, 2, backend);
      ReferenceNetwork<double> reference(spec, MakeModelTopology(spec, kDensity));
      const std::vector<double> values(network->values().begin(), network->values().end());
      for (const int64_t size : {20, 1, 3, 17}) {
        const OwnedBatch owned = MakeBatch(spec, *network, size);
        std::vector<float> gradients(values.size());
        const BatchResult result = network->Gradients(owned.batch, gradients);
        EXPECT_NEAR(result.loss_sum / static_cast<double>(size),
                    reference.Loss(values, owned.batch), 1e-5);
        const std::vector<double> expected = reference.Gradients(values, owned.batch);
        for (size_t i = 0; i < values.size(); ++i) {
          ASSERT_NEAR(gradients[i], expected[i], 1e-5) << "value " << i << ", batch " << size;
        }
      }
    }
  }
}

TEST(NetworkTest, TrainMovesValuesAgainstTheGradient) {
  const NetworkSpec spec =
      MakeSpec(Activation::kRelu, true, Activation::kLinear, Loss::kCrossEntropy);
  const auto network = MakeNetwork(spec, {}, 20, 1);
  const OwnedBatch owned = MakeBatch(spec, *network, 20);
  const std::vector<float> before = Values(*network);
  std::vector<float> gradients(before.size());
  const double loss = network->Gradients(owned.batch, gradients).loss_sum;
  EXPECT_EQ(network->Train(owned.batch, 0.1, 0).loss_sum, loss);
  for (size_t i = 0; i < before.size(); ++i) {
    ASSERT_NEAR(network->values()[i], before[i] - 0.1F * gradients[i], 1e-6);
  }
}

TEST(NetworkTest, TrainFollowsTheGradientWithItsTermsUntilValuesAreSet) {
  const NetworkSpec spec =
      MakeSpec(Activation::kRelu, false, Activation::kLinear, Loss::kCrossEntropy);
  const auto network = MakeNetwork(spec, {}, 20, 2);
  const OwnedBatch owned = MakeBatch(spec, *network, 20);
  const std::vector<float> before = Values(*network);
  const std::vector<float> reference = RandomFloats(static_cast<int64_t>(before.size()), 8);
  const std::vector<float> correction = RandomFloats(static_cast<int64_t>(before.size()), 9);
  std::vector<float> gradients(before.size());
  network->Gradients(owned.batch, gradients);
  ASSERT_TRUE(
      network
          ->SetGradientTerms({.proximal_mu = 2, .reference = reference, .correction = correction})
          .ok());
  network->Train(owned.batch, 0.1, 0);
  for (size_t i = 0; i < before.size(); ++i) {
    const float whole = gradients[i] + 2 * (before[i] - reference[i]) + correction[i];
    ASSERT_NEAR(network->values()[i], before[i] - 0.1F * whole, 1e-6);
  }
  ASSERT_TRUE(network->SetValues(before).ok());
  network->Train(owned.batch, 0.1, 0);
  for (size_t i = 0; i < before.size(); ++i) {
    ASSERT_NEAR(network->values()[i], before[i] - 0.1F * gradients[i], 1e-6);
  }
}

TEST(NetworkTest, RepeatedTrainingLearnsABatchByHeart) {
  for (const bool decoupled : {false, true}) {
    NetworkSpec spec =
        MakeSpec(Activation::kRelu, false, Activation::kSigmoid, Loss::kMeanSquaredError);
    spec.layers[0].units = 80;
    spec.layers[1].units = 60;
    const auto network = MakeNetwork(
        spec, {.momentum = 0.9, .weight_decay = 1e-5, .decoupled_weight_decay = decoupled}, 20, 2);
    const OwnedBatch owned = MakeBatch(spec, *network, 20);
    const std::vector<float> small = RandomFloats(network->values().size(), 42, 0.3);
    ASSERT_TRUE(network->SetValues(small).ok());
    for (int step = 0; step < 400; ++step) network->Train(owned.batch, 0.1, step);
    EXPECT_EQ(network->Evaluate(owned.batch).correct, 20);
  }
}

// The values after a few steps of everything at once.
std::vector<float> TrainedValues(bool dense, int threads) {
  NetworkSpec spec = MakeSpec(Activation::kRelu, dense, Activation::kLinear, Loss::kCrossEntropy);
  spec.input_features = 300;
  spec.layers[0].units = 200;
  spec.layers[0].dropout = 0.2;
  spec.layers[1].dropout = 0.5;
  spec.input_dropout = 0.1;
  const auto network = MakeNetwork(spec, {.momentum = 0.9, .nesterov = true}, 50, threads);
  for (const int64_t size : {50, 50, 13}) {
    network->Train(MakeBatch(spec, *network, size).batch, 0.05, static_cast<uint64_t>(size));
  }
  return Values(*network);
}

TEST(NetworkTest, SameSeedAndThreadsGiveTheSameBits) {
  for (const bool dense : {false, true}) {
    EXPECT_EQ(TrainedValues(dense, 2), TrainedValues(dense, 2));
  }
}

TEST(NetworkTest, SparseNetworkDoesNotDependOnThreadCount) {
  const std::vector<float> one = TrainedValues(false, 1);
  EXPECT_EQ(TrainedValues(false, 2), one);
  EXPECT_EQ(TrainedValues(false, 5), one);
}

TEST(NetworkTest, FrozenTensorsStayAndTheOthersStepAsBefore) {
  for (const bool dense : {true, false}) {
    const NetworkSpec spec =
        MakeSpec(Activation::kRelu, dense, Activation::kLinear, Loss::kCrossEntropy);
    const OptimizerSpec optimizer = {.momentum = 0.9, .weight_decay = 0.01};
    const auto free = MakeNetwork(spec, optimizer, 20, 2);
    const auto frozen = MakeNetwork(spec, optimizer, 20, 2);
    const std::vector<float> start(free->values().begin(), free->values().end());
    const tensor::ModelTopology& topology = *free->topology();
    // The first weight, and the last bias.
    std::vector<bool> tensors(topology.num_tensors());
    tensors.front() = tensors.back() = true;
    frozen->SetFrozen(tensors);
    const OwnedBatch owned = MakeBatch(spec, *free, 20);
    free->Train(owned.batch, 0.1, 1);
    frozen->Train(owned.batch, 0.1, 1);
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      SCOPED_TRACE(topology.layout()[i].name);
      const auto part = [&](std::span<const float> values) {
        return values.subspan(topology.offset(i), topology.stored(i));
      };
      EXPECT_FALSE(std::ranges::equal(part(free->values()), part(start)));
      EXPECT_TRUE(
          std::ranges::equal(part(frozen->values()), part(tensors[i] ? start : free->values())));
    }
    frozen->SetFrozen(std::vector<bool>(topology.num_tensors()));
    frozen->Train(owned.batch, 0.1, 1);
    EXPECT_FALSE(
        std::equal(start.begin(), start.begin() + topology.stored(0), frozen->values().begin()))
        << "thawed";
  }
}

TEST(NetworkTest, DropoutDependsOnItsKeyAndIsOffInEvaluation) {
  NetworkSpec spec = MakeSpec(Activation::kTanh, false, Activation::kLinear, Loss::kCrossEntropy);
  spec.layers[0].dropout = 0.5;
  const auto network = MakeNetwork(spec, {}, 20, 1);
  const OwnedBatch owned = MakeBatch(spec, *network, 20);
  const double plain = network->Evaluate(owned.batch).loss_sum;
  // A learning rate of 0 leaves the values alone, so that only the masks differ.
  const double first = network->Train(owned.batch, 0, 1).loss_sum;
  EXPECT_EQ(network->Train(owned.batch, 0, 1).loss_sum, first);
  EXPECT_NE(network->Train(owned.batch, 0, 2).loss_sum, first);
  EXPECT_EQ(network->Evaluate(owned.batch).loss_sum, plain);
}

// With a fixed mask a network is smooth, so that the change of loss along the step it takes must be
// what the gradient promises: this covers the backward pass through dropout.
TEST(NetworkTest, StepsThroughDropoutLowerTheLossAsMuchAsTheGradientSays) {
  for (const auto& [hidden, scaling] : std::vector<std::pair<Activation, DropoutScaling>>{
           {Activation::kLinear, DropoutScaling::kTraining},
           {Activation::kRelu, DropoutScaling::kTraining},
           {Activation::kSigmoid, DropoutScaling::kTraining},
           {Activation::kTanh, DropoutScaling::kTraining},
           {Activation::kRelu, DropoutScaling::kEvaluation},
           {Activation::kTanh, DropoutScaling::kEvaluation}}) {
    NetworkSpec spec = MakeSpec(hidden, true, Activation::kLinear, Loss::kCrossEntropy);
    spec.layers[0].dropout = 0.4;
    spec.layers[1].dropout = 0.25;
    spec.input_dropout = 0.2;
    spec.dropout_scaling = scaling;
    const auto network = MakeNetwork(spec, {}, 20, 1);
    const OwnedBatch owned = MakeBatch(spec, *network, 20);
    const std::vector<float> before = Values(*network);
    constexpr double kRate = 1e-2;
    const double loss_before = network->Train(owned.batch, kRate, 9).loss_sum;
    double squared_norm = 0;
    for (size_t i = 0; i < before.size(); ++i) {
      squared_norm += std::pow((network->values()[i] - before[i]) / kRate, 2);
    }
    const double loss_after = network->Train(owned.batch, 0, 9).loss_sum;
    const double promised = kRate * squared_norm * 20;
    EXPECT_NEAR(loss_before - loss_after, promised, 0.05 * promised) << static_cast<int>(hidden);
  }
}

// With half of the outputs dropped in training and all halved in evaluation, the gradient without
// dropout is that of a network whose next weights are half as large.
TEST(NetworkTest, DropoutScaledInEvaluationIsPartOfTheGradient) {
  for (const Activation hidden : {Activation::kRelu, Activation::kTanh}) {
    const NetworkSpec plain = MakeSpec(hidden, true, Activation::kLinear, Loss::kCrossEntropy);
    NetworkSpec scaled = plain;
    scaled.layers[0].dropout = 0.5;
    scaled.dropout_scaling = DropoutScaling::kEvaluation;
    const auto topology = MakeModelTopology(plain, kDensity);
    const auto halved = MakeNetwork(plain, {}, 20, 1);
    const auto network = MakeNetwork(scaled, {}, 20, 1);
    std::vector<float> values = Values(*network);
    const auto second = std::span(values).subspan(topology->offset(2), topology->stored(2));
    for (float& value : second) value /= 2;
    ASSERT_TRUE(halved->SetValues(values).ok());
    const OwnedBatch owned = MakeBatch(plain, *network, 20);
    EXPECT_EQ(network->Evaluate(owned.batch).loss_sum, halved->Evaluate(owned.batch).loss_sum);
    std::vector<float> expected(values.size());
    std::vector<float> found(values.size());
    halved->Gradients(owned.batch, expected);
    network->Gradients(owned.batch, found);
    for (int64_t i = 0; i < topology->stored(2); ++i) expected[topology->offset(2) + i] /= 2;
    EXPECT_EQ(found, expected);
  }
}

TEST(NetworkTest, DensitiesZeroAndOneAndOneColumnTrain) {
  for (const double density : {0.0, 1.0}) {
    NetworkSpec spec = MakeSpec(Activation::kRelu, false, Activation::kLinear, Loss::kCrossEntropy);
    spec.input_features = 1;
    const auto topology = MakeModelTopology(spec, density);
    auto network = Network::Create(spec, {}, topology, 4, 1, BackendKind::kOneDnn);
    ASSERT_TRUE(network.ok()) << network.status();
    const OwnedBatch owned = MakeBatch(spec, **network, 4);
    const double before = (*network)->Train(owned.batch, 0.5, 0).loss_sum;
    EXPECT_LT((*network)->Evaluate(owned.batch).loss_sum, before);
  }
}

TEST(NetworkTest, SetValuesForgetsMomentumAndChecksTheCount) {
  const NetworkSpec spec =
      MakeSpec(Activation::kRelu, false, Activation::kLinear, Loss::kCrossEntropy);
  const auto network = MakeNetwork(spec, {.momentum = 0.9}, 20, 1);
  const OwnedBatch owned = MakeBatch(spec, *network, 20);
  const std::vector<float> start = Values(*network);
  network->Train(owned.batch, 0.1, 0);
  const std::vector<float> first = Values(*network);
  ASSERT_TRUE(network->SetValues(start).ok());
  network->Train(owned.batch, 0.1, 0);
  EXPECT_EQ(Values(*network), first);
  EXPECT_EQ(base::ReasonOf(network->SetValues(RandomFloats(3, 1))), "SHAPE_MISMATCH");
}

TEST(NetworkTest, RestructuredItGoesOnAsANewNetworkWithTheSameValuesAndState) {
  const NetworkSpec spec =
      MakeSpec(Activation::kRelu, false, Activation::kLinear, Loss::kCrossEntropy);
  for (const auto kind : {OptimizerSpec::Kind::kSgd, OptimizerSpec::Kind::kAdam}) {
    const OptimizerSpec optimizer = {.kind = kind, .momentum = 0.9};
    const auto network = MakeNetwork(spec, optimizer, 20, 2);
    const OwnedBatch owned = MakeBatch(spec, *network, 20);
    network->Train(owned.batch, 0.1, 1);
    const auto base = network->topology();
    const tensor::ModelState before = {base, Values(*network), network->optimizer_state()};
    // Three weights of the first layer go, and other positions come.
    tensor::TopologyDiff diff = {.dropped = {0, 4, 9}, .grown = {}};
    const std::vector<int64_t> active = base->topology(0).Positions();
    for (int64_t position = 0; diff.grown.size() < 3; ++position) {
      if (!std::ranges::binary_search(active, position)) diff.grown.push_back(position);
    }
    std::vector<std::shared_ptr<const tensor::Topology>> topologies;
    for (size_t i = 0; i < base->num_tensors(); ++i) {
      topologies.push_back(base->shared_topology(i));
    }
    topologies[0] =
        std::make_shared<const tensor::Topology>(tensor::Apply(base->topology(0), diff).value());
    const auto updated = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(base->shared_layout(), topologies).value());
    ASSERT_TRUE(network->Restructure(updated).ok());
    const tensor::ModelState expected = tensor::Relayout(before, updated);
    EXPECT_EQ(Values(*network), expected.values);
    EXPECT_EQ(network->optimizer_state(), expected.optimizer_state);
    EXPECT_EQ(network->topology()->hash(), updated->hash());

    auto fresh = Network::Create(spec, optimizer, updated, 20, 2, BackendKind::kOneDnn).value();
    ASSERT_TRUE(fresh->SetValues(expected.values).ok());
    ASSERT_TRUE(fresh->SetOptimizerState(expected.optimizer_state, 1).ok());
    EXPECT_EQ(network->Train(owned.batch, 0.1, 2).loss_sum,
              fresh->Train(owned.batch, 0.1, 2).loss_sum);
    EXPECT_EQ(Values(*network), Values(*fresh));
  }
}

TEST(NetworkTest, StrideIsAnOddNumberOfCacheLines) {
  const NetworkSpec spec =
      MakeSpec(Activation::kRelu, false, Activation::kLinear, Loss::kCrossEntropy);
  for (const auto& [batch, stride] : {std::pair{1, 16}, {16, 16}, {17, 48}, {64, 80}, {100, 112}}) {
    EXPECT_EQ(MakeNetwork(spec, {}, batch, 1)->batch_stride(), stride);
  }
}

TEST(NetworkTest, BadSpecsAreRefusedWithAReason) {
  const NetworkSpec good =
      MakeSpec(Activation::kRelu, false, Activation::kLinear, Loss::kCrossEntropy);
  const auto topology = MakeModelTopology(good, kDensity);
  const std::pair<const char*, std::function<void(NetworkSpec&)>> changes[] = {
      {"NETWORK_SPEC", [](NetworkSpec& s) { s.layers.clear(); }},
      {"NETWORK_SPEC", [](NetworkSpec& s) { s.layers[1].units = 0; }},
      {"NETWORK_SPEC", [](NetworkSpec& s) { s.layers[1].dropout = 1; }},
      {"NETWORK_SPEC", [](NetworkSpec& s) { s.layers[2].dropout = 0.5; }},
      {"NETWORK_SPEC", [](NetworkSpec& s) { s.input_dropout = -0.1; }},
      {"NETWORK_SPEC", [](NetworkSpec& s) { s.layers[0].activation = Activation::kSoftmax; }},
      {"NETWORK_SPEC", [](NetworkSpec& s) { s.layers[2].activation = Activation::kSigmoid; }},
      {"SHAPE_MISMATCH", [](NetworkSpec& s) { s.layers[1].units = 8; }},
      {"SHAPE_MISMATCH", [](NetworkSpec& s) { s.input_features = 10; }},
      {"SHAPE_MISMATCH", [](NetworkSpec& s) { s.layers[2].bias = false; }},
      {"SHAPE_MISMATCH", [](NetworkSpec& s) { s.layers[1].bias = true; }},
  };
  for (const auto& [reason, change] : changes) {
    NetworkSpec spec = good;
    change(spec);
    const auto network = Network::Create(spec, {}, topology, 4, 1, BackendKind::kReference);
    EXPECT_EQ(base::ReasonOf(network.status()), reason) << network.status();
  }
}

}  // namespace
}  // namespace espalier::worker::engine
