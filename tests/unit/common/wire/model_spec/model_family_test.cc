#include "common/wire/model_spec/families/model_family.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <set>

namespace espalier::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::ModelSpec Parse(const std::string& text) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec)) << text;
  return spec;
}

TEST(ModelFamilyTest, SpecBelongsToTheFamilyOfWhatDescribesIt) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "mlp"},
      {"layers { linear { units: 2 } }", "mlp"},
      {"pretrained: 'checkpoints/a-1' layers { linear { units: 2 } }", "mlp"},
      {"layers { residual { body { conv2d { channels: 2 } } } }", "cnn"},
      {"name: 'resnet8'", "cnn"},
      {"transformer { hidden: 8 }", "transformer"},
      {"pretrained: 'tiny' transformer { dense_attention: true }", "transformer"},
      {"pretrained: 'tiny'", "language-model"},
      {"recommender { lightgcn {} }", "lightgcn"},
      {"recommender { neumf {} }", "neumf"},
      {"recommender { multvae {} }", "multvae"},
      {"recommender { autoint {} }", "autoint"},
      {"recommender { users: 3 }", "recommender"}};
  for (const auto& [text, word] : cases) EXPECT_EQ(FamilyOf(Parse(text)).word(), word) << text;
}

TEST(ModelFamilyTest, EachFamilyIsListedOnceByItsWord) {
  std::set<std::string> words;
  for (const ModelFamily* family : ModelFamilies()) words.insert(family->word());
  EXPECT_EQ(words.size(), 8U);
  EXPECT_EQ(ModelFamilies().size(), 8U);
  EXPECT_FALSE(words.contains("recommender"));
}

TEST(ModelFamilyTest, LanguageModelInPartsIsATransformerToTraining) {
  const ModelFamily& parts = FamilyOf(Parse("pretrained: 'tiny'"));
  EXPECT_FALSE(parts.Offers(ModelNeed::kTraining));
  EXPECT_STREQ(parts.WhenTrained().word(), "transformer");
  const auto tensors = parts.Tensors(Parse("pretrained: 'tiny'"));
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  EXPECT_THAT(*tensors, IsEmpty());
}

TEST(ModelFamilyTest, OutputsAreNamedByTheFamily) {
  v1::DataSpec data;
  data.mutable_agreement()->add_classes("cat");
  const v1::ModelSpec layers = Parse("layers { linear { units: 2 } }");
  EXPECT_EQ(FamilyOf(layers).Outputs(layers), 2);
  EXPECT_THAT(FamilyOf(layers).OutputNames(layers, data), ElementsAre("cat", "1"));
  const v1::ModelSpec recommender = Parse("recommender { neumf {} }");
  EXPECT_EQ(FamilyOf(recommender).Outputs(recommender), 1);
  EXPECT_EQ(FamilyOf(recommender).Classes(recommender), 0);
  EXPECT_THAT(FamilyOf(recommender).OutputNames(recommender, data), ElementsAre("score"));
  const v1::ModelSpec transformer = Parse("transformer { vocabulary: 256 }");
  EXPECT_EQ(FamilyOf(transformer).Outputs(transformer), 256);
  EXPECT_THAT(FamilyOf(transformer).OutputNames(transformer, data), IsEmpty());
}

TEST(ModelFamilyTest, ExampleOfAnotherFamilyIsRefused) {
  v1::Example values;
  values.add_values(1);
  v1::Example tokens;
  tokens.add_tokens(7);
  v1::Example pair;
  pair.set_user("u");
  pair.set_item("i");
  const ModelFamily& layers = FamilyOf(Parse("layers { linear { units: 2 } }"));
  const ModelFamily& transformer = FamilyOf(Parse("transformer {}"));
  const ModelFamily& recommender = FamilyOf(Parse("recommender { neumf {} }"));
  EXPECT_TRUE(layers.CheckExample(values).ok());
  EXPECT_FALSE(layers.CheckExample(tokens).ok());
  EXPECT_FALSE(layers.CheckExample(pair).ok());
  EXPECT_TRUE(transformer.CheckExample(tokens).ok());
  EXPECT_FALSE(transformer.CheckExample(values).ok());
  EXPECT_TRUE(recommender.CheckExample(pair).ok());
  pair.clear_item();
  EXPECT_FALSE(recommender.CheckExample(pair).ok());
}

}  // namespace
}  // namespace espalier::wire
