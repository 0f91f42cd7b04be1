// Server optimizers against steps worked by hand.
#include "server/methods/aggregation/server_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace espalier::server::methods {
namespace {

// One learned weight, and a running statistic.
const tensor::ModelTopology& OneWeight() {
  static const tensor::ModelTopology* const kTopology = [] {
    auto layout = std::make_shared<tensor::ModelLayout>();
    layout->push_back({"layers.0.bias", {1}, 1, 1, false});
    layout->push_back({"layers.1.running_mean", {1}, 1, 1, false, true});
    return new tensor::ModelTopology(
        tensor::ModelTopology::Create(layout, {nullptr, nullptr}).value());
  }();
  return *kTopology;
}

v1::Aggregation Momentum(double momentum, double rate) {
  v1::Aggregation aggregation;
  aggregation.set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_MOMENTUM);
  aggregation.set_server_momentum(momentum);
  aggregation.set_server_learning_rate(rate);
  return aggregation;
}

v1::Aggregation Adaptive(v1::Aggregation::ServerOptimizer kind) {
  v1::Aggregation aggregation;
  aggregation.set_server_optimizer(kind);
  aggregation.set_server_learning_rate(0.5);
  aggregation.set_server_beta1(0.5);
  aggregation.set_server_beta2(0.75);
  aggregation.set_server_tau(2);
  return aggregation;
}

// The weight after rounds whose updates move it by `changes`.
float After(const v1::Aggregation& aggregation, float start, const std::vector<float>& changes,
            ServerState& state) {
  std::vector<float> model = {start, 0};
  for (const float change : changes) {
    std::vector<float> aggregate = {model[0] + change, 42};
    TakeServerStep(aggregation, OneWeight(), model, aggregate, state);
    EXPECT_EQ(aggregate[1], 42) << "running statistics are averaged, not stepped";
    model = aggregate;
  }
  return model[0];
}

TEST(ServerOptimizerTest, NoneLeavesTheAggregate) {
  ServerState state;
  EXPECT_EQ(After({}, 1, {2, 3}, state), 6);
  EXPECT_EQ(state.momentum, nullptr);
}

// v: 2, then 0.5 · 2 + 3 = 4. x: 1 + 2 / 4 + 4 / 4.
TEST(ServerOptimizerTest, MomentumAddsUpChanges) {
  ServerState state;
  EXPECT_EQ(After(Momentum(0.5, 0.25), 1, {2, 3}, state), 2.5F);
  EXPECT_EQ((*state.momentum)[0], 4);
  EXPECT_EQ((*state.momentum)[1], 0);
}

TEST(ServerOptimizerTest, MomentumZeroAtRateOneIsTheAggregateBitForBit) {
  for (const float before : {1.0F, -3e20F, 1e-30F, 0.1F}) {
    for (const float after : {1e-25F, 0.30000001F, -7e12F, 5e-39F}) {
      ServerState state;
      std::vector<float> aggregate = {after, 0};
      TakeServerStep(Momentum(0, 1), OneWeight(), std::vector<float>{before, 0}, aggregate, state);
      EXPECT_EQ(aggregate[0], after);
    }
  }
}

// τ² = 4. Round 1, Δ = 2: m = 1, v = 3 + 1 = 4, x += 0.5 · 1 / (2 + 2).
// Round 2, Δ = 6: m = 3.5, v = 3 + 9 = 12, x += 0.5 · 3.5 / (√12 + 2).
TEST(ServerOptimizerTest, AdamFollowsTheAlgorithm) {
  const auto adam = Adaptive(v1::Aggregation::SERVER_OPTIMIZER_ADAM);
  ServerState state;
  EXPECT_EQ(After(adam, 1, {2}, state), 1.125F);
  EXPECT_EQ((*state.second_moment)[0], 4);
  state = {};
  EXPECT_NEAR(After(adam, 1, {2, 6}, state), 1.125 + 0.5 * 3.5 / (std::sqrt(12.0) + 2), 1e-6);
  EXPECT_EQ((*state.second_moment)[0], 12);
}

// Round 1, Δ = 2: v = 4 − 1 · sign(0) = 4. Round 2, Δ = 6: m = 3.5, v = 4 + 9 = 13.
// Round 3, Δ = 2: m = 2.75, v = 13 − 1 = 12.
TEST(ServerOptimizerTest, YogiFollowsTheAlgorithm) {
  const auto yogi = Adaptive(v1::Aggregation::SERVER_OPTIMIZER_YOGI);
  ServerState state;
  EXPECT_EQ(After(yogi, 1, {2}, state), 1.125F);
  state = {};
  EXPECT_NEAR(After(yogi, 1, {2, 6}, state), 1.125 + 0.5 * 3.5 / (std::sqrt(13.0) + 2), 1e-6);
  EXPECT_EQ((*state.second_moment)[0], 13);
  state = {};
  After(yogi, 1, {2, 6, 2}, state);
  EXPECT_EQ((*state.second_moment)[0], 12);
  EXPECT_EQ((*state.momentum)[0], 2.75F);
}

TEST(ServerOptimizerTest, ANewWeightBeginsAsAtTheStart) {
  const auto adam = Adaptive(v1::Aggregation::SERVER_OPTIMIZER_ADAM);
  ServerState state;
  state.momentum = state.second_moment = std::make_shared<const std::vector<float>>(2, 0.0F);
  EXPECT_EQ(After(adam, 1, {2}, state), 1.125F);
}

}  // namespace
}  // namespace espalier::server::methods
