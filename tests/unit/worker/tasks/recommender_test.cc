
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/values_codec.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/tasks/kinds.h"
#include "worker/tasks/models.h"
#include "worker/tasks/recommender/recommender_rows.h"
#include "worker/tasks/recommender/recommenders.h"

namespace espalier::worker::tasks {
namespace {

using ::testing::HasSubstr;

constexpr int kUsers = 20;
constexpr int kItems = 12;

class RecommenderTaskTest : public ::testing::Test {
 protected:
  RecommenderTaskTest() {
    // User u likes items of its own parity, and the last but one of the others.
    std::string text;
    for (int user = 0; user < kUsers; ++user) {
      text += std::to_string(user);
      for (int item = user % 2; item < kItems; item += 2) text += " " + std::to_string(item);
      text += "\n";
    }
    folder_.Write("likes/train.txt", text);
  }

  v1::Task Task(bool is_private = false, int shards = 1) const {
    v1::Task task;
    task.set_job("jobs/mine");
    task.set_round(1);
    task.set_participant("shard-0");
    task.set_seed(5);
    v1::RecommenderSpec& model = *task.mutable_model()->mutable_spec()->mutable_recommender();
    model.set_users(kUsers);
    model.set_items(kItems);
    model.set_private_users(is_private);
    model.mutable_lightgcn()->set_dimensions(8);
    model.mutable_lightgcn()->set_layers(1);
    model.mutable_lightgcn()->set_initial_deviation(0.1);
    v1::DataSpec& data = *task.mutable_data();
    data.set_dataset("likes");
    data.mutable_interactions()->set_split(v1::Interactions::SPLIT_RATIO);
    data.mutable_partition()->set_kind(v1::Partition::KIND_USERS);
    data.mutable_partition()->set_shards(shards);
    return task;
  }
  static v1::Task Train(v1::Task task, int steps = 10) {
    v1::TrainTask& train = *task.mutable_train();
    train.mutable_training()->set_batch_size(16);
    train.mutable_training()->set_local_steps(steps);
    train.mutable_training()->mutable_optimizer()->set_kind(v1::Optimizer::KIND_ADAM);
    train.set_learning_rate(0.05);
    train.add_additions()->mutable_private_update()->set_density(0.5);
    return task;
  }
  static v1::Task Evaluate(v1::Task task) {
    task.mutable_evaluate()->add_top_k(5);
    return task;
  }
  // Every sparsifiable tensor at density ½.
  static std::shared_ptr<const tensor::ModelState> Model(const v1::Task& task) {
    const auto layout = wire::LayoutOf(task.model().spec()).value();
    std::vector<std::shared_ptr<const tensor::Topology>> topologies;
    for (const tensor::TensorSpec& spec : *layout) {
      topologies.push_back(nullptr);
      if (!spec.sparsifiable) continue;
      topologies.back() = std::make_shared<const tensor::Topology>(
          sparsity::RandomTopology(spec.rows, spec.cols, spec.size() / 2, 3).value());
    }
    auto model = std::make_shared<tensor::ModelState>();
    model->topology = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(layout, std::move(topologies)).value());
    base::Rng rng(4);
    for (int64_t i = 0; i < model->topology->total_stored(); ++i) {
      model->values.push_back(static_cast<float>(0.1 * rng.Normal()));
    }
    return model;
  }
  // What a fresh worker answers; `state` is its state directory.
  absl::StatusOr<Partial> Run(const v1::Task& task,
                              const std::shared_ptr<const tensor::ModelState>& model,
                              const std::string& state = "w1") const {
    Worker worker(folder_.path(), folder_.path() + "/state/" + state);
    return RunOn(worker, task, model);
  }
  // What a worker keeps from task to task.
  struct Worker {
    Worker(const std::string& root, const std::string& state_dir)
        : models({.data_root = root, .state_dir = state_dir}, {}, cancelled) {}
    std::atomic<bool> cancelled = false;
    Models models;
  };
  // What a worker answers that has done other tasks before.
  static absl::StatusOr<Partial> RunOn(Worker& worker, const v1::Task& task,
                                       const std::shared_ptr<const tensor::ModelState>& model) {
    v1::Task asked = task;
    if (task.has_train()) *asked.mutable_sections() = wire::SectionsOf(task, *model->topology);
    return RunKind(asked, worker.cancelled, *worker.models.Make(asked, model));
  }
  static std::vector<float> Floats(const std::string& bytes) {
    std::vector<float> values(bytes.size() / sizeof(float));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
    return values;
  }

  data::DataFolder folder_;
};

TEST_F(RecommenderTaskTest, MomentsBeforeTheTrainingAreRefused) {
  v1::Task early = Train(Task());
  early.mutable_train()->set_first_step(-3);
  EXPECT_EQ(base::ReasonOf(Run(early, Model(early)).status()), "TASK_INVALID");
  early.mutable_train()->mutable_training()->set_local_steps(0);
  early.set_round(0);
  EXPECT_EQ(base::ReasonOf(Run(early, Model(early)).status()), "TASK_INVALID");
}

TEST_F(RecommenderTaskTest, AnyWorkerGivesTheSameBits) {
  const v1::Task task = Train(Task());
  const auto first = Run(task, Model(task), "w1");
  const auto second = Run(task, Model(task), "w2");
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_EQ(first->body, second->body);
  ASSERT_EQ(first->header.sections_size(), 1);
  EXPECT_EQ(first->header.sections(0).count(), Model(task)->values.size());
  EXPECT_EQ(first->header.examples(), kUsers * 5);  // a fifth of 6, rounded down, is asked for
  EXPECT_NE(Floats(first->body), Model(task)->values);
  v1::Task later = task;
  later.mutable_train()->set_first_step(10);
  EXPECT_NE(Run(later, Model(task))->body, first->body);
}

TEST_F(RecommenderTaskTest, TrainingRanksWhatUsersLikeFirst) {
  v1::Task task = Train(Task(), 200);
  auto model = std::make_shared<tensor::ModelState>(*Model(task));
  model->values = Floats(Run(task, model)->body);
  const auto evaluated = Run(Evaluate(Task()), model);
  ASSERT_TRUE(evaluated.ok()) << evaluated.status();
  EXPECT_EQ(evaluated->header.examples(), kUsers);
  ASSERT_EQ(evaluated->header.metric_sums_size(), 5);
  EXPECT_EQ(evaluated->header.metric_sums(0).name(), "recall@5");
  EXPECT_GT(evaluated->header.metric_sums(0).value(), 0.8 * kUsers);
  v1::Task ask = Task();
  ask.mutable_recommend()->set_user("4");
  ask.mutable_recommend()->set_k(100);
  const auto answer = Run(ask, model);
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->header.recommended_size(), kItems - 5);
  EXPECT_EQ(std::stoi(answer->header.recommended(0).item()) % 2, 0);
  ask.mutable_recommend()->set_user("20");
  EXPECT_EQ(base::ReasonOf(Run(ask, model).status()), "USER_NOT_FOUND");
}

// Mean embeddings over the layers of the graph, in double precision, as recommender.proto says.
class MeanEmbeddings {
 public:
  MeanEmbeddings(const recommender::Interactions& train, const tensor::ModelState& model,
                 int layers)
      : train_(train) {
    for (size_t side = 0; side < 2; ++side) of_[side] = Dense(model, side);
    auto layer = of_;
    for (int l = 0; l < layers; ++l) {
      layer = Next(layer);
      for (size_t side = 0; side < 2; ++side) {
        for (size_t i = 0; i < layer[side].size(); ++i) of_[side][i] += layer[side][i];
      }
    }
    for (auto& side : of_) {
      for (double& value : side) value /= layers + 1;
    }
  }

  double Score(int user, int item) const {
    double score = 0;
    for (int d = 0; d < kDimensions; ++d) {
      score += of_[0][item * kDimensions + d] * of_[1][user * kDimensions + d];
    }
    return score;
  }

 private:
  static constexpr int kDimensions = 8;
  using Sides = std::array<std::vector<double>, 2>;  // items, users

  static std::vector<double> Dense(const tensor::ModelState& model, size_t tensor) {
    std::vector<double> dense(model.topology->layout()[tensor].size());
    const auto values = model.tensor(tensor);
    const auto positions = model.topology->topology(tensor).Positions();
    for (size_t i = 0; i < positions.size(); ++i) dense[positions[i]] = values[i];
    return dense;
  }

  Sides Next(const Sides& layer) const {
    std::map<int, int> of_item;
    for (int user = 0; user < kUsers; ++user) {
      for (const int item : train_.Of(user)) ++of_item[item];
    }
    Sides next;
    for (size_t side = 0; side < 2; ++side) next[side].resize(layer[side].size());
    for (int user = 0; user < kUsers; ++user) {
      for (const int item : train_.Of(user)) {
        const double norm = 1 / std::sqrt(1.0 * train_.CountOf(user) * of_item[item]);
        for (int d = 0; d < kDimensions; ++d) {
          next[0][item * kDimensions + d] += norm * layer[1][user * kDimensions + d];
          next[1][user * kDimensions + d] += norm * layer[0][item * kDimensions + d];
        }
      }
    }
    return next;
  }

  const recommender::Interactions& train_;
  Sides of_;
};

TEST_F(RecommenderTaskTest, ScoresAreProductsOfMeanEmbeddings) {
  for (const int layers : {0, 1, 3}) {
    v1::Task ask = Task();
    ask.mutable_model()->mutable_spec()->mutable_recommender()->mutable_lightgcn()->set_layers(
        layers);
    ask.mutable_recommend()->set_user("4");
    ask.mutable_recommend()->set_k(kItems);
    const auto model = Model(ask);
    Recommenders recommenders(folder_.path(), "", 1);
    const auto mine = recommenders.GetInteractions(ask).value();
    const MeanEmbeddings expected(*mine->train, *model, layers);
    const auto answer = Run(ask, model);
    ASSERT_TRUE(answer.ok()) << answer.status();
    for (const v1::RecommendedItem& item : answer->header.recommended()) {
      EXPECT_NEAR(item.score(), expected.Score(4, std::stoi(item.item())), 1e-7) << layers;
    }
  }
}

TEST_F(RecommenderTaskTest, GradientsAndCandidatesFollowTheValues) {
  v1::Task task = Train(Task());
  const auto model = Model(task);
  v1::GrowthReport& report = *task.mutable_train()->add_additions()->mutable_growth();
  report.set_active(true);
  report.set_batches(2);
  for (size_t i = 0; i < model->topology->num_tensors(); ++i) report.add_counts(7);
  const auto partial = Run(task, model);
  ASSERT_TRUE(partial.ok()) << partial.status();
  const auto stored = static_cast<size_t>(model->topology->total_stored());
  EXPECT_TRUE(wire::CheckSections(wire::SectionsOf(task, *model->topology),
                                  partial->header.sections(), partial->body.size())
                  .ok());
  const auto scores = wire::DecodeScores(std::string_view(partial->body).substr(8 * stored),
                                         model->topology->layout(), std::vector<int64_t>{7, 7});
  ASSERT_TRUE(scores.ok()) << scores.status();
  EXPECT_EQ((*scores)[0].positions.size(), 7u);
}

TEST_F(RecommenderTaskTest, WhatTrainingOfRecommendersCannotDoIsRefusedAndNotLeftOut) {
  v1::Task task = Train(Task());
  task.mutable_train()->add_additions()->mutable_extrusion()->set_lambda(1);
  EXPECT_EQ(base::ReasonOf(Run(task, Model(task)).status()), "TASK_ADDITION_UNKNOWN");
  task.mutable_train()->mutable_additions()->RemoveLast();
  task.mutable_train()->add_additions();  // a kind of a later version
  EXPECT_EQ(base::ReasonOf(Run(task, Model(task)).status()), "TASK_ADDITION_UNKNOWN");
  task.mutable_train()->mutable_additions()->RemoveLast();
  for (int i = 0; i < 2; ++i) task.mutable_train()->add_additions()->mutable_growth();
  EXPECT_EQ(base::ReasonOf(Run(task, Model(task)).status()), "TASK_INVALID");
}

// The bytes of an upload with private users are the item table's values and nothing else.
TEST_F(RecommenderTaskTest, RowsOfPrivateUsersAreNotInTheUpload) {
  v1::Task task = Train(Task(/*is_private=*/true, /*shards=*/2));
  const auto model = Model(task);
  ASSERT_EQ(model->topology->num_tensors(), 1u);
  const auto partial = Run(task, model);
  ASSERT_TRUE(partial.ok()) << partial.status();
  EXPECT_EQ(partial->body.size(), 4 * model->values.size());
  const auto layout = UserLayout(task, kUsers / 2).value();
  const auto rows = PrivateRows(folder_.path() + "/state/w1").Load(task, 1, layout);
  ASSERT_TRUE(rows.ok()) << rows.status();
  ASSERT_TRUE(rows->has_value());
  EXPECT_EQ((*rows)->values.size(), kUsers / 2 * 8 / 2u);
  const std::vector<float> floats = Floats(partial->body);
  const std::set<float> sent(floats.begin(), floats.end());
  for (const float value : (*rows)->values) EXPECT_FALSE(value != 0 && sent.contains(value));
  const std::string upload = partial->body + partial->header.SerializeAsString();
  for (const float value : (*rows)->values) {
    std::string bytes(sizeof(value), '\0');
    std::memcpy(bytes.data(), &value, sizeof(value));
    EXPECT_EQ(upload.find(bytes), std::string::npos);
  }
}

TEST_F(RecommenderTaskTest, ARoundBegunAgainWithPrivateRowsGivesTheSameBits) {
  v1::Task task = Train(Task(true, 2));
  const auto model = Model(task);
  const std::string first = Run(task, model)->body;
  EXPECT_EQ(Run(task, model)->body, first) << "the first round";
  auto next = std::make_shared<tensor::ModelState>(*model);
  next->values = Floats(first);
  task.set_round(2);
  task.mutable_train()->set_first_step(10);
  wire::MutableAddition(*task.mutable_train(), v1::TrainAddition::kPrivateUpdate)
      .mutable_private_update()
      ->set_fraction(0.25);
  const std::string second = Run(task, next)->body;
  EXPECT_EQ(Run(task, next)->body, second) << "the second round";
  const auto layout = UserLayout(task, kUsers / 2).value();
  const PrivateRows kept(folder_.path() + "/state/w1");
  const auto before = kept.Load(task, 1, layout);
  const auto after = kept.Load(task, 2, layout);
  ASSERT_TRUE(before.ok() && before->has_value() && after.ok() && after->has_value());
  EXPECT_EQ((**before).topology->stored(0), (**after).topology->stored(0));
  EXPECT_NE((**before).topology->hash(), (**after).topology->hash());
  // Evaluation needs what training left here.
  v1::Task evaluate = Evaluate(Task(true, 2));
  evaluate.set_round(2);
  EXPECT_EQ(Run(evaluate, next)->header.examples(), kUsers / 2);
  EXPECT_EQ(base::ReasonOf(Run(evaluate, next, "another").status()), "PRIVATE_ROWS_MISSING");
}

TEST_F(RecommenderTaskTest, CountsThatDoNotFitTheDataAreNamed) {
  v1::Task task = Train(Task());
  task.mutable_model()->mutable_spec()->mutable_recommender()->set_items(11);
  const auto model = Model(task);
  const auto partial = Run(task, model);
  EXPECT_EQ(base::ReasonOf(partial.status()), "DATASET_SHAPE_MISMATCH");
  EXPECT_THAT(base::MessageOf(partial.status()), HasSubstr("model.recommender.items"));
}

TEST_F(RecommenderTaskTest, AQuestionBetweenTasksDoesNotChangeTraining) {
  Worker worker(folder_.path(), folder_.path() + "/state/busy");
  v1::Task first = Train(Task(true, 2));
  v1::Task second = first;
  second.set_participant("shard-1");
  second.set_shard(1);
  const auto model = Model(first);
  const std::string expected = Run(first, model)->body;
  ASSERT_TRUE(RunOn(worker, first, model).ok());
  ASSERT_TRUE(RunOn(worker, second, model).ok());
  v1::Task ask = Task(true, 2);
  ask.mutable_recommend()->set_k(3);
  Recommenders lists(folder_.path(), "", 1);
  const auto user = lists.GetInteractions(first).value()->users.front();
  ask.mutable_recommend()->set_user(std::to_string(user));
  const auto answer = RunOn(worker, ask, model);
  ASSERT_TRUE(answer.ok()) << answer.status();
  ASSERT_EQ(answer->header.recommended_size(), 3);
  EXPECT_FALSE(answer->header.recommended(0).has_score()) << "scores tell of the user's row";
  EXPECT_EQ(RunOn(worker, first, model)->body, expected);
  ask.mutable_recommend()->set_k(kItems);
  EXPECT_EQ(base::ReasonOf(RunOn(worker, ask, model).status()), "INVALID_K");
}

TEST_F(RecommenderTaskTest, EveryShardHasItsOwnUsers) {
  Recommenders recommenders(folder_.path(), "", 1);
  std::set<int32_t> seen;
  for (int shard = 0; shard < 3; ++shard) {
    v1::Task task = Train(Task(true, 3));
    task.set_shard(shard);
    const auto mine = recommenders.GetInteractions(task);
    ASSERT_TRUE(mine.ok()) << mine.status();
    EXPECT_EQ((*mine)->train->users(), static_cast<int64_t>((*mine)->users.size()));
    for (const int32_t user : (*mine)->users) EXPECT_TRUE(seen.insert(user).second);
    // With shared rows, the others' are empty.
    task.mutable_model()->mutable_spec()->mutable_recommender()->set_private_users(false);
    const auto shared = recommenders.GetInteractions(task);
    EXPECT_EQ((*shared)->train->users(), kUsers);
    EXPECT_EQ((*shared)->train->size(), (*mine)->train->size());
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kUsers));
}

TEST_F(RecommenderTaskTest, AutoIntLearnsFromFieldsOfUsersAndItems) {
  std::string users = "user,parity\n";
  std::string items = "item,parity\n";
  for (int user = 0; user < kUsers; ++user) users += fmt::format("{},{}\n", user, user % 2);
  for (int item = 0; item < kItems; ++item) items += fmt::format("{},{}\n", item, item % 2);
  folder_.Write("likes/users.csv", users);
  folder_.Write("likes/items.csv", items);
  for (const bool is_private : {false, true}) {
    v1::Task task = Train(Task(is_private, is_private ? 2 : 1), 100);
    v1::AutoIntModel& model =
        *task.mutable_model()->mutable_spec()->mutable_recommender()->mutable_autoint();
    model.set_dimensions(4);
    model.set_layers(1);
    model.set_units(8);
    model.set_initial_deviation(0.1);
    for (const bool of_items : {false, true}) {
      v1::AutoIntField& field = *model.add_fields();
      field.set_name("parity");
      field.set_values(2);
      field.set_of_items(of_items);
    }
    auto state = std::make_shared<tensor::ModelState>(*Model(task));
    const auto trained = Run(task, state);
    ASSERT_TRUE(trained.ok()) << trained.status();
    state->values = Floats(trained->body);
    v1::Task evaluate = task;
    const auto evaluated = Run(Evaluate(evaluate), state);
    ASSERT_TRUE(evaluated.ok()) << evaluated.status();
    const auto& sums = evaluated->header.metric_sums();
    ASSERT_EQ(sums[0].name(), "recall@5");
    EXPECT_GT(sums[0].value(), 0.9 * static_cast<double>(evaluated->header.examples()));
    model.mutable_fields(0)->set_values(1);
    EXPECT_EQ(base::ReasonOf(Run(task, Model(task)).status()), "DATASET_INVALID");
  }
}

TEST_F(RecommenderTaskTest, AQuestionIsAnsweredWithTheRowsOfItsRound) {
  constexpr int kShards = 3;
  auto model = std::make_shared<tensor::ModelState>(*Model(Task(true, kShards)));
  for (int round = 1; round <= 40; ++round) {
    for (int shard = 0; shard < kShards; ++shard) {
      v1::Task train = Train(Task(true, kShards));
      train.set_round(round);
      train.set_shard(shard);
      train.set_participant("shard-" + std::to_string(shard));
      const auto trained = Run(train, model, "w" + std::to_string(shard));
      ASSERT_TRUE(trained.ok()) << trained.status();
      model->values = Floats(trained->body);
    }
  }
  int answered = 0;
  int of_their_parity = 0;
  for (int user = 0; user < kUsers; ++user) {
    v1::Task question = Task(true, kShards);
    question.set_participant("question");
    question.mutable_recommend()->set_user(std::to_string(user));
    question.mutable_recommend()->set_k(1);
    for (int shard = 0; shard < kShards; ++shard) {
      question.set_round(40);
      const auto answer = Run(question, model, "w" + std::to_string(shard));
      if (!answer.ok()) {
        EXPECT_EQ(base::ReasonOf(answer.status()), "PRIVATE_ROWS_MISSING");
        continue;
      }
      ++answered;
      ASSERT_EQ(answer->header.recommended_size(), 1);
      // The one item of its parity that the user was not trained on.
      if (std::stoi(answer->header.recommended(0).item()) % 2 == user % 2) ++of_their_parity;
      question.set_round(37);
      const auto before = Run(question, model, "w" + std::to_string(shard));
      EXPECT_EQ(base::ReasonOf(before.status()), "PRIVATE_ROWS_MISSING");
      EXPECT_THAT(base::MessageOf(before.status()), HasSubstr("rounds 38, 39, 40"));
    }
  }
  EXPECT_EQ(answered, kUsers);
  EXPECT_GT(of_their_parity, kUsers * 3 / 4);
}

}  // namespace
}  // namespace espalier::worker::tasks
