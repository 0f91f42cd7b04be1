// Saliency and importance of tasks against gradients in double.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/result_sections.h"
#include "tests/unit/worker/engine/reference_model.h"
#include "worker/tasks/kinds.h"
#include "worker/tasks/models.h"
#include "worker/tasks/network/batch_buffer.h"

namespace espalier::worker::tasks {
namespace {

constexpr int kExamples = 30;

// Six features, three classes, thirty examples on one shard; layers of 5 and 3 units.
class ScoreTest : public testing::Test {
 protected:
  ScoreTest() : root_(testing::TempDir() + "/score_test"), data_(root_) {
    std::filesystem::create_directories(root_ + "/small");
    std::ofstream csv(root_ + "/small/train.csv");
    base::Rng rng(3);
    for (int i = 0; i < kExamples; ++i) {
      for (int f = 0; f < 6; ++f) csv << 2 * rng.Uniform() - 1 << ",";
      csv << i % 3 << "\n";
    }
    csv.close();
    v1::ModelSpec& model = *task_.mutable_model()->mutable_spec();
    model.set_input_features(6);
    v1::LinearLayer& hidden = *model.add_layers()->mutable_linear();
    hidden.set_units(5);
    hidden.set_activation(v1::ACTIVATION_TANH);
    model.add_layers()->mutable_linear()->set_units(3);
    model.mutable_layers(1)->mutable_linear()->set_activation(v1::ACTIVATION_LINEAR);
    task_.mutable_data()->set_dataset("small");
    task_.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_IID);
    task_.mutable_data()->mutable_partition()->set_shards(1);
    task_.set_seed(9);
    task_.set_round(1);
  }

  // The first weight has `stored` of its 30 positions.
  std::shared_ptr<const tensor::ModelState> Model(int64_t stored) const {
    const auto layout = wire::LayoutOf(task_.model().spec()).value();
    std::shared_ptr<const tensor::Topology> sparse;
    if (stored < 30) {
      sparse = std::make_shared<const tensor::Topology>(
          sparsity::RandomTopology(5, 6, stored, 4).value());
    }
    auto model = std::make_shared<tensor::ModelState>();
    model->topology = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(layout, {sparse, nullptr, nullptr, nullptr}).value());
    base::Rng rng(5);
    for (int64_t i = 0; i < model->topology->total_stored(); ++i) {
      model->values.push_back(static_cast<float>(2 * rng.Uniform() - 1));
    }
    return model;
  }

  // Gradient of the mean loss over all examples at all positions.
  std::vector<double> Gradient(const tensor::ModelState& model) {
    const ShardView shard =
        data_.Get(task_, [](const data::Dataset&) { return absl::OkStatus(); }).value();
    EXPECT_EQ(static_cast<int>(shard.indices->train.size()), kExamples);
    BatchBuffer buffer(task_, 6, 48);
    const engine::Batch batch = buffer.Fill(*shard.dataset, shard.indices->train);
    const engine::NetworkSpec spec = EngineSpec(task_.model().spec());
    const auto dense = Model(30)->topology;
    std::vector<double> values(dense->total_stored());
    for (size_t t = 0; t < dense->num_tensors(); ++t) {
      const std::vector<int64_t> positions = model.topology->Structure(t).value()->Positions();
      for (size_t k = 0; k < positions.size(); ++k) {
        values[dense->offset(t) + positions[k]] = model.tensor(t)[k];
      }
    }
    return engine::ReferenceModel(spec, dense).Gradients(values, batch);
  }

  static std::vector<float> Values(const Partial& partial) {
    std::vector<float> values(partial.body.size() / sizeof(float));
    std::memcpy(values.data(), partial.body.data(), partial.body.size());
    uint64_t count = 0;
    for (const v1::Section& section : partial.header.sections()) count += section.count();
    EXPECT_EQ(values.size(), count);
    return values;
  }

  absl::StatusOr<Partial> Run(const std::shared_ptr<const tensor::ModelState>& model) {
    return RunKind(task_, cancelled_, *models_.Make(task_, model));
  }

  std::string root_;
  LocalData data_;
  std::atomic<bool> cancelled_ = false;
  Models models_{{.data_root = root_, .threads = 2}, {}, cancelled_};
  v1::Task task_;
};

TEST_F(ScoreTest, SnipIsTheGradientOfAllMinibatchesTimesTheWeight) {
  task_.mutable_score()->set_criterion(v1::ScoreTask::CRITERION_SNIP);
  task_.mutable_score()->set_batch_size(7);
  task_.mutable_score()->set_batches(100);  // more than there are: every example counts once
  for (const int64_t stored : {30, 11}) {
    const auto model = Model(stored);
    const auto partial = Run(model);
    ASSERT_TRUE(partial.ok()) << partial.status();
    EXPECT_EQ(partial->header.examples(), kExamples);
    const std::vector<float> scores = Values(*partial);
    ASSERT_EQ(scores.size(), 30u + 15u);
    const std::vector<double> gradient = Gradient(*model);
    std::vector<double> weights(45);
    const std::vector<int64_t> first = model->topology->Structure(0).value()->Positions();
    for (size_t k = 0; k < first.size(); ++k) weights[first[k]] = model->tensor(0)[k];
    for (int i = 0; i < 15; ++i) weights[30 + i] = model->tensor(2)[i];
    for (int i = 0; i < 45; ++i) {
      const double expected = weights[i] * gradient[i < 30 ? i : i + 5];  // five biases between
      EXPECT_NEAR(scores[i], expected, 1e-6) << i;
    }
  }
}

TEST_F(ScoreTest, FewerMinibatchesAreAPartOfTheExamples) {
  task_.mutable_score()->set_criterion(v1::ScoreTask::CRITERION_SNIP);
  task_.mutable_score()->set_batch_size(7);
  const auto model = Model(30);
  std::vector<std::vector<float>> scores;
  for (const int batches : {1, 1, 2}) {
    task_.mutable_score()->set_batches(batches);
    scores.push_back(Values(Run(model).value()));
  }
  EXPECT_EQ(scores[0], scores[1]);
  EXPECT_NE(scores[0], scores[2]);
}

TEST_F(ScoreTest, SynFlowLeavesTheShareThatWasAskedFor) {
  task_.mutable_score()->set_criterion(v1::ScoreTask::CRITERION_SYNFLOW);
  task_.mutable_score()->set_density(0.2);
  task_.mutable_score()->set_iterations(10);
  const std::vector<float> scores = Values(Run(Model(30)).value());
  ASSERT_EQ(scores.size(), 45u);
  EXPECT_EQ(std::ranges::count_if(scores, [](float score) { return score > 0; }), 9);
  // No layer is emptied before the other.
  EXPECT_TRUE(std::any_of(scores.begin(), scores.begin() + 30, [](float s) { return s > 0; }));
  EXPECT_TRUE(std::any_of(scores.begin() + 30, scores.end(), [](float s) { return s > 0; }));
}

TEST_F(ScoreTest, UnknownCriterionAndCancellation) {
  EXPECT_EQ(base::ReasonOf(Run(Model(30)).status()), "TASK_KIND_UNKNOWN");
  cancelled_ = true;
  task_.mutable_score()->set_criterion(v1::ScoreTask::CRITERION_SYNFLOW);
  EXPECT_TRUE(absl::IsCancelled(Run(Model(30)).status()));
}

TEST_F(ScoreTest, ImportanceOfATrainingTaskIsTheSquaredGradientAtAllPositions) {
  v1::TrainTask& train = *task_.mutable_train();
  train.mutable_training()->set_batch_size(kExamples);
  train.mutable_training()->set_local_steps(1);
  train.set_learning_rate(0.1);
  train.add_additions()->mutable_importance();
  const auto model = Model(11);
  *task_.mutable_sections() = wire::SectionsOf(task_, *model->topology);
  const auto partial = Run(model);
  ASSERT_TRUE(partial.ok()) << partial.status();
  const std::vector<float> values = Values(*partial);
  const int64_t stored = model->topology->total_stored();
  const std::vector<double> gradient = Gradient(*model);
  ASSERT_EQ(values.size(), stored + gradient.size());
  for (size_t i = 0; i < gradient.size(); ++i) {
    EXPECT_NEAR(values[stored + i], gradient[i] * gradient[i], 1e-6) << i;
  }
}

TEST_F(ScoreTest, ExampleLimitTrainsOnTheSameFewExamples) {
  v1::TrainTask& train = *task_.mutable_train();
  train.mutable_training()->set_batch_size(4);
  train.mutable_training()->set_local_steps(5);
  train.set_learning_rate(0.1);
  v1::ExampleLimit& limit = *train.add_additions()->mutable_example_limit();
  limit.set_examples(4);
  const auto model = Model(30);
  *task_.mutable_sections() = wire::SectionsOf(task_, *model->topology);
  const Partial limited = Run(model).value();
  EXPECT_EQ(limited.header.examples(), 4);
  // The four examples are the whole epoch: where it begins changes their order alone.
  train.set_first_step(5);
  const Partial later = Run(model).value();
  const std::vector<float> a = Values(limited);
  const std::vector<float> b = Values(later);
  for (size_t i = 0; i < a.size(); ++i) EXPECT_NEAR(a[i], b[i], 1e-5);
  limit.set_examples(1000);
  EXPECT_EQ(Run(model)->header.examples(), kExamples);
}

TEST_F(ScoreTest, JobsThatDifferInTheLossAloneDoNotShareANetwork) {
  v1::Training& training = *task_.mutable_train()->mutable_training();
  training.set_batch_size(kExamples);
  training.set_local_steps(1);
  task_.mutable_train()->set_learning_rate(0.1);
  const auto model = Model(30);
  *task_.mutable_sections() = wire::SectionsOf(task_, *model->topology);
  const std::string plain = Run(model)->body;
  for (const float weight : {1.0F, 2.0F, 3.0F}) training.add_class_weights(weight);
  const std::string weighted = Run(model)->body;
  EXPECT_NE(weighted, plain);
  training.set_label_smoothing(0.1);
  EXPECT_NE(Run(model)->body, weighted);
  training.clear_class_weights();
  training.clear_label_smoothing();
  EXPECT_EQ(Run(model)->body, plain);
}

}  // namespace
}  // namespace espalier::worker::tasks
