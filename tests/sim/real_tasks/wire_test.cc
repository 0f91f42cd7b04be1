// Jobs whose values travel in fewer bytes (job.wire), by the code that workers run.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/real_tasks/real_fleet.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::test {
namespace {

constexpr int kInputs = 60;
constexpr int kRounds = 12;

const worker::data::DataFolder& Data() {
  static const auto* folder = [] {
    auto* made = new worker::data::DataFolder();
    std::string points;
    for (int row = 0; row < 240; ++row) {
      for (int column = 0; column < kInputs; ++column) {
        points += std::to_string((row * 7 + column * (1 + row % 3)) % 11 * 0.1) + ",";
      }
      points += std::to_string(row % 3) + "\n";
    }
    made->Write("points/train.csv", points);
    return made;
  }();
  return *folder;
}

v1::JobSpec Points(const std::string& method) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset("points");
  spec.mutable_data()->set_test_fraction(0.2);
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_partition()->set_shards(4);
  spec.mutable_model()->set_input_features(kInputs);
  for (const int units : {64, 3}) {
    v1::LinearLayer& layer = *spec.mutable_model()->add_layers()->mutable_linear();
    layer.set_units(units);
    layer.set_activation(units == 3 ? v1::ACTIVATION_LINEAR : v1::ACTIVATION_RELU);
  }
  spec.mutable_method()->set_name(method);
  if (method != "dense") {
    (*spec.mutable_method()->mutable_parameters())["density"].set_double_value(0.4);
  }
  spec.mutable_training()->set_batch_size(16);
  spec.mutable_training()->set_local_steps(6);
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.1);
  spec.mutable_federation()->set_rounds(kRounds);
  spec.mutable_evaluation()->set_central(true);
  spec.mutable_evaluation()->set_every_rounds(kRounds);
  spec.set_seed(5);
  return spec;
}

struct Ended {
  v1::Job job;
  int64_t sent = 0;  // in the rounds that are not evaluated
  int64_t received = 0;
};

Ended Train(v1::JobSpec spec, v1::Wire::Values up, v1::Wire::Values down, int workers = 2,
            bool backwards = false) {
  Simulation sim;
  std::vector<std::unique_ptr<RealWorker>> fleet;
  for (int i = 0; i < workers; ++i) {
    const std::string id = "w" + std::to_string(i);
    fleet.push_back(std::make_unique<RealWorker>(id, Data().path(), sim.models_folder() + "-" + id,
                                                 sim.fleet, sim.jobs, sim.blobs));
    EXPECT_TRUE(fleet.back()->Connect().ok());
  }
  if (backwards) std::reverse(fleet.begin(), fleet.end());
  if (up != v1::Wire::VALUES_UNSPECIFIED) spec.mutable_wire()->set_up(up);
  if (down != v1::Wire::VALUES_UNSPECIFIED) spec.mutable_wire()->set_down(down);
  const std::string name = sim.Start(spec);
  RunToItsEnd(sim, fleet, name);
  Ended ended{sim.Job(name)};
  EXPECT_EQ(ended.job.state(), v1::Job::STATE_SUCCEEDED) << ended.job.failure_message();
  for (int i = 1; i + 1 < ended.job.history_size(); ++i) {
    ended.sent += ended.job.history(i).bytes_sent();
    ended.received += ended.job.history(i).bytes_received();
  }
  return ended;
}

constexpr auto kNone = v1::Wire::VALUES_UNSPECIFIED;
constexpr auto kF32 = v1::Wire::VALUES_F32;
constexpr auto kBf16 = v1::Wire::VALUES_BF16;
constexpr auto kInt8 = v1::Wire::VALUES_INT8;

double LastLoss(const v1::Job& job) { return job.history(job.history_size() - 1).test_loss(); }

TEST(WireTest, FourBytesAreTheDefault) {
  const std::string hash = Train(Points("set"), kNone, kNone).job.model_hash();
  EXPECT_EQ(Train(Points("set"), kF32, kF32).job.model_hash(), hash);
}

TEST(WireTest, CompactValuesTakeTheirShareOfTheBytes) {
  for (const std::string method : {"dense", "static", "feddst"}) {
    SCOPED_TRACE(method);
    const Ended whole = Train(Points(method), kNone, kNone);
    const Ended half = Train(Points(method), kBf16, kBf16);
    const Ended quarter = Train(Points(method), kInt8, kInt8);
    // Headers and what is no value take the same as before.
    EXPECT_LT(half.received, 0.75 * whole.received);
    EXPECT_LT(quarter.received, half.received);
    EXPECT_LT(quarter.sent, half.sent);
    EXPECT_LT(half.sent, whole.sent);
    EXPECT_LT(Train(Points(method), kInt8, kNone).received, half.received);
    EXPECT_LT(Train(Points(method), kNone, kInt8).sent, half.sent);
  }
}

TEST(WireTest, TrainingComesAsFar) {
  for (const std::string method : {"dense", "set", "rigl", "feddst"}) {
    SCOPED_TRACE(method);
    const double whole = LastLoss(Train(Points(method), kNone, kNone).job);
    for (const auto values : {kBf16, kInt8}) {
      EXPECT_NEAR(LastLoss(Train(Points(method), values, values).job), whole, 0.15 * whole + 0.02);
    }
  }
}

// A worker keeps no state of it: whoever does a task sends the same.
TEST(WireTest, BitsDoNotDependOnWhoDoesWhat) {
  for (const auto values : {kBf16, kInt8}) {
    const std::string hash = Train(Points("rigl"), values, values).job.model_hash();
    EXPECT_EQ(Train(Points("rigl"), values, values, 1).job.model_hash(), hash);
    EXPECT_EQ(Train(Points("rigl"), values, values, 3, true).job.model_hash(), hash);
  }
}

// Steps that are smaller than the distance between two numbers of the type would be lost for ever
// without error feedback.
TEST(WireTest, WhatRoundingLeavesOutIsSentLater) {
  v1::JobSpec spec = Points("dense");
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(1e-4);
  spec.mutable_federation()->set_rounds(40);
  spec.mutable_evaluation()->set_every_rounds(40);
  const v1::Job whole = Train(spec, kNone, kNone).job;
  const v1::Job compact = Train(spec, kNone, kBf16).job;
  const double gained = whole.history(0).train_loss() - whole.history(39).train_loss();
  ASSERT_GT(gained, 0);
  EXPECT_NEAR(compact.history(39).train_loss(), whole.history(39).train_loss(), 0.2 * gained);
}

TEST(WireTest, AMethodThatSendsNoWeightsRefusesIt) {
  Simulation sim;
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset("text");
  spec.mutable_data()->mutable_text()->set_context(16);
  spec.mutable_model()->set_pretrained("any");
  spec.mutable_method()->set_name("wanda");
  spec.mutable_wire()->set_up(v1::Wire::VALUES_INT8);
  std::vector<config::Violation> violations;
  EXPECT_FALSE(sim.Create(spec, violations).ok());
  const bool named = std::any_of(violations.begin(), violations.end(), [](const auto& violation) {
    return violation.field == "spec.wire" || violation.field == "wire";
  });
  EXPECT_TRUE(named);
}

}  // namespace
}  // namespace espalier::test
