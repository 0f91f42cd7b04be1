// Training that begins with the optimizer state of a checkpoint, or with a fresh one.
#include "server/methods/start/optimizer_start.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "common/base/status.h"
#include "server/methods/program_state_codec.h"
#include "tests/unit/server/methods/test_jobs.h"
#include "tests/unit/server/methods/trained_models.h"

namespace espalier::server::methods {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::Optimizer Averaged(v1::Optimizer::Kind kind) {
  v1::Optimizer optimizer;
  optimizer.set_kind(kind);
  optimizer.set_learning_rate(0.1);
  if (kind == v1::Optimizer::KIND_SGD) optimizer.set_momentum(0.9);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  return optimizer;
}

class OptimizerStartTest : public testing::Test {
 protected:
  static v1::JobSpec Job(const std::string& method, const v1::Optimizer& optimizer) {
    v1::JobSpec spec = ConvJob(method);
    spec.mutable_model()->set_pretrained("checkpoints/first-7");
    *spec.mutable_training()->mutable_optimizer() = optimizer;
    spec.mutable_training()->set_local_steps(5);
    return spec;
  }

  // Writes the checkpoint with a state of numbers that all differ, none of them 0.
  tensor::ModelState Write(const v1::JobSpec& spec, double density, int64_t steps = 35) {
    const v1::Optimizer& optimizer = spec.training().optimizer();
    tensor::ModelState model = models_.Write(spec.model(), density);
    const auto slots = static_cast<size_t>(espalier::checkpoint::SlotsOf(optimizer));
    for (size_t i = 0; i < slots * model.values.size(); ++i) {
      model.optimizer_state.push_back(0.25F + static_cast<float>(i) / 64);
    }
    models_.Write(model, spec.model(), espalier::checkpoint::SavedOptimizer{optimizer, steps});
    return model;
  }

  absl::StatusOr<Transition> Start(const v1::JobSpec& spec) {
    return MethodRegistry::Builtin(models_.library()).Make(spec).value()->Start();
  }
  std::string WhyFresh(const v1::JobSpec& spec) {
    const Transition first = Start(spec).value();
    EXPECT_THAT(first.state.model.optimizer_state, IsEmpty());
    EXPECT_EQ(first.state.step->task.train().first_step(), 0);
    EXPECT_EQ(first.optimizer_start->checkpoint, "");
    return first.optimizer_start->why_fresh;
  }

  TrainedModels models_{testing::UnitTest::GetInstance()->current_test_info()->name()};
};

TEST_F(OptimizerStartTest, TheStateOfTheSameWeightsIsTheSameToTheLastBit) {
  for (const auto kind : {v1::Optimizer::KIND_SGD, v1::Optimizer::KIND_ADAM}) {
    for (const auto& [method, density] : std::map<std::string, double>{
             {"dense", 1}, {"finetune", 0.3}, {"static", 0.3}, {"set", 0.3}, {"rigl", 0.3}}) {
      const v1::JobSpec spec = Job(method, Averaged(kind));
      const tensor::ModelState model = Write(spec, density);
      const Transition first = Start(spec).value();
      EXPECT_EQ(first.state.model.values, model.values) << method;
      EXPECT_EQ(first.state.model.optimizer_state, model.optimizer_state) << method;
      EXPECT_EQ(first.optimizer_start->checkpoint, "checkpoints/first-7");
      EXPECT_EQ(first.optimizer_start->steps, 35);
      EXPECT_EQ(first.optimizer_start->why_fresh, "");
      // Its steps count on.
      EXPECT_EQ(first.state.step->task.train().first_step(), 35);
      const auto layout = model.topology->shared_layout();
      const auto decoded = DecodeProgramState(EncodeProgramState(first.state), layout).value();
      EXPECT_EQ(decoded.earlier_steps, 35);
      EXPECT_EQ(decoded.model.optimizer_state, model.optimizer_state);
    }
  }
}

TEST_F(OptimizerStartTest, WeightsThatAreKeptOfADenseModelKeepTheirState) {
  for (const char* method : {"static", "rigl", "fedtiny", "fedmef"}) {
    v1::JobSpec spec = Job(method, Averaged(v1::Optimizer::KIND_ADAM));
    SetDouble(spec, "density", 0.2);
    if (method[0] == 'f') SetWord(spec, "selection", "first");
    const tensor::ModelState dense = Write(spec, 1);
    const auto started = Start(spec);
    ASSERT_TRUE(started.ok()) << method << started.status();
    const tensor::ModelState& model = started->state.model;
    const tensor::ModelState kept = tensor::Relayout(dense, model.topology);
    EXPECT_LT(model.values.size(), dense.values.size() / 2);
    EXPECT_EQ(model.optimizer_state, kept.optimizer_state) << method;
    EXPECT_EQ(std::ranges::count(model.optimizer_state, 0.0F), 0) << method;
  }
}

TEST_F(OptimizerStartTest, GradualPruningBeginsWithAllOfIt) {
  const v1::JobSpec spec = Job("gmp", Averaged(v1::Optimizer::KIND_SGD));
  const tensor::ModelState dense = Write(spec, 1);
  EXPECT_EQ(Start(spec)->state.model.optimizer_state, dense.optimizer_state);
}

TEST_F(OptimizerStartTest, WithAnotherOptimizerItIsFreshAndSaysWhy) {
  const v1::JobSpec momentum = Job("dense", Averaged(v1::Optimizer::KIND_SGD));
  const v1::JobSpec adam = Job("dense", Averaged(v1::Optimizer::KIND_ADAM));
  v1::JobSpec reset = adam;
  reset.mutable_training()->mutable_optimizer()->set_across_rounds(
      v1::Optimizer::ACROSS_ROUNDS_RESET);
  v1::JobSpec decoupled = momentum;
  decoupled.mutable_training()->mutable_optimizer()->set_decoupled_weight_decay(true);

  models_.Write(momentum.model());
  EXPECT_THAT(WhyFresh(momentum), HasSubstr("the checkpoint holds none"));
  Write(adam, 1);
  EXPECT_EQ(WhyFresh(reset), "optimizer.across_rounds is reset");
  EXPECT_EQ(WhyFresh(momentum),
            "the checkpoint holds Adam's moments, and the job's optimizer keeps momentum of SGD");
  Write(momentum, 1);
  EXPECT_THAT(WhyFresh(adam), HasSubstr("holds momentum of SGD, and"));
  EXPECT_THAT(WhyFresh(decoupled), HasSubstr("keeps momentum of SGD with decoupled weight decay"));
  Write(adam, 1, /*steps=*/0);
  EXPECT_THAT(WhyFresh(adam), HasSubstr("how many minibatches lie behind Adam's moments"));
  // The decay of weights is no part of Adam's moments, and rates and decays may be others.
  Write(adam, 1);
  v1::JobSpec other = adam;
  other.mutable_training()->mutable_optimizer()->set_decoupled_weight_decay(true);
  other.mutable_training()->mutable_optimizer()->set_learning_rate(0.3);
  other.mutable_training()->mutable_optimizer()->set_beta1(0.8);
  EXPECT_EQ(Start(other)->optimizer_start->checkpoint, "checkpoints/first-7");
}

TEST_F(OptimizerStartTest, JobsThatBeginAtRandomSayNothingOfIt) {
  v1::JobSpec spec = Job("dense", Averaged(v1::Optimizer::KIND_SGD));
  spec.mutable_model()->clear_pretrained();
  const Transition first = Start(spec).value();
  EXPECT_FALSE(first.optimizer_start.has_value());
  EXPECT_THAT(first.state.model.optimizer_state, IsEmpty());
}

TEST_F(OptimizerStartTest, NumbersThatNoOptimizerLeavesAreRefused) {
  const auto refusal = [this](v1::Optimizer::Kind kind, size_t at, float number) {
    const v1::JobSpec spec = Job("dense", Averaged(kind));
    tensor::ModelState model = Write(spec, 1);
    model.optimizer_state[at] = number;
    models_.Write(model, spec.model(),
                  espalier::checkpoint::SavedOptimizer{spec.training().optimizer(), 35});
    const absl::Status status = Start(spec).status();
    EXPECT_EQ(base::ReasonOf(status), "OPTIMIZER_STATE_INVALID");
    return std::string(status.message());
  };
  const auto values = models_.Write(ConvJob("dense").model()).values.size();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(v1::Optimizer::KIND_SGD, 0, kNaN),
              HasSubstr("found nan in the momentum of layers.0.weight; set "
                        "training.optimizer.across_rounds to reset"));
  EXPECT_THAT(refusal(v1::Optimizer::KIND_ADAM, values - 1, -INFINITY),
              HasSubstr("found -inf in the first_moment of layers.3.bias"));
  EXPECT_THAT(refusal(v1::Optimizer::KIND_ADAM, values, -1),
              HasSubstr("expected finite numbers of at least 0"));
}

}  // namespace
}  // namespace espalier::server::methods
