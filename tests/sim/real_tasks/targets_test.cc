// What is learned of an example besides its class: several labels, numbers, the example itself. By
// the code that workers run, on files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/sim/simulation.h"
#include "tests/support/real_worker.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::test {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr int kRows = 200;

// Inputs of a row, and what follows from them.
double Input(int row, int i) { return ((row * (i + 3) + 7 * i) % 19) / 19.0; }
double Price(int row) { return 2 * Input(row, 0) - Input(row, 1) + 0.5; }
double Weight(int row) { return Input(row, 2) + 0.25; }

const worker::data::DataFolder& Data() {
  static const auto* folder = [] {
    auto* made = new worker::data::DataFolder();
    std::string houses = "a,price,b,weight,c\n";
    std::string tags = "a,b,c,big,small\n";
    std::string plain;
    for (int row = 0; row < kRows; ++row) {
      const auto text = [&](int i) { return std::to_string(Input(row, i)); };
      houses += text(0) + "," + std::to_string(Price(row)) + "," + text(1) + "," +
                std::to_string(Weight(row)) + "," + text(2) + "\n";
      tags += text(0) + "," + text(1) + "," + text(2) + "," + (Input(row, 0) > 0.5 ? "1" : "0") +
              "," + (Input(row, 1) < 0.4 ? "1" : "0") + "\n";
      plain += text(0) + "," + text(1) + "," + text(2) + "\n";
    }
    made->Write("houses/train.csv", houses);
    made->Write("tags/train.csv", tags);
    made->Write("plain/train.csv", plain);
    std::vector<float> features;
    std::vector<float> targets;
    for (int row = 0; row < kRows; ++row) {
      for (int i = 0; i < 3; ++i) features.push_back(static_cast<float>(Input(row, i)));
      targets.push_back(static_cast<float>(Price(row)));
      targets.push_back(static_cast<float>(Weight(row)));
    }
    made->Write("arrays/train_features.npy",
                worker::data::Npy("<f4", "(200, 3)", worker::data::Raw(features)));
    made->Write("arrays/train_labels.npy",
                worker::data::Npy("<f4", "(200, 2)", worker::data::Raw(targets)));
    return made;
  }();
  return *folder;
}

v1::JobSpec On(const std::string& dataset, v1::DataSpec::Target target) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset(dataset);
  spec.mutable_data()->set_target(target);
  spec.mutable_data()->set_test_fraction(0.2);
  spec.mutable_data()->mutable_partition()->set_shards(2);
  spec.mutable_model()->add_layers()->mutable_linear();
  spec.mutable_method()->set_name("dense");
  spec.mutable_training()->set_batch_size(8);
  spec.mutable_training()->set_local_epochs(4);
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.2);
  spec.mutable_federation()->set_rounds(15);
  spec.set_seed(2);
  return spec;
}

v1::JobSpec Houses() {
  v1::JobSpec spec = On("houses", v1::DataSpec::TARGET_VALUES);
  spec.mutable_data()->add_target_columns("weight");
  spec.mutable_data()->add_target_columns("price");
  return spec;
}

v1::JobSpec Tags() {
  v1::JobSpec spec = On("tags", v1::DataSpec::TARGET_LABELS);
  spec.mutable_data()->add_target_columns("big");
  spec.mutable_data()->add_target_columns("small");
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(1);
  return spec;
}

class TargetsTest : public testing::Test {
 protected:
  TargetsTest() {
    worker_ = std::make_unique<RealWorker>("w0", Data().path(), sim.models_folder() + "-w0",
                                           sim.fleet, sim.jobs, sim.blobs);
    EXPECT_TRUE(worker_->Connect().ok());
  }

  v1::Job Run(const v1::JobSpec& spec) {
    const std::string name = sim.Start(spec);
    for (int i = 0; sim.State(name) == v1::Job::STATE_RUNNING && i < 1000; ++i) {
      if (worker_->busy()) worker_->Work();
      sim.Settle();
      worker_->Heartbeat();
      sim.Tick();
    }
    v1::Job job = sim.Job(name);
    EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
    return job;
  }

  static std::map<std::string, double> Metrics(const v1::Job& job) {
    std::map<std::string, double> metrics;
    for (const v1::Metric& metric : job.history().rbegin()->test_metrics()) {
      metrics[metric.name()] = metric.value();
    }
    return metrics;
  }

  std::vector<config::Violation> Refused(const v1::JobSpec& spec) {
    std::vector<config::Violation> violations;
    EXPECT_FALSE(sim.Create(spec, violations).ok());
    sim.Settle();
    return violations;
  }

  Simulation sim;
  std::unique_ptr<RealWorker> worker_;
};

TEST_F(TargetsTest, NumbersAreLearned) {
  const v1::Job job = Run(Houses());
  const v1::ModelSpec& model = job.spec().model();
  EXPECT_EQ(model.input_features(), 3);
  EXPECT_EQ(model.layers(0).linear().units(), 2);
  EXPECT_EQ(model.loss(), v1::LOSS_MEAN_SQUARED_ERROR);
  EXPECT_EQ(job.spec().evaluation().main_metric(), "mse");
  const auto metrics = Metrics(job);
  EXPECT_LT(metrics.at("mse"), 1e-3);
  EXPECT_GT(metrics.at("r2"), 0.99);
  EXPECT_NEAR(metrics.at("rmse"), std::sqrt(metrics.at("mse")), 1e-12);
  EXPECT_NEAR(job.history().rbegin()->test_loss(), metrics.at("mse"), 1e-9)
      << "half of the squares, of two outputs";
  EXPECT_FALSE(job.history().rbegin()->has_test_accuracy());
  EXPECT_EQ(job.history().rbegin()->main_metric(), metrics.at("mse"));
  EXPECT_LE(job.best_metric(), metrics.at("mse")) << "the smallest error is the best";
  // Names in the order that the job gave.
  const auto checkpoint = sim.checkpoints().Load(job.latest_checkpoint()).value();
  EXPECT_THAT(checkpoint.metadata.data_spec->agreement().target_columns(),
              ElementsAre("weight", "price"));
  EXPECT_NEAR(checkpoint.state.values[0], 0, 0.1);  // of a on weight
  EXPECT_NEAR(checkpoint.state.values[3], 2, 0.1);  // of a on price
}

TEST_F(TargetsTest, ErrorsMayCountOtherwise) {
  for (const v1::Loss loss : {v1::LOSS_MEAN_ABSOLUTE_ERROR, v1::LOSS_HUBER}) {
    v1::JobSpec spec = Houses();
    spec.mutable_model()->set_loss(loss);
    spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.05);
    spec.mutable_evaluation()->set_main_metric("mae");
    EXPECT_LT(Metrics(Run(spec)).at("mae"), 0.1);
  }
}

TEST_F(TargetsTest, ArraysOfNumbersAreLearnedToo) {
  const v1::Job job = Run(On("arrays", v1::DataSpec::TARGET_VALUES));
  EXPECT_EQ(job.spec().model().layers(0).linear().units(), 2);
  EXPECT_LT(Metrics(job).at("mse"), 1e-3);
}

TEST_F(TargetsTest, SeveralLabelsAreLearned) {
  const v1::Job job = Run(Tags());
  EXPECT_EQ(job.spec().model().loss(), v1::LOSS_BINARY_CROSS_ENTROPY);
  EXPECT_EQ(job.spec().model().layers(0).linear().activation(), v1::ACTIVATION_SIGMOID);
  const auto metrics = Metrics(job);
  EXPECT_GT(metrics.at("f1_micro"), 0.9);
  EXPECT_GT(metrics.at("f1_macro"), 0.9);
  EXPECT_GT(metrics.at("average_precision"), 0.95);
  EXPECT_TRUE(metrics.contains("f1/1"));
  EXPECT_EQ(job.spec().evaluation().main_metric(), "f1_micro");
  EXPECT_EQ(job.history().rbegin()->main_metric(), metrics.at("f1_micro"));
}

TEST_F(TargetsTest, AnAutoencoderLearnsItsInput) {
  v1::JobSpec spec = On("plain", v1::DataSpec::TARGET_INPUT);
  const v1::Job job = Run(spec);
  EXPECT_EQ(job.spec().model().input_features(), 3) << "no column is a label";
  EXPECT_EQ(job.spec().model().layers(0).linear().units(), 3);
  EXPECT_LT(Metrics(job).at("mse"), 1e-3);
}

TEST_F(TargetsTest, EveryMethodThatTrainsLearnsNumbers) {
  for (const char* method : {"set", "rigl", "static", "snip", "gmp", "fedtiny", "feddst"}) {
    SCOPED_TRACE(method);
    v1::JobSpec spec = Houses();
    spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(8);
    spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_activation(v1::ACTIVATION_TANH);
    spec.mutable_model()->add_layers()->mutable_linear();
    spec.mutable_method()->set_name(method);
    spec.mutable_federation()->set_rounds(6);
    if (std::string(method) != "gmp") {
      (*spec.mutable_method()->mutable_parameters())["density"].set_double_value(0.6);
    }
    EXPECT_LT(Metrics(Run(spec)).at("mse"), 0.2);
  }
}

TEST_F(TargetsTest, ClassesMayBeWeighedAndSmoothed) {
  v1::JobSpec spec = On("tags", v1::DataSpec::TARGET_CLASS);  // the last column
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(1);
  const v1::Job plain = Run(spec);
  EXPECT_EQ(plain.spec().evaluation().main_metric(), "accuracy");
  EXPECT_GT(Metrics(plain).at("accuracy"), 0.9);
  EXPECT_GT(Metrics(plain).at("auc"), 0.95);
  ASSERT_EQ(plain.confusion().counts_size(), 4);
  int64_t all = 0;
  for (const int64_t count : plain.confusion().counts()) all += count;
  EXPECT_EQ(all, kRows / 5);
  EXPECT_EQ(plain.confusion().round(), 15);
  EXPECT_FALSE(sim.List().front().has_confusion());

  spec.mutable_training()->add_class_weights(1);
  spec.mutable_training()->add_class_weights(50);
  const v1::Job weighed = Run(spec);
  const auto taken_for_second = [](const v1::Job& job) {
    return job.confusion().counts(1) + job.confusion().counts(3);
  };
  EXPECT_GT(taken_for_second(weighed), taken_for_second(plain));

  spec.mutable_training()->clear_class_weights();
  spec.mutable_training()->set_label_smoothing(0.4);
  EXPECT_GT(Metrics(Run(spec)).at("log_loss"), Metrics(plain).at("log_loss"));
}

TEST_F(TargetsTest, PredictionsHaveTheNamesOfTheColumns) {
  const v1::Job job = Run(Houses());
  v1::PredictRequest request;
  request.set_checkpoint(job.latest_checkpoint());
  for (const char* name : {"c", "b", "a"}) request.mutable_examples()->add_columns(name);
  v1::Example& example = *request.mutable_examples()->add_examples();
  for (const char* cell : {"0.5", "0.25", "1"}) example.add_cells(cell);
  absl::StatusOr<v1::PredictResponse> answer = absl::UnknownError("no answer");
  sim.jobs.questions().Predict(
      request, [&answer](absl::StatusOr<v1::PredictResponse> given) { answer = given; });
  sim.Settle();
  worker_->Work();
  sim.Settle();
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_THAT(answer->outputs(), ElementsAre("weight", "price"));
  EXPECT_NEAR(answer->predictions(0).values(0), 0.75, 0.1);
  EXPECT_NEAR(answer->predictions(0).values(1), 2.25, 0.1);
  EXPECT_EQ(answer->predictions(0).best(), "");
}

TEST_F(TargetsTest, WhatDoesNotFitIsRefusedWithWhatToDo) {
  const auto fields = [this](const v1::JobSpec& spec) {
    std::vector<std::string> names;
    for (const config::Violation& violation : Refused(spec)) names.push_back(violation.field);
    return names;
  };
  v1::JobSpec spec = Houses();
  spec.mutable_model()->set_loss(v1::LOSS_CROSS_ENTROPY);
  EXPECT_THAT(fields(spec), Contains(HasSubstr("model.loss")));
  spec = Houses();
  spec.mutable_evaluation()->set_main_metric("accuracy");
  EXPECT_THAT(fields(spec), Contains(HasSubstr("evaluation.main_metric")));
  spec = Houses();
  spec.mutable_training()->set_label_smoothing(0.1);
  EXPECT_THAT(fields(spec), Contains(HasSubstr("training.label_smoothing")));
  spec = Houses();
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_DIRICHLET);
  EXPECT_THAT(fields(spec), Contains(HasSubstr("data.partition.kind")));
  spec = Houses();
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(3);
  EXPECT_THAT(fields(spec), Contains(HasSubstr("model.layers")));
  spec = On("tags", v1::DataSpec::TARGET_CLASS);
  spec.mutable_data()->add_target_columns("big");
  EXPECT_THAT(fields(spec), Contains(HasSubstr("data.target_columns")));
  spec = On("tags", v1::DataSpec::TARGET_CLASS);
  for (int i = 0; i < 3; ++i) spec.mutable_training()->add_class_weights(1);
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(2);
  EXPECT_THAT(fields(spec), Contains(HasSubstr("training.class_weights")));
  // What only the files tell.
  spec = Houses();
  spec.mutable_data()->set_target(v1::DataSpec::TARGET_LABELS);
  const auto violations = Refused(spec);
  ASSERT_FALSE(violations.empty());
  EXPECT_THAT(violations[0].description, HasSubstr("0 or 1, as data.target is labels"));
}

TEST_F(TargetsTest, OptionsOfClassesAreRefusedWhereNoClassIsLearned) {
  v1::JobSpec text;
  text.mutable_data()->set_dataset("text");
  text.mutable_data()->mutable_text()->set_context(8);
  v1::TransformerSpec& transformer = *text.mutable_model()->mutable_transformer();
  transformer.set_vocabulary(64);
  transformer.set_hidden(8);
  transformer.set_blocks(1);
  transformer.set_heads(2);
  v1::JobSpec likes;
  likes.mutable_data()->set_dataset("likes");
  v1::RecommenderSpec& recommender = *likes.mutable_model()->mutable_recommender();
  recommender.set_users(5);
  recommender.set_items(5);
  recommender.mutable_lightgcn()->set_dimensions(4);
  for (v1::JobSpec spec : {text, likes}) {
    spec.mutable_method()->set_name("dense");
    spec.mutable_federation()->set_rounds(1);
    spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.1);
    spec.mutable_training()->add_class_weights(1);
    spec.mutable_training()->set_label_smoothing(0.1);
    std::vector<std::string> fields;
    for (const config::Violation& violation : Refused(spec)) fields.push_back(violation.field);
    EXPECT_THAT(fields, Contains(HasSubstr("training.class_weights")));
    EXPECT_THAT(fields, Contains(HasSubstr("training.label_smoothing")));
  }
}

TEST_F(TargetsTest, TheFirstFiveOfFewClassesAreNoMetric) {
  v1::JobSpec spec = On("tags", v1::DataSpec::TARGET_CLASS);
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(2);
  spec.mutable_evaluation()->set_main_metric("top_5_accuracy");
  std::vector<std::string> fields;
  for (const config::Violation& violation : Refused(spec)) fields.push_back(violation.field);
  EXPECT_THAT(fields, Contains(HasSubstr("evaluation.main_metric")));
}

// Columns are named by the header.
TEST_F(TargetsTest, SelectedFeaturesHaveTheNamesOfTheirColumns) {
  v1::JobSpec spec = On("tags", v1::DataSpec::TARGET_INPUT);
  spec.mutable_model()->set_input_noise(0.1);
  spec.mutable_model()->clear_layers();
  v1::LinearLayer& hidden = *spec.mutable_model()->add_layers()->mutable_linear();
  hidden.set_units(20);
  hidden.set_activation(v1::ACTIVATION_TANH);
  spec.mutable_model()->add_layers()->mutable_linear();
  spec.mutable_method()->set_name("quick-selection");
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters["features"].set_int_value(2);
  parameters["density"].set_double_value(0.5);
  parameters["distribution"].set_string_value("uniform");
  const v1::Job job = Run(spec);
  std::map<int64_t, std::string> names;
  int selected = 0;
  for (const v1::FeatureStrength& feature : job.features()) {
    names[feature.index()] = feature.name();
    EXPECT_GT(feature.strength(), 0);
    selected += feature.selected() ? 1 : 0;
  }
  EXPECT_EQ(selected, 2);
  ASSERT_GE(names.size(), 3u);
  EXPECT_EQ(names[0], "a");
  EXPECT_EQ(names[1], "b");
  EXPECT_EQ(names[2], "c");
  EXPECT_EQ(sim.List()[0].features_size(), 0);
}

}  // namespace
}  // namespace espalier::test
