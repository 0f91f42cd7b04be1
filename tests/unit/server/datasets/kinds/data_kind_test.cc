#include "server/datasets/kinds/data_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace espalier::server::datasets {
namespace {

using ::testing::IsEmpty;

v1::JobSpec OnFeatures() {
  v1::JobSpec spec;
  spec.mutable_model()->set_input_features(4);
  spec.mutable_model()->add_layers()->mutable_linear()->set_units(3);
  return spec;
}

v1::JobSpec OnText() {
  v1::JobSpec spec;
  spec.mutable_model()->mutable_transformer()->set_vocabulary(256);
  spec.mutable_data()->mutable_text()->set_context(8);
  return spec;
}

v1::JobSpec OnInteractions() {
  v1::JobSpec spec;
  spec.mutable_model()->mutable_recommender()->mutable_neumf();
  return spec;
}

v1::DatasetInfo Table() {
  v1::DatasetInfo info;
  info.set_name("d");
  info.set_format("csv");
  info.set_features(4);
  info.set_classes(3);
  info.set_train_examples(10);
  info.set_test_examples(5);
  return info;
}

v1::DatasetInfo Letters() {
  v1::DatasetInfo info;
  info.set_name("d");
  info.set_format("text");
  info.set_train_bytes(100);
  return info;
}

v1::DatasetInfo Likes() {
  v1::DatasetInfo info;
  info.set_name("d");
  info.set_format("interactions");
  info.set_interactions(30);
  info.set_users(7);
  info.set_items(9);
  info.set_train_examples(20);
  info.set_test_examples(10);
  return info;
}

std::string FieldOfMisfit(const v1::JobSpec& spec, const v1::DatasetInfo& info) {
  const auto violations = DataKindOf(spec).Misfits(spec, info);
  return violations.empty() ? "" : violations[0].field;
}

TEST(DataKindTest, JobFitsDataOfItsKindAlone) {
  EXPECT_EQ(FieldOfMisfit(OnFeatures(), Table()), "");
  EXPECT_EQ(FieldOfMisfit(OnFeatures(), Letters()), "data.text");
  EXPECT_EQ(FieldOfMisfit(OnFeatures(), Likes()), "data.dataset");
  EXPECT_EQ(FieldOfMisfit(OnText(), Letters()), "");
  EXPECT_EQ(FieldOfMisfit(OnText(), Table()), "data.text");
  EXPECT_EQ(FieldOfMisfit(OnText(), Likes()), "data.dataset");
  v1::JobSpec recommender = OnInteractions();
  std::vector<config::Violation> violations;
  DataKindOf(recommender).FillIn(Likes(), recommender, violations);
  EXPECT_THAT(violations, IsEmpty());
  EXPECT_EQ(recommender.model().recommender().users(), 7);
  EXPECT_EQ(FieldOfMisfit(recommender, Likes()), "");
}

TEST(DataKindTest, TrainedModelThatIsNamedAloneReadsATextWhenTheJobHasOne) {
  v1::JobSpec spec;
  spec.mutable_model()->set_pretrained("tiny");
  EXPECT_EQ(FieldOfMisfit(spec, Letters()), "data.text");
  spec.mutable_data()->mutable_text()->set_context(8);
  EXPECT_EQ(FieldOfMisfit(spec, Letters()), "");
}

TEST(DataKindTest, UpdatesAreAboutNoMoreExamplesThanTheDataHas) {
  v1::Task train;
  train.mutable_train();
  v1::Task evaluate;
  evaluate.mutable_evaluate();
  const auto most = [](const v1::JobSpec& spec, const v1::Task& task, const v1::DatasetInfo& info) {
    return DataKindOf(spec).MostExamples(spec, task, info);
  };
  EXPECT_EQ(most(OnFeatures(), train, Table()), 10);
  EXPECT_EQ(most(OnFeatures(), evaluate, Table()), 15);
  EXPECT_EQ(most(OnInteractions(), train, Likes()), 30);
  EXPECT_EQ(most(OnInteractions(), evaluate, Likes()), 7);
  // 2 · 100 + 2 tokens in sequences of 8.
  EXPECT_EQ(most(OnText(), train, Letters()), (202 / 8 + 1) * 8);
}

}  // namespace
}  // namespace espalier::server::datasets
