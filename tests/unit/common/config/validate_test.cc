#include "common/config/validate.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "common/config/job_file.h"

namespace espalier::config {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

constexpr char kJob[] = R"(
model:
  input_features: 64
  layers:
    - linear: {units: 32, activation: relu}
    - linear: {units: 10}
data:
  dataset: digits
  partition: {kind: iid, shards: 3}
method: {name: set, parameters: {density: 0.1}}
training:
  optimizer: {learning_rate: 0.05, momentum: 0.9}
federation: {rounds: 10}
)";

v1::JobSpec ValidSpec() {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
  EXPECT_TRUE(violations.empty());
  return spec;
}

std::vector<std::string> Lines(const std::vector<Violation>& violations) {
  std::vector<std::string> lines;
  for (const Violation& violation : violations) {
    lines.push_back(violation.field + ": " + violation.description);
  }
  return lines;
}

TEST(ValidateTest, MinimalJobIsValidBeforeAndAfterDefaults) {
  v1::JobSpec spec = ValidSpec();
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
  ApplyDefaults(spec);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
}

struct BadSpec {
  const char* override;
  const char* field;
  const char* expected;
};

class BadSpecTest : public ::testing::TestWithParam<BadSpec> {};

TEST_P(BadSpecTest, IsRefusedAtTheRightField) {
  v1::JobSpec spec = ValidSpec();
  std::vector<Violation> violations;
  std::stringstream overrides(GetParam().override);
  for (std::string one; std::getline(overrides, one, ';');) {
    ApplyOverride(one, spec, violations);
  }
  ASSERT_THAT(Lines(violations), IsEmpty());
  EXPECT_THAT(Lines(ValidateJobSpec(spec)),
              Contains(AllOf(StartsWith(std::string(GetParam().field) + ": "),
                             HasSubstr(GetParam().expected))));
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadSpecTest,
    ::testing::Values(
        BadSpec{"model.input_features=0", "model.input_features", "must be 1.."},
        BadSpec{"model.layers=[]", "model.layers", "at least one layer"},
        BadSpec{"model.layers=[{}]", "model.layers[0].linear", "a layer needs a kind"},
        BadSpec{"model.layers[0].linear.units=0", "model.layers[0].linear.units", "found 0"},
        BadSpec{"model.layers[0].linear.units=-5", "model.layers[0].linear.units", "found -5"},
        BadSpec{"model.layers[0].linear.dropout=1", "model.layers[0].linear.dropout", "0 ≤ x < 1"},
        BadSpec{"model.layers[1].linear.dropout=.5", "model.layers[1].linear.dropout", "remove"},
        BadSpec{"model.layers[0].linear.activation=softmax", "model.layers[0].linear.activation",
                "last layer only"},
        BadSpec{"model.layers[1].linear.activation=sigmoid", "model.loss", "found sigmoid"},
        BadSpec{"model.loss=mean_squared_error;model.layers[1].linear.activation=softmax",
                "model.loss", "does not support a softmax"},
        BadSpec{"model.input_dropout=.nan", "model.input_dropout", "found nan"},
        BadSpec{"model.layers[0].linear.units=10000000;model.input_features=1000000;"
                "method.parameters.density=1",
                "model.layers", "1e+13 weights"},
        BadSpec{"method.name=dense;model.layers[0].linear.units=10000000;model.input_features=500",
                "model.layers", "at most 2,147,483,647"},
        BadSpec{"data.dataset=''", "data.dataset", "found \"\""},
        BadSpec{"data.dataset=../secrets", "data.dataset", "no path"},
        BadSpec{"data.dataset=..", "data.dataset", "no path"},
        BadSpec{"data.dataset=/etc", "data.dataset", "no path"},
        BadSpec{"data.partition.shards=0", "data.partition.shards", "1..100,000"},
        BadSpec{"data.partition.shards=100001", "data.partition.shards", "found 100,001"},
        BadSpec{"data.partition.kind=local", "data.partition.shards", "remove shards"},
        BadSpec{"data.partition.alpha=0.5", "data.partition.alpha", "dirichlet only"},
        BadSpec{"data.partition={kind: dirichlet, shards: 2, alpha: -1}", "data.partition.alpha",
                "x > 0"},
        BadSpec{"data.partition={kind: groups, shards: 2}", "data.partition.groups_file",
                "expected the name of a file"},
        BadSpec{"data.partition={kind: groups, shards: 2, groups_file: ../x}",
                "data.partition.groups_file", "expected the name of a file"},
        BadSpec{"data.scale=-1", "data.scale", "x > 0"},
        BadSpec{"data.std=.inf", "data.std", "found inf"},
        BadSpec{"data.test_fraction=1", "data.test_fraction", "0 ≤ x < 1"},
        BadSpec{"data.train_limit=-1", "data.train_limit", "found -1"},
        BadSpec{"data.train_limit=2", "data.train_limit", "cannot be divided into 3 shards"},
        BadSpec{"data.label_column=-2", "data.label_column", "−1"},
        BadSpec{"method.name=''", "method.name", "espalier method list"},
        BadSpec{"training.batch_size=65537", "training.batch_size", "1..65,536"},
        BadSpec{"training.batch_size=-1", "training.batch_size", "found -1"},
        BadSpec{"training.local_epochs=2;training.local_steps=5", "training.local_steps",
                "exclude each other"},
        BadSpec{"training.optimizer.learning_rate=.nan", "training.optimizer.learning_rate",
                "must be x > 0, found nan"},
        BadSpec{"training.optimizer.learning_rate=0", "training.optimizer.learning_rate", "x > 0"},
        BadSpec{"training.optimizer.momentum=1", "training.optimizer.momentum", "0 ≤ x < 1"},
        BadSpec{"training.optimizer={learning_rate: 1, nesterov: true}",
                "training.optimizer.nesterov", "set momentum"},
        BadSpec{"training.optimizer.kind=adam", "training.optimizer.momentum", "use beta1"},
        BadSpec{"training.optimizer={learning_rate: 0.1, across_rounds: average}",
                "training.optimizer.across_rounds", "set momentum"},
        BadSpec{"training.optimizer={kind: adam, learning_rate: 0.1, across_rounds: average}",
                "training.optimizer.across_rounds", "local_steps"},
        BadSpec{"model.loss=binary_cross_entropy", "model.loss", "needs sigmoid"},
        BadSpec{"training.optimizer.lazy_rows=true", "training.optimizer.lazy_rows",
                "model.recommender only"},
        BadSpec{"training.optimizer.beta1=.5", "training.optimizer.beta1", "adam only"},
        BadSpec{"training.optimizer.weight_decay=-1", "training.optimizer.weight_decay", "x ≥ 0"},
        BadSpec{"training.optimizer.weight_decay=1;training.optimizer.decoupled_weight_decay=true",
                "training.optimizer.weight_decay", "must be < 1"},
        BadSpec{"training.schedule.kind=step", "training.schedule.milestones", "[50, 75]"},
        BadSpec{"training.schedule={kind: step, milestones: [5, 5]}",
                "training.schedule.milestones[1]", "found 5 after 5"},
        BadSpec{"training.schedule.milestones=[1]", "training.schedule.milestones", "step only"},
        BadSpec{"training.schedule.warmup_rounds=11", "training.schedule.warmup_rounds", "0..10"},
        BadSpec{"training.schedule={kind: cosine, final_factor: 2}",
                "training.schedule.final_factor", "0 ≤ x ≤ 1"},
        BadSpec{"federation.rounds=0", "federation.rounds", "must be 1..1,000,000, found 0"},
        BadSpec{"federation.cohort_size=4", "federation.cohort_size", "number of shards"},
        BadSpec{"federation.quorum=1.5", "federation.quorum", "0 < x ≤ 1"},
        BadSpec{"federation.round_deadline=500ms", "federation.round_deadline", "1s..24h"},
        BadSpec{"federation.round_deadline=25h", "federation.round_deadline", "found 90000s"},
        BadSpec{"federation.min_workers=0", "federation.min_workers", "1..10,000, found 0"},
        BadSpec{"federation.max_retries=-1", "federation.max_retries", "found -1"},
        BadSpec{"checkpoint.keep=-1", "checkpoint.keep", "found -1"},
        BadSpec{"evaluation.every_rounds=-1", "evaluation.every_rounds", "found -1"}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

constexpr char kImageJob[] = R"(
model:
  input_image: {channels: 1, height: 8, width: 8}
  layers:
    - conv2d: {channels: 4, activation: relu}
    - max_pool: {}
    - residual:
        body: [{conv2d: {channels: 8, stride: 2}}, {batch_norm: {}}]
        shortcut: [{conv2d: {channels: 8, kernel: 1, stride: 2}}]
        activation: relu
    - linear: {units: 10}
data: {dataset: digits, partition: {kind: iid, shards: 3}}
method: {name: set, parameters: {density: 0.1}}
training: {optimizer: {learning_rate: 0.05}}
federation: {rounds: 10}
)";

TEST(ValidateImageTest, NetworkOfConvolutionsIsValidBeforeAndAfterDefaults) {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kImageJob, violations).spec;
  EXPECT_THAT(Lines(violations), IsEmpty());
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
  ApplyDefaults(spec);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
  EXPECT_EQ(spec.model().input_features(), 64);
  EXPECT_EQ(spec.model().layers(0).conv2d().padding(), 1);
  EXPECT_EQ(spec.model().layers(0).conv2d().initializer(), v1::INITIALIZER_HE);
  EXPECT_EQ(spec.model().layers(2).residual().body(1).batch_norm().momentum(), 0.1);
}

TEST(ValidateImageTest, MistakesAreReportedWhereTheyAre) {
  const BadSpec kCases[] = {
      {"model.layers[0].conv2d.channels=0", "model.layers[0].conv2d.channels", "found 0"},
      {"model.layers[0].conv2d.channels=1000000", "model.layers", "fewer channels"},
      {"model.layers[0].conv2d.kernel=64", "model.layers[0].conv2d.kernel", "1..63"},
      {"model.layers[0].conv2d.stride=3", "model.layers[0].conv2d.stride", "1 or 2"},
      {"model.layers[0].conv2d.padding=3", "model.layers[0].conv2d.padding", "0..2"},
      {"model.layers[0].conv2d.activation=softmax", "model.layers[0].conv2d.activation", "last"},
      {"model.layers[1].max_pool.kernel=9", "model.layers[1].max_pool", "does not fit the 8 × 8"},
      {"model.layers[1].max_pool.stride=-1", "model.layers[1].max_pool.stride", "found -1"},
      {"model.layers[2].residual.body=[]", "model.layers[2].residual.body", "at least one"},
      {"model.layers[2].residual.shortcut=[]", "model.layers[2].residual.shortcut",
       "the body gives 8 × 2 × 2, the shortcut 4 × 4 × 4"},
      {"model.layers[2].residual.body[0].conv2d.kernel=99",
       "model.layers[2].residual.body[0].conv2d.kernel", "found 99"},
      {"model.layers[2].residual.body=[{linear: {units: 3}}]",
       "model.layers[2].residual.body[0].linear", "only"},
      {"model.layers[2].residual.body[1].batch_norm.momentum=2",
       "model.layers[2].residual.body[1].batch_norm.momentum", "0 < x"},
      {"model.layers=[{global_avg_pool: {}}]", "model.layers[0].global_avg_pool", "per class"},
      {"model.input_image.height=0", "model.input_image.height", "found 0"},
      {"model.input_features=65", "model.input_features", "expected 64"},
      {"model.name=resnet20", "model.layers", "has its own layers"},
      {"data.channel_mean=[0.5, 0.5]", "data.channel_mean", "expected 1 numbers"},
      {"data.channel_mean=[0.5]", "data.channel_std", "found 0"},
      {"data={dataset: digits, channel_mean: [0], channel_std: [0]}", "data.channel_std[0]",
       "x > 0"},
      {"data={dataset: digits, mean: 3, channel_mean: [0], channel_std: [1]}", "data.mean",
       "remove one"},
      {"data={dataset: digits, normalization: federated, mean: 3}", "data.normalization",
       "remove them"},
      {"data={dataset: digits, normalization: federated, channel_mean: [0], channel_std: [1]}",
       "data.normalization", "remove them"},
      {"training.activation_pruning=1", "training.activation_pruning", "0 ≤ x < 1"},
      {"training.activation_pruning=-0.1", "training.activation_pruning", "found -0.1"},
      {"data.augmentation.crop_padding=8", "data.augmentation.crop_padding", "0..7"},
      {"data.augmentation.crop_padding=-1", "data.augmentation.crop_padding", "found -1"},
      {"model.name=resnet21;model.layers=[]", "model.name", "resnet20"},
      {"model.parameters.width=2", "model.parameters", "set name"},
      {"model.name=vgg11;model.layers=[];model.parameters.width=-1", "model.parameters.width",
       "found -1"},
      {"model.name=resnet8;model.layers=[];model.parameters.batch_norm=false",
       "model.parameters.batch_norm", "set normalization: weight"},
      {"model.name=vgg11;model.layers=[];model.parameters={batch_norm: true, normalization: "
       "weight}",
       "model.parameters.batch_norm", "remove one of them"},
      {"model.layers=[{flatten: {}}, {batch_norm: {}}, {linear: {units: 10}}];"
       "training.batch_size=1",
       "training.batch_size", "at least 2 examples"},
      {"model.name=vgg11;model.layers=[]", "model.layers[15].max_pool", "does not fit"},
  };
  for (const BadSpec& bad : kCases) {
    std::vector<Violation> violations;
    v1::JobSpec spec = ParseJobFile(kImageJob, violations).spec;
    std::stringstream overrides(bad.override);
    for (std::string one; std::getline(overrides, one, ';');) {
      ApplyOverride(one, spec, violations);
    }
    ASSERT_THAT(Lines(violations), IsEmpty()) << bad.override;
    const auto expected =
        Contains(AllOf(StartsWith(std::string(bad.field) + ": "), HasSubstr(bad.expected)));
    EXPECT_THAT(Lines(ValidateJobSpec(spec)), expected);
    ApplyDefaults(spec);
    EXPECT_THAT(Lines(ValidateJobSpec(spec)), expected);
  }
}

TEST(ValidateImageTest, BatchesOfOneExampleGoWithBatchNormsOfImages) {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kImageJob, violations).spec;
  spec.mutable_training()->set_batch_size(1);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
}

// What only the coordinator can look up is not a mistake of the file.
TEST(ValidateImageTest, ImagesMayBeLeftToAPretrainedModel) {
  v1::JobSpec spec = ValidSpec();
  spec.clear_model();
  spec.mutable_model()->set_pretrained("jobs/public");
  spec.mutable_data()->mutable_augmentation()->set_horizontal_flip(true);
  spec.mutable_data()->set_normalization(v1::DataSpec::NORMALIZATION_FEDERATED);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
  ApplyDefaults(spec);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
}

TEST(ValidateImageTest, AugmentationNeedsAnImage) {
  v1::JobSpec spec = ValidSpec();
  spec.mutable_data()->mutable_augmentation()->set_horizontal_flip(true);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)),
              ElementsAre(StartsWith("data.augmentation.crop_padding: only images")));
}

TEST(ValidateImageTest, ConvolutionWithoutAnImageIsRefused) {
  v1::JobSpec spec = ValidSpec();
  std::vector<Violation> violations;
  ApplyOverride("model.layers=[{conv2d: {channels: 3}}, {linear: {units: 10}}]", spec, violations);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)),
              ElementsAre(AllOf(StartsWith("model.layers[0].conv2d: "),
                                HasSubstr("set model.input_image"))));
}

TEST(ValidateTest, SizesOfImagesHaveBoundsAndAgreeWithTheModel) {
  v1::JobSpec spec = ValidSpec();
  v1::ImageSize& size = *spec.mutable_data()->mutable_image_size();
  size.set_height(8);
  size.set_width(8);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
  size.set_width(4097);
  size.set_channels(2);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), ElementsAre(StartsWith("data.image_size.width: "),
                                                        StartsWith("data.image_size.channels: ")));
  size.set_width(4);
  size.set_channels(1);
  v1::ImageShape& image = *spec.mutable_model()->mutable_input_image();
  image.set_channels(1);
  image.set_height(8);
  image.set_width(8);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)),
              ElementsAre(AllOf(StartsWith("data.image_size.width: expected 8"),
                                HasSubstr("model.input_image, found 4"))));
  size.set_width(8);
  spec.mutable_data()->set_format(v1::DataSpec::FORMAT_CSV);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), ElementsAre(StartsWith("data.image_size: ")));
}

TEST(ValidateTest, AllMistakesAreReportedAtOnce) {
  const auto lines = Lines(ValidateJobSpec(v1::JobSpec()));
  EXPECT_THAT(lines, Contains(StartsWith("model.input_features: ")));
  EXPECT_THAT(lines, Contains(StartsWith("model.layers: ")));
  EXPECT_THAT(lines, Contains(StartsWith("data.dataset: ")));
  EXPECT_THAT(lines, Contains(StartsWith("data.partition.shards: ")));
  EXPECT_THAT(lines, Contains(StartsWith("method.name: ")));
  EXPECT_THAT(lines, Contains(StartsWith("training.optimizer.learning_rate: ")));
  EXPECT_THAT(lines, Contains(StartsWith("federation.rounds: ")));
}

TEST(ValidateTest, UnknownEnumValueIsRefused) {
  v1::JobSpec spec = ValidSpec();
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_activation(
      static_cast<v1::Activation>(99));
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), ElementsAre(HasSubstr("unknown value 99")));
}

// A sparse network may be far larger than its dense twin could be.
TEST(ValidateTest, MillionsOfSparseUnitsAreAccepted) {
  v1::JobSpec spec = ValidSpec();
  std::vector<Violation> violations;
  ApplyOverride("model.layers[0].linear.units=1000000", spec, violations);
  ApplyOverride("method.parameters={epsilon: 5}", spec, violations);
  EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty());
}

TEST(DefaultsTest, DocumentedDefaultsAreWrittenIn) {
  v1::JobSpec spec = ValidSpec();
  ApplyDefaults(spec);
  EXPECT_EQ(spec.model().loss(), v1::LOSS_CROSS_ENTROPY);
  EXPECT_EQ(spec.model().layers(0).linear().initializer(), v1::INITIALIZER_HE);
  EXPECT_EQ(spec.model().layers(1).linear().initializer(), v1::INITIALIZER_GLOROT);
  EXPECT_EQ(spec.model().layers(1).linear().activation(), v1::ACTIVATION_LINEAR);
  EXPECT_EQ(spec.data().scale(), 1);
  EXPECT_EQ(spec.data().std(), 1);
  EXPECT_EQ(spec.data().label_column(), "-1");
  EXPECT_EQ(spec.training().batch_size(), 32);
  EXPECT_EQ(spec.training().local_epochs(), 1);
  EXPECT_EQ(spec.training().optimizer().kind(), v1::Optimizer::KIND_SGD);
  EXPECT_EQ(spec.federation().quorum(), 1);
  EXPECT_EQ(spec.federation().round_deadline().seconds(), 600);
  EXPECT_EQ(spec.federation().on_quorum_loss(), v1::Federation::QUORUM_POLICY_EXTEND);
  EXPECT_EQ(spec.federation().max_extensions(), 3);
  EXPECT_EQ(spec.federation().min_workers(), 1);
  EXPECT_EQ(spec.federation().max_retries(), 3);
  EXPECT_EQ(spec.evaluation().every_rounds(), 1);
  EXPECT_TRUE(spec.evaluation().central());
  EXPECT_EQ(spec.checkpoint().keep(), 3);
  EXPECT_EQ(spec.seed(), 1u);
}

TEST(DefaultsTest, GivenValuesAreKept) {
  v1::JobSpec spec = ValidSpec();
  std::vector<Violation> violations;
  for (const char* assignment :
       {"training.local_steps=7", "evaluation.federated=true", "seed=0", "federation.max_retries=0",
        "data.partition={kind: dirichlet, shards: 2, alpha: 3}",
        "training.optimizer={kind: adam, learning_rate: 0.1, beta1: 0.5}"}) {
    ApplyOverride(assignment, spec, violations);
  }
  ASSERT_THAT(Lines(violations), IsEmpty());
  ApplyDefaults(spec);
  EXPECT_EQ(spec.training().local_epochs(), 0);
  EXPECT_EQ(spec.training().local_steps(), 7);
  EXPECT_FALSE(spec.evaluation().central());
  EXPECT_EQ(spec.seed(), 0u);
  EXPECT_EQ(spec.federation().max_retries(), 0);
  EXPECT_EQ(spec.data().partition().alpha(), 3);
  EXPECT_EQ(spec.training().optimizer().beta1(), 0.5);
  EXPECT_EQ(spec.training().optimizer().beta2(), 0.999);
}

TEST(DefaultsTest, ApplyingTwiceChangesNothing) {
  v1::JobSpec once = ValidSpec();
  ApplyDefaults(once);
  v1::JobSpec twice = once;
  ApplyDefaults(twice);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(once, twice));
}

TEST(ExamplesTest, EveryExampleParsesAndIsValid) {
  const char* source = std::getenv("ESPALIER_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "run through ctest";
  int files = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(source) / "docs/examples")) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    std::ifstream file(entry.path());
    std::stringstream text;
    text << file.rdbuf();
    std::vector<Violation> violations;
    v1::JobSpec spec = ParseJobFile(text.str(), violations).spec;
    EXPECT_THAT(Lines(violations), IsEmpty()) << entry.path();
    EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty()) << entry.path();
    ApplyDefaults(spec);
    EXPECT_THAT(Lines(ValidateJobSpec(spec)), IsEmpty()) << entry.path();
  }
  EXPECT_GE(files, 8);
}

constexpr char kTransformerJob[] = R"(
model:
  transformer: {vocabulary: 256, hidden: 32, blocks: 2, heads: 4}
data:
  dataset: corpus
  text: {context: 16}
  partition: {kind: iid, shards: 2}
method: {name: rigl, parameters: {density: 0.3}}
training:
  optimizer: {learning_rate: 0.05}
federation: {rounds: 10}
)";

std::vector<std::string> TransformerLines(const std::function<void(v1::JobSpec&)>& change) {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kTransformerJob, violations).spec;
  EXPECT_TRUE(violations.empty());
  change(spec);
  return Lines(ValidateJobSpec(spec));
}

TEST(ValidateTransformerTest, ValidBeforeAndAfterDefaults) {
  EXPECT_THAT(TransformerLines([](v1::JobSpec&) {}), IsEmpty());
  EXPECT_THAT(TransformerLines([](v1::JobSpec& spec) {
                ApplyDefaults(spec);
                EXPECT_EQ(spec.model().transformer().kv_heads(), 4);
                EXPECT_EQ(spec.model().transformer().intermediate(), 96);
                EXPECT_EQ(spec.data().text().stride(), 16);
                EXPECT_EQ(spec.data().text().tokenizer(), "bytes");
              }),
              IsEmpty());
}

// A transformer that is told by a config.json instead of fields.
std::vector<std::string> ConfigLines(const std::string& json,
                                     const std::function<void(v1::JobSpec&)>& change = {}) {
  return TransformerLines([&](v1::JobSpec& spec) {
    spec.mutable_model()->mutable_transformer()->Clear();
    spec.mutable_model()->mutable_transformer()->set_config_json(json);
    if (change) change(spec);
  });
}

TEST(ValidateTransformerTest, AConfigSaysTheWholeModel) {
  const std::string gpt2 =
      R"({"model_type":"gpt2","n_embd":12,"n_layer":2,"n_head":3,"vocab_size":256,)";
  EXPECT_THAT(ConfigLines(gpt2 + R"("n_positions":16})"), IsEmpty());
  EXPECT_THAT(ConfigLines(gpt2 + R"("n_positions":16})",
                          [](v1::JobSpec& spec) {
                            spec.mutable_model()->mutable_transformer()->set_dense_attention(true);
                            ApplyDefaults(spec);
                          }),
              IsEmpty());
  EXPECT_THAT(ConfigLines(gpt2 + R"("n_positions":15})"),
              ElementsAre(StartsWith("data.text.context: must be at most 15, the model's most")));
  EXPECT_THAT(ConfigLines(gpt2 + R"("n_positions":16})",
                          [](v1::JobSpec& spec) {
                            spec.mutable_model()->mutable_transformer()->set_hidden(12);
                          }),
              ElementsAre(StartsWith("model.transformer.config_json: says the whole model")));
  EXPECT_THAT(ConfigLines(R"({"model_type":"bert"})"),
              ElementsAre(StartsWith("model.transformer.config_json: config.json: expected")));
  EXPECT_THAT(
      ConfigLines(std::string(70'000, ' ')),
      ElementsAre(StartsWith("model.transformer.config_json: expected at most 65,536 bytes")));
  EXPECT_THAT(ConfigLines(R"({"model_type":"gpt2","n_embd":1048575,"n_layer":2,"n_head":3,
                              "vocab_size":256,"n_positions":16})"),
              Contains(StartsWith("model.transformer.hidden: must be")));
}

TEST(ValidateTransformerTest, WhatDoesNotFitIsNamed) {
  EXPECT_THAT(TransformerLines([](v1::JobSpec& spec) { spec.mutable_data()->clear_text(); }),
              ElementsAre(StartsWith("data.text: ")));
  EXPECT_THAT(TransformerLines([](v1::JobSpec& spec) {
                spec.mutable_model()->mutable_transformer()->set_heads(5);
              }),
              ElementsAre(StartsWith("model.transformer.heads: hidden / heads")));
  EXPECT_THAT(TransformerLines([](v1::JobSpec& spec) {
                spec.mutable_model()->mutable_transformer()->set_kv_heads(3);
              }),
              ElementsAre(StartsWith("model.transformer.kv_heads: must divide")));
  EXPECT_THAT(TransformerLines([](v1::JobSpec& spec) {
                spec.mutable_model()->mutable_transformer()->set_vocabulary(1);
              }),
              ElementsAre(StartsWith("model.transformer.vocabulary: ")));
  EXPECT_THAT(
      TransformerLines([](v1::JobSpec& spec) { spec.mutable_model()->set_input_features(3); }),
      ElementsAre(StartsWith("model.transformer: is a whole model")));
  EXPECT_THAT(TransformerLines([](v1::JobSpec& spec) {
                spec.mutable_data()->mutable_text()->set_tokenizer("words");
                spec.mutable_data()->mutable_text()->set_stride(17);
                spec.mutable_data()->set_scale(16);
              }),
              ElementsAre(StartsWith("data.text.stride: "), StartsWith("data.text.tokenizer: "),
                          StartsWith("data.scale: ")));
  v1::JobSpec network = ValidSpec();
  network.mutable_data()->mutable_text()->set_context(4);
  EXPECT_THAT(Lines(ValidateJobSpec(network)), ElementsAre(StartsWith("data.text: ")));
}

}  // namespace
}  // namespace espalier::config
