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

  task.mutable_training()->add_frozen("layers.0.weight");
  const auto frozen = cost.OfRound(task, stored, 2, 150);
  EXPECT_EQ(frozen.actual, 2 * 7 * 20 * (6.0 * 1600 - 2.0 * 1000));
  EXPECT_EQ(frozen.dense, 2 * 7 * 20 * (6.0 * 266'200 - 2.0 * 235'200));
  task.mutable_training()->clear_frozen();

  v1::GrowthReport& report = *task.add_additions()->mutable_growth();
  for (const int64_t count : {0, 0, 5, 0, 0, 0}) report.add_counts(count);
  report.set_batches(2);
  // A forward pass, activations' gradients, and the second layer's gradient at all positions.
  const double growth = 2.0 * 20 * 2 * (4.0 * 1600 + 2.0 * 30'000);
  EXPECT_EQ(cost.OfRound(task, stored, 2, 150).actual, 2 * 7 * 20 * 6.0 * 1600 + growth);
  // Gradients of stored weights out of the same passes, or alone.
  report.set_active(true);
  const double active = 2.0 * 20 * 2 * 2.0 * 1600;
  EXPECT_EQ(cost.OfRound(task, stored, 2, 150).actual, 2 * 7 * 20 * 6.0 * 1600 + growth + active);
  v1::TrainTask alone = task;
  alone.mutable_additions(0)->mutable_growth()->clear_counts();
  EXPECT_EQ(cost.OfRound(alone, stored, 2, 150).actual, 2 * 7 * 20 * 6.0 * 1600 + 3 * active);
  report.set_active(false);
  // Importance: gradients at all positions of what is sparse, in each of the 280 examples.
  task.add_additions()->mutable_importance();
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

v1::JobSpec Job(const std::string& text) {
  v1::JobSpec job;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &job));
  return job;
}

std::vector<int64_t> AllOf(const v1::ModelSpec& model) {
  std::vector<int64_t> sizes;
  const std::vector<ModelTensor> tensors = TensorsOf(model).value();
  for (const ModelTensor& tensor : tensors) sizes.push_back(tensor.spec.size());
  return sizes;
}

// By hand: 2 blocks of width 8 with 2 heads (1 for keys and values, so 4 wide) and 16 inner units;
// 11 tokens; 5 tokens an example.
TEST(ModelCostTest, TransformerCostsItsProjectionsForEachTokenAndAttentionForEachPair) {
  v1::JobSpec job = Job(R"pb(
    model {
      transformer { vocabulary: 11 hidden: 8 heads: 2 kv_heads: 1 blocks: 2 intermediate: 16 }
    }
    data { text { context: 5 } }
  )pb");
  const double block = 8 * 8 + 2 * 4 * 8 + 8 * 8 + 3 * 8 * 16;
  // Token t attends to itself and the t before it: 1 + 2 + 3 + 4 + 5 pairs, each a product and a
  // sum over 8 units of scores, and as many of values.
  const double attention = 15 * (2 * 8 + 2 * 8);
  const double tied = 2 * 5 * (2 * block + 11 * 8) + 2 * attention;
  EXPECT_EQ(ModelCost::Create(job).value().DenseForwardFlops(), tied);
  EXPECT_EQ(ModelCost::Create(job).value().TrainFlops(AllOf(job.model())), 3 * tied);
  // The output is a matrix of its own; rows of the embedding are only looked up.
  job.mutable_model()->mutable_transformer()->set_untied(true);
  EXPECT_EQ(ModelCost::Create(job).value().DenseForwardFlops(), tied);
  // Of stored weights only.
  std::vector<int64_t> stored = AllOf(job.model());
  stored[2] -= 60;
  EXPECT_EQ(ModelCost::Create(job).value().ForwardFlops(stored), tied - 2 * 5 * 60);
}

TEST(ModelCostTest, NeuMfCostsItsLayersForEachPair) {
  const v1::JobSpec job = Job(R"pb(
    model {
      recommender {
        users: 10
        items: 20
        neumf {
          dimensions: 4
          hidden: [ 6, 3 ]
          negatives: 2
        }
      }
    }
  )pb");
  const ModelCost cost = ModelCost::Create(job).value();
  // 8 → 6 → 3, and 4 + 3 → 1, for a positive and two negatives.
  const double pair = 2 * (8 * 6 + 6 * 3 + 7);
  EXPECT_EQ(cost.DenseForwardFlops(), 3 * pair);
  EXPECT_EQ(cost.LoadFlops(AllOf(job.model()), {.passes = 2, .examples = 50}),
            2 * 50 * 3 * 3 * pair);
  EXPECT_EQ(cost.LoadFlops(AllOf(job.model()), {.steps = 5, .batch_size = 8, .examples = 50}),
            5 * 8 * 3 * 3 * pair);
}

TEST(ModelCostTest, AutoIntCostsItsLayersForEachFieldAndAttentionForEachPairOfFields) {
  const v1::JobSpec job = Job(R"pb(
    model {
      recommender {
        users: 10
        items: 20
        autoint {
          dimensions: 4
          layers: 2
          heads: 2
          units: 6
          negatives: 1
          fields { values: 3 }
        }
      }
    }
  )pb");
  // User, item and one field; queries, keys, values and residual of 6 units.
  const double projections = 2 * 3 * (4 * 6 * 4 + 4 * 6 * 6);
  const double attention = 2 * (3 * 3 * 6 * 2 + 3 * 3 * 6 * 2);
  EXPECT_EQ(ModelCost::Create(job).value().DenseForwardFlops(),
            2 * (projections + attention + 2 * 3 * 6));
}

TEST(ModelCostTest, MultVaeCostsRowsOfAUsersItemsAndTheRestForEachUser) {
  const v1::JobSpec job = Job(R"pb(
    model {
      recommender {
        users: 10
        items: 20
        multvae { hidden: 5 latent: 3 }
      }
    }
    data { partition { shards: 2 } }
  )pb");
  const ModelCost cost = ModelCost::Create(job).value();
  // A share of 5 users with 40 interactions: 8 items a user.
  const double user = 2 * (8 * 5 + 5 * 6 + 3 * 5 + 5 * 20);
  EXPECT_DOUBLE_EQ(cost.LoadFlops(AllOf(job.model()), {.passes = 2, .examples = 40}),
                   2 * 5 * 3 * user);
  v1::TrainTask task;
  task.mutable_training()->set_local_epochs(2);
  EXPECT_DOUBLE_EQ(cost.OfRound(task, AllOf(job.model()), 2, 80).actual, 2 * 2 * 5 * 3 * user);
}

TEST(ModelCostTest, LightGcnCostsAProductOfTheGraphForEachLayerAndSide) {
  const v1::JobSpec job = Job(R"pb(
    model {
      recommender {
        users: 10
        items: 20
        lightgcn { dimensions: 4 layers: 3 }
      }
    }
  )pb");
  // 100 interactions in 4 steps of 25: each takes 2 sides × 3 layers × 100 entries × 4 dimensions.
  const double step = 2 * 3 * 100 * 4 * 2;
  const double scores = 2 * 4 * 2;
  EXPECT_DOUBLE_EQ(ModelCost::Create(job).value().LoadFlops(
                       AllOf(job.model()), {.passes = 1, .batch_size = 25, .examples = 100}),
                   3 * (4 * step + 100 * scores));
}

}  // namespace
}  // namespace espalier::wire
