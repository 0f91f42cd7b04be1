// Predictions of trained models, by the code that workers run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/sim/simulation.h"
#include "tests/support/real_worker.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::test {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

const worker::data::DataFolder& Data() {
  static const auto* folder = [] {
    auto* made = new worker::data::DataFolder();
    std::string flowers = "kind,length,colour,width\n";
    for (int row = 0; row < 90; ++row) {
      const bool lily = row % 3 == 0;
      flowers += std::string(lily ? "lily" : "rose") + "," + std::to_string(row % 7) +
                 (lily ? ",white," : ",red,") + (row == 4 ? "" : std::to_string(row % 5 + 0.5)) +
                 "\n";
    }
    made->Write("flowers/train.csv", flowers);
    std::string points;
    for (int row = 0; row < 60; ++row) {
      points += std::to_string(row % 9) + "," + std::to_string(row % 4) + "," +
                std::to_string(row % 2) + "\n";
    }
    made->Write("points/train.csv", points);
    std::string likes;
    for (int user = 0; user < 12; ++user) {
      likes += std::to_string(100 + user);
      for (int item = user % 3; item < 20; item += 3) likes += " " + std::to_string(item);
      likes += "\n";
    }
    made->Write("likes/train.txt", likes);
    std::string text;
    for (int number = 100; number < 400; ++number) text += std::to_string(number) + "\n";
    made->Write("counting/train.txt", text);
    return made;
  }();
  return *folder;
}

v1::JobSpec OnData(const std::string& dataset, v1::Partition::Kind kind) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset(dataset);
  spec.mutable_data()->mutable_partition()->set_kind(kind);
  spec.mutable_data()->mutable_partition()->set_shards(1);
  spec.mutable_method()->set_name("dense");
  spec.mutable_training()->set_batch_size(8);
  spec.mutable_training()->set_local_steps(4);
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.1);
  spec.mutable_federation()->set_rounds(2);
  spec.mutable_evaluation()->set_central(true);
  spec.set_seed(3);
  return spec;
}

v1::JobSpec OneLayer(const std::string& dataset) {
  v1::JobSpec spec = OnData(dataset, v1::Partition::KIND_IID);
  spec.mutable_model()->add_layers()->mutable_linear();
  return spec;
}

v1::JobSpec Flowers() {
  v1::JobSpec spec = OneLayer("flowers");
  spec.mutable_data()->set_label_column("kind");
  spec.mutable_data()->set_words(v1::DataSpec::WORDS_ONE_HOT);
  spec.mutable_data()->set_missing(v1::DataSpec::MISSING_MEAN);
  spec.mutable_data()->set_normalization(v1::DataSpec::NORMALIZATION_FEDERATED);
  return spec;
}

class PredictTest : public testing::Test {
 protected:
  void Train(const v1::JobSpec& spec) {
    worker_ = std::make_unique<RealWorker>("w0", Data().path(), sim.models_folder() + "-w0",
                                           sim.fleet, sim.jobs, sim.blobs);
    ASSERT_TRUE(worker_->Connect().ok());
    const std::string name = sim.Start(spec);
    for (int i = 0; sim.State(name) == v1::Job::STATE_RUNNING && i < 100; ++i) Work();
    ASSERT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
    job = name;
    request.set_checkpoint(sim.Job(name).latest_checkpoint());
    model = sim.checkpoints().Load(request.checkpoint()).value();
  }

  void Work() {
    if (worker_->busy()) worker_->Work();
    sim.Settle();
    worker_->Heartbeat();
    sim.Tick();
  }

  v1::Example& Add() { return *request.mutable_examples()->add_examples(); }
  void AddCells(const std::vector<std::string>& cells) {
    Add().mutable_cells()->Assign(cells.begin(), cells.end());
  }

  absl::StatusOr<v1::PredictResponse> Ask() {
    absl::StatusOr<v1::PredictResponse> result = absl::UnknownError("no answer");
    sim.jobs.questions().Predict(
        request, [&result](absl::StatusOr<v1::PredictResponse> answer) { result = answer; });
    sim.Settle();
    for (int i = 0; i < 5; ++i) Work();
    return result;
  }

  // softmax(W · inputs + b) of a dense layer.
  std::vector<double> Softmax(const std::vector<double>& inputs) const {
    const auto& values = model.state.values;
    const size_t outputs = values.size() / (inputs.size() + 1);
    std::vector<double> result;
    double sum = 0;
    for (size_t o = 0; o < outputs; ++o) {
      double logit = values[outputs * inputs.size() + o];
      for (size_t i = 0; i < inputs.size(); ++i) logit += values[o * inputs.size() + i] * inputs[i];
      result.push_back(std::exp(logit));
      sum += result.back();
    }
    for (double& value : result) value /= sum;
    return result;
  }

  // The model's inputs from raw ones.
  std::vector<double> Scaled(std::vector<double> raw) const {
    const v1::DataSpec& data = *model.metadata.data_spec;
    for (size_t i = 0; i < raw.size() && i < static_cast<size_t>(data.channel_mean_size()); ++i) {
      raw[i] =
          (raw[i] - data.channel_mean(static_cast<int>(i))) / data.channel_std(static_cast<int>(i));
    }
    return raw;
  }

  void ExpectValues(const v1::Prediction& prediction, const std::vector<double>& expected) {
    ASSERT_EQ(prediction.values_size(), static_cast<int>(expected.size()));
    for (size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(prediction.values(static_cast<int>(i)), expected[i], 1e-6);
    }
  }

  Simulation sim;
  std::unique_ptr<RealWorker> worker_;
  std::string job;
  v1::PredictRequest request;
  server::checkpoint::LoadedCheckpoint model;
};

// Columns in another order, with one that the model does not know, a word and a gap.
TEST_F(PredictTest, CellsAreFoundByTheNamesOfTheirColumns) {
  Train(Flowers());
  for (const char* name : {"width", "note", "colour", "length"}) {
    request.mutable_examples()->add_columns(name);
  }
  AddCells({"1.5", "any", "red", "3"});
  AddCells({"", "", "white", "6"});
  const auto answer = Ask();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(answer->outputs(), ElementsAre("lily", "rose"));
  ASSERT_EQ(answer->predictions_size(), 2);
  const auto& columns = model.metadata.data_spec->agreement().columns();
  ASSERT_EQ(columns.size(), 3);
  ASSERT_THAT(columns.Get(1).words(), ElementsAre("red", "white"));
  const double mean = columns.Get(2).mean();
  EXPECT_GT(mean, 0);
  const std::vector<double> first = Softmax(Scaled({3, 1, 0, 1.5}));
  ExpectValues(answer->predictions(0), first);
  ExpectValues(answer->predictions(1), Softmax(Scaled({6, 0, 1, mean})));
  EXPECT_EQ(answer->predictions(0).best(), first[0] > first[1] ? "lily" : "rose");
}

TEST_F(PredictTest, MistakesNameTheExampleAndTheColumn) {
  Train(Flowers());
  for (const char* name : {"length", "colour", "width"}) {
    request.mutable_examples()->add_columns(name);
  }
  AddCells({"1", "red", "2"});
  AddCells({"1", "blue", "2"});
  auto answer = Ask();
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(base::MessageOf(answer.status()), HasSubstr("example 2, column 2 ('colour')"));
  request.mutable_examples()->mutable_examples(1)->set_cells(1, "white");
  request.mutable_examples()->set_columns(0, "lenght");
  answer = Ask();
  EXPECT_THAT(base::MessageOf(answer.status()), HasSubstr("none called 'length'"));
  request.mutable_examples()->set_columns(0, "length");
  request.mutable_examples()->mutable_examples(1)->add_values(1);
  answer = Ask();
  EXPECT_THAT(base::MessageOf(answer.status()), HasSubstr("example 2"));
  request.mutable_examples()->mutable_examples()->Clear();
  EXPECT_EQ(base::ReasonOf(Ask().status()), "INVALID_EXAMPLES");
  Add().add_tokens(1);
  EXPECT_EQ(base::ReasonOf(Ask().status()), "INVALID_EXAMPLES");
}

TEST_F(PredictTest, ValuesAreTakenInTheOrderOfTheInputs) {
  Train(OneLayer("points"));
  for (const auto& point : std::vector<std::vector<float>>{{3, 1}, {8, 0.25}}) {
    Add().mutable_values()->Assign(point.begin(), point.end());
  }
  auto answer = Ask();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(answer->outputs(), ElementsAre("0", "1"));
  ExpectValues(answer->predictions(0), Softmax({3, 1}));
  ExpectValues(answer->predictions(1), Softmax({8, 0.25}));
  const v1::PredictResponse all = *answer;

  request.set_checkpoint(job);  // its newest checkpoint
  request.set_top(1);
  answer = Ask();
  ASSERT_TRUE(answer.ok()) << answer.status();
  for (int i = 0; i < 2; ++i) {
    const auto& values = all.predictions(i).values();
    const auto best = std::max_element(values.begin(), values.end()) - values.begin();
    EXPECT_THAT(answer->predictions(i).places(), ElementsAre(best));
    EXPECT_THAT(answer->predictions(i).values(), ElementsAre(values.Get(static_cast<int>(best))));
  }

  Add().add_values(1);
  EXPECT_THAT(base::MessageOf(Ask().status()), HasSubstr("example 3: expected 2 values"));
}

TEST_F(PredictTest, ALanguageModelGivesTheNextToken) {
  v1::JobSpec spec = OnData("counting", v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_text()->set_context(16);
  v1::TransformerSpec& transformer = *spec.mutable_model()->mutable_transformer();
  transformer.set_vocabulary(64);
  transformer.set_hidden(16);
  transformer.set_blocks(1);
  transformer.set_heads(2);
  Train(spec);
  for (const int length : {1, 5, 16}) {
    v1::Example& example = Add();
    for (int i = 0; i < length; ++i) example.add_tokens(static_cast<uint32_t>(48 + i % 10));
  }
  auto answer = Ask();
  ASSERT_TRUE(answer.ok()) << answer.status();
  for (const v1::Prediction& prediction : answer->predictions()) {
    ASSERT_EQ(prediction.values_size(), 64);
    double sum = 0;
    for (const float value : prediction.values()) sum += value;
    EXPECT_NEAR(sum, 1, 1e-5);
    const auto best = std::max_element(prediction.values().begin(), prediction.values().end());
    EXPECT_EQ(prediction.best(), std::to_string(best - prediction.values().begin()));
  }
  // Whatever else is asked, and whatever fills an example up, does not matter.
  const v1::Prediction second = answer->predictions(1);
  const v1::Example example = request.examples().examples(1);
  request.mutable_examples()->clear_examples();
  Add() = example;
  answer = Ask();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->predictions(0).SerializeAsString(), second.SerializeAsString());

  request.mutable_examples()->mutable_examples(0)->set_tokens(0, 64);
  EXPECT_THAT(base::MessageOf(Ask().status()), HasSubstr("tokens below 64"));
  request.mutable_examples()->mutable_examples(0)->set_tokens(0, 1);
  for (int i = 0; i < 12; ++i) request.mutable_examples()->mutable_examples(0)->add_tokens(1);
  EXPECT_THAT(base::MessageOf(Ask().status()), HasSubstr("1 to 16 tokens"));
}

TEST_F(PredictTest, ARecommenderScoresPairs) {
  v1::JobSpec spec = OnData("likes", v1::Partition::KIND_USERS);
  spec.mutable_data()->mutable_interactions()->set_split(v1::Interactions::SPLIT_RATIO);
  spec.mutable_model()->mutable_recommender()->mutable_lightgcn()->set_dimensions(8);
  spec.mutable_model()->mutable_recommender()->mutable_lightgcn()->set_layers(0);
  Train(spec);
  const auto add = [this](const std::string& user, const std::string& item) {
    v1::Example& example = Add();
    example.set_user(user);
    example.set_item(item);
  };
  add("103", "7");
  add("100", "0");
  auto answer = Ask();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(answer->outputs(), ElementsAre("score"));
  // Without propagation a score is the product of two embeddings: items first, 8 numbers each.
  const auto& values = model.state.values;
  const auto product = [&](int user, int item) {
    double sum = 0;
    for (int d = 0; d < 8; ++d) sum += double{values[item * 8 + d]} * values[(20 + user) * 8 + d];
    return sum;
  };
  ExpectValues(answer->predictions(0), {product(3, 7)});
  ExpectValues(answer->predictions(1), {product(0, 0)});
  add("999", "0");
  answer = Ask();
  EXPECT_EQ(answer.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(answer.status()), "USER_NOT_FOUND");
}

TEST_F(PredictTest, AmountsAreBounded) {
  Train(OneLayer("points"));
  v1::Example& example = Add();
  example.add_values(1);
  example.add_values(1);
  for (int i = 0; i < 10'000; ++i) Add() = request.examples().examples(0);
  EXPECT_EQ(base::ReasonOf(Ask().status()), "INVALID_EXAMPLES");
  request.mutable_examples()->mutable_examples()->RemoveLast();
  const auto answer = Ask();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->predictions_size(), 10'000);
}

TEST_F(PredictTest, WithoutAWorkerTheAnswerSaysSo) {
  Train(OneLayer("points"));
  Add().add_values(1);
  worker_->Vanish();
  sim.Settle();
  absl::Status status;
  sim.jobs.questions().Predict(
      request,
      [&status](const absl::StatusOr<v1::PredictResponse>& answer) { status = answer.status(); });
  sim.Settle();
  EXPECT_EQ(base::ReasonOf(status), "WAITING_WORKERS");
  request.set_checkpoint("checkpoints/none-1");
  sim.jobs.questions().Predict(
      request,
      [&status](const absl::StatusOr<v1::PredictResponse>& answer) { status = answer.status(); });
  EXPECT_EQ(base::ReasonOf(status), "CHECKPOINT_NOT_FOUND");
}

}  // namespace
}  // namespace espalier::test
