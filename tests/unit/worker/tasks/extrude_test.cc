#include "worker/tasks/network/additions/extrude.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/unit/worker/engine/fixtures.h"

namespace espalier::worker::tasks {
namespace {

TEST(ExtrusionRateTest, FallsAsRexFromTheCapAndNeverBelowTheSchedule) {
  // A large norm: 2σ − 1 is 1. p(t) = (2T − 2t) / (2T − t).
  EXPECT_DOUBLE_EQ(ExtrusionRate(0.01, 0.1, 1e3, 0, 10), 0.1);
  EXPECT_DOUBLE_EQ(ExtrusionRate(0.01, 0.1, 1e3, 5, 10), 0.1 * 10 / 15);
  EXPECT_DOUBLE_EQ(ExtrusionRate(0.01, 0.1, 1e3, 9, 10), 0.1 * 2 / 11);
  EXPECT_DOUBLE_EQ(ExtrusionRate(0.05, 0.1, 1e3, 9, 10), 0.05);
  // Little to push out: little extra. 2σ(0.5) − 1 = tanh(0.25).
  EXPECT_NEAR(ExtrusionRate(0.01, 0.1, 0.5, 0, 10), 0.1 * std::tanh(0.25), 1e-12);
  EXPECT_DOUBLE_EQ(ExtrusionRate(0.01, 0.1, 0, 0, 10), 0.01);
}

TEST(ExtruderTest, PenaltyIsTheGradientOfLambdaTimesTheSquaredNormOfTheSmallest) {
  const engine::NetworkSpec spec = {
      .input_features = 9,
      .layers = {{.units = 12, .activation = engine::Activation::kTanh},
                 {.units = 5, .activation = engine::Activation::kLinear}}};
  const auto topology = engine::MakeModelTopology(spec, 0.4);
  const std::vector<float> start = engine::RandomFloats(topology->total_stored(), 7);
  v1::TrainTask task;
  task.set_learning_rate(0.1);
  v1::Extrusion& extrusion = *task.add_additions()->mutable_extrusion();
  for (const int64_t count : {5, 0, 3, 0}) extrusion.add_counts(count);
  extrusion.set_lambda(0.25);
  const auto step = [&](bool extrude) {
    auto network =
        engine::Network::Create(spec, {}, topology, 16, 1, engine::BackendKind::kReference).value();
    EXPECT_TRUE(network->SetValues(start).ok());
    if (extrude) {
      const Extruder extruder(task);
      extruder.Begin(*network);
      EXPECT_GT(network->PenalizedNorm(), 0);
      EXPECT_EQ(extruder.LearningRate(0, 10, *network), 0.1) << "no cap, no floor";
    }
    const engine::OwnedBatch owned(9, 5, 16, network->batch_stride(), 5);
    network->Train(owned.batch, 0.1, 1);
    return std::vector<float>(network->values().begin(), network->values().end());
  };
  const std::vector<float> plain = step(false);
  const std::vector<float> extruded = step(true);
  int changed = 0;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] == extruded[i]) continue;
    ++changed;
    // w − η (g + 2λw)
    EXPECT_NEAR(extruded[i], plain[i] - 0.1F * 2 * 0.25F * start[i], 1e-6) << i;
    // None of the weights of its tensor that are not marked is smaller.
    const size_t tensor = static_cast<int64_t>(i) < topology->offset(1) ? 0 : 2;
    int smaller = 0;
    for (int64_t k = topology->offset(tensor);
         k < topology->offset(tensor) + topology->stored(tensor); ++k) {
      smaller += std::abs(start[k]) < std::abs(start[i]) ? 1 : 0;
    }
    EXPECT_LT(smaller, tensor == 0 ? 5 : 3);
  }
  EXPECT_EQ(changed, 8);
}

}  // namespace
}  // namespace espalier::worker::tasks
