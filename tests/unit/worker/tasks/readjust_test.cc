#include "worker/tasks/network/additions/readjust.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "common/sparsity/drop.h"
#include "tests/unit/worker/engine/fixtures.h"

namespace espalier::worker::tasks {
namespace {

v1::TrainTask Task(double after_fraction) {
  v1::TrainTask task;
  v1::Readjustment& asked = *task.add_additions()->mutable_readjustment();
  for (const int64_t count : {4, 0, 3, 0}) asked.add_counts(count);
  asked.set_after_fraction(after_fraction);
  return task;
}

int64_t DueStep(double after_fraction, int64_t count) {
  const v1::TrainTask task = Task(after_fraction);
  const Readjuster readjuster(task);
  int64_t due = -1;
  for (int64_t step = 0; step < count; ++step) {
    if (!readjuster.IsDue(step, count)) continue;
    EXPECT_EQ(due, -1) << "once in a round";
    due = step;
  }
  return due;
}

TEST(ReadjusterTest, ComesAfterItsShareOfTheStepsButNeitherBeforeTheFirstNorNever) {
  EXPECT_EQ(DueStep(0.5, 10), 4);
  EXPECT_EQ(DueStep(0.01, 10), 0);
  EXPECT_EQ(DueStep(1, 10), 9);
  EXPECT_EQ(DueStep(0.5, 1), 0);
  EXPECT_EQ(Readjuster(v1::TrainTask()).IsDue(0, 1), false);
}

TEST(ReadjusterTest, TheSmallestGoAndTheLargestGradientsComeWithZero) {
  const engine::NetworkSpec spec = {
      .input_features = 9,
      .layers = {{.units = 12, .activation = engine::Activation::kTanh},
                 {.units = 5, .activation = engine::Activation::kLinear}}};
  const auto base = engine::MakeModelTopology(spec, 0.4);
  const auto network =
      engine::Network::Create(spec, {.momentum = 0.9}, base, 16, 1, engine::BackendKind::kReference)
          .value();
  ASSERT_TRUE(network->SetValues(engine::RandomFloats(base->total_stored(), 7)).ok());
  const engine::OwnedBatch owned(9, 5, 16, network->batch_stride(), 5);
  network->Train(owned.batch, 0.1, 1);
  const std::vector<float> values(network->values().begin(), network->values().end());
  const std::vector<int64_t> counts = {4, 0, 3, 0};
  const auto expected = network->GrowthCandidates(std::span(&owned.batch, 1), counts);

  const v1::TrainTask task = Task(0.5);
  Readjuster readjuster(task);
  ASSERT_TRUE(readjuster.Readjust(owned.batch, *network).ok());
  v1::TopologyUpdate update;
  ASSERT_TRUE(update.ParseFromString(readjuster.Encode(*base).value()));
  const auto updated = wire::ApplyTopologyUpdate(*base, update).value();
  EXPECT_EQ(updated->hash(), network->topology()->hash());
  for (const size_t t : {0, 2}) {
    const auto source = tensor::SourceIndices(base->topology(t), updated->topology(t));
    const std::vector<int64_t> positions = updated->topology(t).Positions();
    const auto before = std::span(values).subspan(base->offset(t), base->stored(t));
    const auto after = network->values().subspan(updated->offset(t), updated->stored(t));
    std::vector<int64_t> grown;
    for (size_t k = 0; k < source.size(); ++k) {
      if (source[k] < 0) grown.push_back(positions[k]);
      EXPECT_EQ(after[k], source[k] < 0 ? 0.0F : before[source[k]]);
    }
    EXPECT_EQ(grown, expected[t].positions);
    for (const int32_t dropped : sparsity::DropSmallestMagnitude(before, counts[t])) {
      EXPECT_EQ(std::ranges::count(source, dropped), 0);
    }
  }
  // Momentum of what came is 0; training goes on.
  const std::vector<float> state = network->optimizer_state();
  EXPECT_GE(std::ranges::count(state, 0.0F), 7);
  network->Train(owned.batch, 0.1, 2);
}

TEST(ReadjusterTest, AsksForMoreThanThereAreIsCutToWhatThereIs) {
  const engine::NetworkSpec spec = {
      .input_features = 3, .layers = {{.units = 2, .activation = engine::Activation::kLinear}}};
  const auto base = engine::MakeModelTopology(spec, 0.5);  // 3 of 6
  const auto network =
      engine::Network::Create(spec, {}, base, 4, 1, engine::BackendKind::kReference).value();
  ASSERT_TRUE(network->SetValues(engine::RandomFloats(base->total_stored(), 7)).ok());
  const engine::OwnedBatch owned(3, 2, 4, network->batch_stride(), 5);
  v1::TrainTask task;
  task.add_additions()->mutable_readjustment()->add_counts(1000);
  Readjuster readjuster(task);
  ASSERT_TRUE(readjuster.Readjust(owned.batch, *network).ok());
  EXPECT_EQ(network->topology()->stored(0), 3);
}

}  // namespace
}  // namespace espalier::worker::tasks
