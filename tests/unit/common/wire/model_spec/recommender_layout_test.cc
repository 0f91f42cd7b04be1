#include "common/wire/model_spec/recommender_layout.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::RecommenderSpec Parse(const std::string& text) {
  v1::RecommenderSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

std::vector<std::string> Describe(const std::vector<ModelTensor>& tensors) {
  std::vector<std::string> lines;
  for (const ModelTensor& tensor : tensors) {
    std::string line = tensor.spec.name;
    for (const int64_t dimension : tensor.spec.shape) line += " " + std::to_string(dimension);
    if (tensor.spec.sparsifiable) line += " sparsifiable";
    if (tensor.user_rows) line += " user_rows";
    lines.push_back(line);
  }
  return lines;
}

TEST(RecommenderLayoutTest, LightGcnIsTwoSparsifiableTables) {
  const auto tensors = RecommenderTensors(Parse("users: 5 items: 7 lightgcn {}")).value();
  EXPECT_THAT(Describe(tensors), ElementsAre("item_embeddings 7 64 sparsifiable",
                                             "user_embeddings 5 64 sparsifiable user_rows"));
  // Xavier's deviation for the table of users and items together.
  EXPECT_DOUBLE_EQ(tensors[0].deviation, std::sqrt(2.0 / (5 + 7 + 64)));
}

TEST(RecommenderLayoutTest, OnlyThePerceptronsTablesOfNeuMfAreSparsifiable) {
  const auto spec = Parse("users: 5 items: 7 neumf { dimensions: 4 hidden: 6 hidden: 3 }");
  EXPECT_THAT(
      Describe(RecommenderTensors(spec).value()),
      ElementsAre("gmf.item_embeddings 7 4", "mlp.item_embeddings 7 4 sparsifiable",
                  "mlp.0.weight 6 8", "mlp.0.bias 6", "mlp.1.weight 3 6", "mlp.1.bias 3",
                  "prediction.weight 1 7", "prediction.bias 1", "gmf.user_embeddings 5 4 user_rows",
                  "mlp.user_embeddings 5 4 sparsifiable user_rows"));
}

TEST(RecommenderLayoutTest, AllMatricesOfMultVaeAreSparsifiable) {
  const auto spec = Parse("users: 5 items: 7 multvae { hidden: 6 latent: 2 }");
  EXPECT_THAT(Describe(RecommenderTensors(spec).value()),
              ElementsAre("encoder.items 7 6 sparsifiable", "encoder.items.bias 6",
                          "encoder.latent 4 6 sparsifiable", "encoder.latent.bias 4",
                          "decoder.hidden 6 2 sparsifiable", "decoder.hidden.bias 6",
                          "decoder.items 7 6 sparsifiable", "decoder.items.bias 7"));
  EXPECT_THAT(UserTensors(spec, 3).value(), IsEmpty());
}

TEST(RecommenderLayoutTest, TheTablesOfAutoIntAreSparsifiable) {
  const auto spec =
      Parse("users: 5 items: 7 autoint { dimensions: 4 layers: 2 units: 6 fields { values: 3 } }");
  EXPECT_THAT(
      Describe(RecommenderTensors(spec).value()),
      ElementsAre("item_embeddings 7 4 sparsifiable", "fields.0.embeddings 3 4 sparsifiable",
                  "attention.0.weight 24 4", "attention.1.weight 24 6", "output.weight 1 18",
                  "output.bias 1", "user_embeddings 5 4 sparsifiable user_rows"));
}

TEST(RecommenderLayoutTest, PrivateUsersAreNotPartOfTheModelThatIsSent) {
  const auto spec = Parse("users: 5 items: 7 private_users: true lightgcn { dimensions: 2 }");
  EXPECT_THAT(Describe(RecommenderTensors(spec).value()),
              ElementsAre("item_embeddings 7 2 sparsifiable"));
  EXPECT_THAT(Describe(UserTensors(spec, 3).value()),
              ElementsAre("user_embeddings 3 2 sparsifiable user_rows"));
}

TEST(RecommenderLayoutTest, DefaultsAreThoseOfTheProtocolAndStay) {
  const auto spec = ExplicitRecommender(Parse("users: 5 items: 7 neumf { dropout: 0 }"));
  EXPECT_EQ(spec.neumf().dimensions(), 16);
  EXPECT_THAT(spec.neumf().hidden(), ElementsAre(32, 16, 8));
  EXPECT_EQ(spec.neumf().dropout(), 0);
  EXPECT_EQ(spec.neumf().negatives(), 4);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(ExplicitRecommender(spec), spec));
  const auto vae = ExplicitRecommender(Parse("users: 5 items: 7 multvae {}")).multvae();
  EXPECT_EQ(vae.anneal_steps(), 200'000);
  EXPECT_EQ(vae.kl_weight(), 0.2);
}

TEST(RecommenderLayoutTest, ARecommenderWithoutKindIsRefused) {
  EXPECT_EQ(base::ReasonOf(RecommenderTensors(Parse("users: 5 items: 7")).status()),
            "UNKNOWN_MODEL");
}

}  // namespace
}  // namespace espalier::wire
