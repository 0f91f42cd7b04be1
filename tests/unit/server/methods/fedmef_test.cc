#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "common/sparsity/drop.h"
#include "common/wire/model_spec/train_additions.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

v1::JobSpec FedMefJob() {
  v1::JobSpec spec = SmallJob("fedmef");
  SetDouble(spec, "density", 0.2);
  SetWord(spec, "selection", "first");
  SetWord(spec, "progressive", "entire");
  SetInt(spec, "update_every", 3);
  SetInt(spec, "stop_round", 20);
  return spec;
}

TEST(FedMefTest, WhatIsMarkedBeforeTheRoundIsWhatIsDroppedAfterIt) {
  for (const char* top_k : {"lists", "exact"}) {
    v1::JobSpec spec = FedMefJob();
    SetWord(spec, "top_k", top_k);
    const auto program = MethodRegistry::Builtin().Make(spec).value();
    const auto trace = test::RunJob(*program, test::FakeFleet(3)).value();
    int adjusted = 0;
    std::vector<std::vector<int32_t>> marked;
    for (const Transition& transition : trace.transitions) {
      if (transition.committed && transition.committed->weights_changed() > 0) {
        ++adjusted;
        for (const auto& change : transition.structure_change->tensors) {
          EXPECT_EQ(change.diff.dropped, marked[change.tensor]);
        }
      }
      if (!transition.state.step ||
          !wire::HasAddition(transition.state.step->task.train(), v1::TrainAddition::kExtrusion))
        continue;
      const v1::Extrusion& extrusion =
          wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kExtrusion)
              .extrusion();
      EXPECT_EQ(extrusion.lambda(), 1e-4);
      EXPECT_EQ(extrusion.learning_rate_cap(), 0.3);
      marked.clear();
      for (int i = 0; i < extrusion.counts_size(); ++i) {
        marked.push_back(
            sparsity::DropSmallestMagnitude(transition.state.model.tensor(i), extrusion.counts(i)));
      }
    }
    EXPECT_EQ(adjusted, 6) << "rounds 3, 6, …, 18";
  }
}

// 0.2 · (1 + cos(π r/20)) of each layer's weights, rounded up.
TEST(FedMefTest, MarksTheShareOfTheCosineRoundedUp) {
  const std::map<int, double> shares = {{3, .3782013},  {6, .3175571},  {9, .2312869},
                                        {12, .1381966}, {15, .0585786}, {18, .0097887}};
  const auto program = MethodRegistry::Builtin().Make(FedMefJob()).value();
  const auto trace = test::RunJob(*program, test::FakeFleet(2)).value();
  size_t rounds = 0;
  for (const Transition& transition : trace.transitions) {
    if (!transition.state.step ||
        !wire::HasAddition(transition.state.step->task.train(), v1::TrainAddition::kExtrusion))
      continue;
    ++rounds;
    const v1::Extrusion& extrusion =
        wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kExtrusion)
            .extrusion();
    const tensor::ModelTopology& topology = *transition.state.model.topology;
    for (int i = 0; i < extrusion.counts_size(); ++i) {
      const double stored = topology.is_sparse(i) ? static_cast<double>(topology.stored(i)) : 0;
      EXPECT_EQ(extrusion.counts(i), std::ceil(shares.at(transition.state.step->round) * stored));
    }
  }
  EXPECT_EQ(rounds, shares.size());
}

TEST(FedMefTest, ExtrusionIsForRoundsThatAdjustAndPruningForAll) {
  const auto program = MethodRegistry::Builtin().Make(FedMefJob()).value();
  const auto trace = test::RunJob(*program, test::FakeFleet(2)).value();
  for (const Transition& transition : trace.transitions) {
    if (!transition.state.step || !transition.state.step->task.has_train()) continue;
    const v1::TrainTask& train = transition.state.step->task.train();
    const bool extrudes = wire::HasAddition(train, v1::TrainAddition::kExtrusion);
    EXPECT_EQ(extrudes, transition.state.step->round % 3 == 0);
    EXPECT_EQ(wire::HasAddition(train, v1::TrainAddition::kGrowth), extrudes);
    EXPECT_EQ(train.training().activation_pruning(), 0.5);
  }
}

TEST(FedMefTest, PartsCanBeSwitchedOff) {
  v1::JobSpec spec = FedMefJob();
  SetWord(spec, "extrusion_rate", "schedule");
  SetDouble(spec, "lambda", 0);
  SetDouble(spec, "activation_pruning", 0);
  SetInt(spec, "update_every", 1);
  const auto start = MethodRegistry::Builtin().Make(spec).value()->Start().value();
  const v1::TrainTask& train = start.state.step->task.train();
  EXPECT_EQ(wire::AdditionOf(train, v1::TrainAddition::kExtrusion).extrusion().learning_rate_cap(),
            0);
  EXPECT_EQ(wire::AdditionOf(train, v1::TrainAddition::kExtrusion).extrusion().lambda(), 0);
  EXPECT_EQ(train.training().activation_pruning(), 0);
}

TEST(FedMefTest, TwoSharesForActivationsAreRefused) {
  v1::JobSpec spec = FedMefJob();
  spec.mutable_training()->set_activation_pruning(0.3);
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  EXPECT_TRUE(violations.empty());
  const auto start = MethodRegistry::Builtin().Make(spec).value()->Start().value();
  EXPECT_EQ(start.state.step->task.train().training().activation_pruning(), 0.3);
  SetDouble(spec, "activation_pruning", 0.6);
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "method.parameters.activation_pruning");
}

TEST(FedMefTest, ControlVariatesAreRefused) {
  v1::JobSpec spec = FedMefJob();
  spec.mutable_training()->set_control_variates(true);
  std::vector<config::Violation> violations;
  MethodRegistry::Builtin().Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "training.control_variates");
  spec.mutable_method()->set_name("fedtiny");
  violations.clear();
  MethodRegistry::Builtin().Validate(spec, violations);
  EXPECT_TRUE(violations.empty());
}

}  // namespace
}  // namespace espalier::server::methods
