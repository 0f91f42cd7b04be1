#include "server/datasets/agreement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace espalier::server::datasets {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

v1::DatasetInfo Table(const std::vector<std::string>& columns,
                      const std::vector<std::string>& classes, const std::string& digest = "") {
  v1::DatasetInfo info;
  info.set_name("x");
  info.set_format("csv");
  info.set_header(true);
  info.set_label_column("kind");
  for (const std::string& name : columns) info.add_columns()->set_name(name);
  info.mutable_class_names()->Assign(classes.begin(), classes.end());
  info.set_features(static_cast<int64_t>(columns.size()));
  info.set_classes(static_cast<int64_t>(classes.size()));
  info.set_train_examples(10);
  info.set_digest(digest);
  return info;
}

v1::DataSpec Local() {
  v1::DataSpec data;
  data.set_dataset("x");
  data.mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  return data;
}

v1::DataSpec Divided() {
  v1::DataSpec data;
  data.set_dataset("x");
  return data;
}

std::vector<std::string> Names(const v1::Agreement& agreement) {
  std::vector<std::string> names;
  for (const auto& column : agreement.columns()) names.push_back(column.name());
  return names;
}

TEST(AgreementTest, ClassesOfAllSitesAreNumberedByName) {
  std::vector<config::Violation> violations;
  const auto agreed = Agree(
      Local(), {{"a", Table({"p", "q"}, {"ant", "bee"})}, {"b", Table({"q", "p"}, {"bee", "cat"})}},
      violations);
  ASSERT_TRUE(agreed.has_value()) << violations[0].description;
  EXPECT_THAT(agreed->agreement.classes(), ElementsAre("ant", "bee", "cat"));
  EXPECT_EQ(agreed->info.classes(), 3);
  EXPECT_EQ(agreed->info.train_examples(), 20);
  EXPECT_THAT(Names(agreed->agreement), ElementsAre("p", "q"));
  EXPECT_EQ(agreed->agreement.label_column(), "kind");
}

TEST(AgreementTest, SitesWithOtherColumnsAreNamedBeforeTheJobBegins) {
  std::vector<config::Violation> violations;
  EXPECT_FALSE(
      Agree(Local(), {{"a", Table({"p", "q"}, {})}, {"b", Table({"p", "r"}, {})}}, violations)
          .has_value());
  ASSERT_THAT(violations, SizeIs(1));
  EXPECT_EQ(violations[0].field, "data.dataset");
  EXPECT_THAT(violations[0].description, AllOf(HasSubstr("on a: "), HasSubstr("on b: "),
                                               HasSubstr("(p, q)"), HasSubstr("(p, r)")));
}

TEST(AgreementTest, DividedDataOfOtherContentIsRefusedOrLeftOut) {
  std::vector<config::Violation> violations;
  Descriptions all = {{"a", Table({"p"}, {}, "1111")}, {"b", Table({"p"}, {}, "2222")}};
  EXPECT_FALSE(Agree(Divided(), all, violations).has_value());
  ASSERT_THAT(violations, SizeIs(1));
  EXPECT_THAT(violations[0].description,
              AllOf(HasSubstr("the same content"), HasSubstr("digest 1111"),
                    HasSubstr("digest 2222"), HasSubstr("partition.kind to local")));
  violations.clear();
  all["c"] = Table({"p"}, {}, "2222");
  const auto agreed = Agree(Divided(), all, violations);
  ASSERT_TRUE(agreed.has_value());
  EXPECT_EQ(agreed->agreement.digest(), "2222");
  ASSERT_THAT(agreed->left_out, SizeIs(1));
  EXPECT_THAT(agreed->left_out.at("a"), HasSubstr("digest 2222"));
  EXPECT_THAT(Deviation(Divided(), *agreed, all["b"]), IsEmpty());
  EXPECT_THAT(Deviation(Divided(), *agreed, all["a"]), HasSubstr("digest 1111"));
}

TEST(AgreementTest, WorkersThatCannotUseTheDataSayWhy) {
  std::vector<config::Violation> violations;
  v1::DatasetInfo broken;
  broken.set_problem("line 3: expected a number");
  EXPECT_FALSE(Agree(Divided(), {{"a", broken}}, violations).has_value());
  EXPECT_THAT(violations[0].description, HasSubstr("a: line 3: expected a number"));
  violations.clear();
  const auto agreed = Agree(Divided(), {{"a", broken}, {"b", Table({"p"}, {}, "1")}}, violations);
  ASSERT_TRUE(agreed.has_value());
  EXPECT_EQ(agreed->left_out.at("a"), "line 3: expected a number");
}

TEST(AgreementTest, WordsAndMeansAreThoseOfAllSites) {
  v1::DataSpec data = Local();
  data.set_words(v1::DataSpec::WORDS_ONE_HOT);
  data.set_missing(v1::DataSpec::MISSING_MEAN);
  v1::DatasetInfo a = Table({"size", "color"}, {});
  a.mutable_columns(0)->set_sum(2);
  a.mutable_columns(0)->set_values(1);
  a.mutable_columns(1)->add_words("red");
  v1::DatasetInfo b = Table({"color", "size"}, {});
  b.mutable_columns(1)->set_sum(10);
  b.mutable_columns(1)->set_values(3);
  b.mutable_columns(0)->add_words("blue");
  std::vector<config::Violation> violations;
  const auto agreed = Agree(data, {{"a", a}, {"b", b}}, violations);
  ASSERT_TRUE(agreed.has_value());
  EXPECT_EQ(agreed->agreement.columns(0).mean(), 3);
  EXPECT_THAT(agreed->agreement.columns(1).words(), ElementsAre("blue", "red"));
  EXPECT_EQ(agreed->info.features(), 3);
}

TEST(AgreementTest, LateSiteWithAnUnknownClassTakesNoPart) {
  std::vector<config::Violation> violations;
  const auto agreed = Agree(Local(), {{"a", Table({"p"}, {"ant", "bee"})}}, violations);
  EXPECT_THAT(Deviation(Local(), *agreed, Table({"p"}, {"bee"})), IsEmpty());
  EXPECT_THAT(Deviation(Local(), *agreed, Table({"p"}, {"wasp"})),
              AllOf(HasSubstr("'wasp'"), HasSubstr("ant, bee")));
  EXPECT_THAT(Deviation(Local(), *agreed, Table({"p", "q"}, {"bee"})),
              HasSubstr("it has also the columns q"));
}

TEST(FillInTest, NumbersToBePredictedAreNoClasses) {
  v1::JobSpec spec;
  spec.mutable_model()->add_layers()->mutable_linear();
  v1::DatasetInfo info;
  info.set_features(2);
  info.set_train_examples(80);
  info.set_test_examples(20);
  std::vector<config::Violation> violations;
  for (const int classes : {100, 101}) {
    info.set_classes(classes);
    v1::JobSpec filled = spec;
    FillIn(info, filled, violations);
    EXPECT_EQ(violations.size(), classes - 100);
  }
  EXPECT_EQ(violations[0].field, "data.label_column");
  EXPECT_THAT(violations[0].description, HasSubstr("numbers up to 100 in 100 examples"));
  spec.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(200);
  FillIn(info, spec, violations);
  EXPECT_EQ(violations.size(), 1) << "meant so";
}

TEST(FillInTest, ATrainedModelSaysItsSizesUnlessTheJobHasLayers) {
  v1::JobSpec spec;
  spec.mutable_model()->set_pretrained("jobs/first");
  std::vector<config::Violation> violations;
  FillIn(Table({"p", "q"}, {"a", "b", "c"}), spec, violations);
  EXPECT_EQ(spec.model().input_features(), 0);
  spec.mutable_model()->add_layers()->mutable_linear();
  FillIn(Table({"p", "q"}, {"a", "b", "c"}), spec, violations);
  EXPECT_EQ(spec.model().input_features(), 2);
  EXPECT_EQ(spec.model().layers(0).linear().units(), 3);
  EXPECT_TRUE(violations.empty());
}

TEST(FillInTest, SizesThatTheDataSaysNeedNotBeTyped) {
  v1::JobSpec spec;
  spec.mutable_model()->add_layers()->mutable_linear()->set_units(5);
  spec.mutable_model()->add_layers()->mutable_linear();
  std::vector<config::Violation> violations;
  FillIn(Table({"p", "q"}, {"a", "b", "c"}), spec, violations);
  EXPECT_EQ(spec.model().input_features(), 2);
  EXPECT_EQ(spec.model().layers(0).linear().units(), 5);
  EXPECT_EQ(spec.model().layers(1).linear().units(), 3);
  v1::JobSpec recommender;
  recommender.mutable_model()->mutable_recommender();
  v1::DatasetInfo info;
  info.set_users(7);
  info.set_items(9);
  FillIn(info, recommender, violations);
  EXPECT_THAT(violations, IsEmpty());
  EXPECT_EQ(recommender.model().recommender().users(), 7);
  EXPECT_EQ(recommender.model().recommender().items(), 9);
}

}  // namespace
}  // namespace espalier::server::datasets
