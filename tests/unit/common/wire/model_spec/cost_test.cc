#include "common/wire/model_spec/cost.h"

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

namespace espalier::wire {
namespace {

constexpr char kLeNet[] = R"pb(
  input_features: 784
  layers { linear { units: 300 activation: ACTIVATION_RELU } }
  layers { linear { units: 100 activation: ACTIVATION_RELU } }
  layers { linear { units: 10 } }
)pb";
// Output maps of 8 × 8 and, after stride 2, 4 × 4.
constexpr char kConvNet[] = R"pb(
  input_image { channels: 3 height: 8 width: 8 }
  layers { conv2d { channels: 4 } }
  layers { batch_norm {} }
  layers { conv2d { channels: 6 stride: 2 no_bias: true } }
  layers { global_avg_pool {} }
  layers { linear { units: 10 } }
)pb";

ModelCost CostOf(const std::string& text) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return ModelCost::Create(spec).value();
}

TEST(ModelCostTest, LinearLayerCostsTwoPerStoredWeightForwardsAndBiasesNothing) {
  const ModelCost cost = CostOf(kLeNet);
  EXPECT_EQ(cost.DenseForwardFlops(), 2 * 266'200);
  const std::vector<int64_t> stored = {3621, 300, 1336, 100, 367, 10};
  EXPECT_EQ(cost.ForwardFlops(stored), 2 * (3621 + 1336 + 367));
  EXPECT_EQ(cost.TrainFlops(stored), 6 * (3621 + 1336 + 367));
}

TEST(ModelCostTest, ConvolutionCostsItsWeightsAtEachOutputPosition) {
  const ModelCost cost = CostOf(kConvNet);
  EXPECT_EQ(cost.DenseForwardFlops(), 2 * (108 * 64 + 216 * 16 + 60));
  // Tensors: conv, bias, scale, shift, mean, variance, conv, linear, bias.
  EXPECT_EQ(cost.ForwardFlops(std::vector<int64_t>{10, 4, 4, 4, 4, 4, 20, 60, 10}),
            2 * (10 * 64 + 20 * 16 + 60));
}

TEST(ModelCostTest, RoundCountsPassesStepsAndGrowthGradients) {
  const ModelCost cost = CostOf(kLeNet);
  const std::vector<int64_t> stored = {1000, 300, 500, 100, 100, 10};
  v1::TrainTask task;
  task.mutable_training()->set_batch_size(20);
  task.mutable_training()->set_local_epochs(3);
  const auto epochs = cost.OfRound(task, stored, 2, 150);
  EXPECT_EQ(epochs.actual, 3 * 150 * 6.0 * 1600);
  EXPECT_EQ(epochs.dense, 3 * 150 * 6.0 * 266'200);

  task.mutable_training()->set_local_steps(7);
  EXPECT_EQ(cost.OfRound(task, stored, 2, 150).actual, 2 * 7 * 20 * 6.0 * 1600);

  for (const int64_t count : {0, 0, 5, 0, 0, 0}) task.add_growth_candidates(count);
  task.set_growth_batches(2);
  // A forward pass, activations' gradients, and the second layer's gradient at all positions.
  const double growth = 2.0 * 20 * 2 * (4.0 * 1600 + 2.0 * 30'000);
  EXPECT_EQ(cost.OfRound(task, stored, 2, 150).actual, 2 * 7 * 20 * 6.0 * 1600 + growth);
  // Gradients of stored weights out of the same passes, or alone.
  task.set_active_gradients(true);
  const double active = 2.0 * 20 * 2 * 2.0 * 1600;
  EXPECT_EQ(cost.OfRound(task, stored, 2, 150).actual, 2 * 7 * 20 * 6.0 * 1600 + growth + active);
  v1::TrainTask alone = task;
  alone.clear_growth_candidates();
  EXPECT_EQ(cost.OfRound(alone, stored, 2, 150).actual, 2 * 7 * 20 * 6.0 * 1600 + 3 * active);
  task.set_active_gradients(false);
  // Importance: gradients at all positions of what is sparse, in each of the 280 examples.
  task.set_importance(true);
  double positions = 0;
  for (const size_t i : {0, 2, 4}) positions += cost.FullGradientFlops(i);
  EXPECT_EQ(cost.OfRound(task, stored, 2, 150).actual,
            2 * 7 * 20 * 6.0 * 1600 + growth + 2 * 7 * 20 * positions);
}

TEST(ModelCostTest, MemoryGrowsWithStoredWeightsOptimizerStateAndBatch) {
  const ModelCost cost = CostOf(kLeNet);
  const std::vector<int64_t> sparse = {20'000, 300, 1000, 100, 100, 10};
  const std::vector<int64_t> dense = {235'200, 300, 30'000, 100, 1000, 10};
  v1::Training training;
  training.set_batch_size(32);
  const int64_t plain = cost.WorkerBytes(sparse, training);
  EXPECT_LT(plain, cost.WorkerBytes(dense, training));
  training.mutable_optimizer()->set_momentum(0.9);
  EXPECT_EQ(cost.WorkerBytes(sparse, training) - plain, 4 * 21'510);
  training.mutable_optimizer()->set_momentum(0);
  training.set_batch_size(1000);
  EXPECT_GT(cost.WorkerBytes(sparse, training), plain + 900 * 4 * (784 + 410));
}

TEST(ModelCostTest, StandardisedWeightsExistTwice) {
  constexpr char kConv[] =
      "input_image { channels: 3 height: 8 width: 8 } layers { conv2d { channels: 50 %s } } "
      "layers { linear { units: 10 } }";
  const auto bytes = [&](const char* field) {
    std::string text = kConv;
    text.replace(text.find("%s"), 2, field);
    std::vector<int64_t> stored = {400, 50, 1000, 10};
    if (*field != '\0') stored.insert(stored.begin() + 1, 50);
    return CostOf(text).WorkerBytes(stored, v1::Training());
  };
  EXPECT_GE(bytes("standardize: true") - bytes(""), 4 * 400);
}

}  // namespace
}  // namespace espalier::wire
