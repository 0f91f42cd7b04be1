#include "common/config/validate_recommender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/config/job_file.h"
#include "common/config/validate.h"

namespace espalier::config {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kJob[] = R"(
model: {recommender: {users: 50, items: 70, lightgcn: {}}}
data: {dataset: ratings, partition: {kind: users, shards: 3}}
method: {name: static, parameters: {density: 0.2}}
training: {optimizer: {kind: adam, learning_rate: 0.01}}
federation: {rounds: 10}
)";

v1::JobSpec Job(const std::string& override = "") {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
  if (!override.empty()) ApplyOverride(override, spec, violations);
  EXPECT_THAT(violations, IsEmpty()) << override;
  return spec;
}

TEST(ValidateRecommenderTest, ARecommenderIsValidBeforeAndAfterDefaults) {
  for (const char* model :
       {"", "model.recommender={users: 5, items: 9, neumf: {hidden: [4]}}",
        "model.recommender={users: 5, items: 9, multvae: {latent: 3}}",
        "model.recommender={users: 5, items: 9, autoint: {}}",
        "model.recommender.private_users=true", "training.optimizer.lazy_rows=true"}) {
    v1::JobSpec spec = Job(model);
    EXPECT_THAT(ValidateJobSpec(spec), IsEmpty()) << model;
    ApplyDefaults(spec);
    EXPECT_THAT(ValidateJobSpec(spec), IsEmpty()) << model;
  }
}

TEST(ValidateRecommenderTest, MistakesAreReportedWhereTheyAre) {
  const struct {
    const char* override;
    const char* field;
    const char* expected;
  } kCases[] = {
      {"model.recommender.users=0", "model.recommender.users", "found 0"},
      {"model.recommender.items=1", "model.recommender.items", "2..100,000,000"},
      {"model.recommender={users: 5, items: 9}", "model.recommender.lightgcn", "needs a kind"},
      {"model.recommender.lightgcn.layers=9", "model.recommender.lightgcn.layers", "0..8"},
      {"model.recommender.lightgcn.l2=-1", "model.recommender.lightgcn.l2", "x ≥ 0"},
      {"model.recommender.lightgcn.dimensions=5000", "model.recommender.lightgcn.dimensions",
       "1..4,096"},
      {"model.recommender={users: 5, items: 9, neumf: {hidden: [4, 0]}}",
       "model.recommender.neumf.hidden[1]", "found 0"},
      {"model.recommender={users: 5, items: 9, neumf: {dropout: 1}}",
       "model.recommender.neumf.dropout", "0 ≤ x < 1"},
      {"model.recommender={users: 5, items: 9, neumf: {negatives: 101}}",
       "model.recommender.neumf.negatives", "1..100"},
      {"model.recommender={users: 5, items: 9, multvae: {anneal_steps: -1}}",
       "model.recommender.multvae.anneal_steps", "found -1"},
      {"model.recommender={users: 5, items: 9, autoint: {heads: 3}}",
       "model.recommender.autoint.units", "multiple of heads (3), found 64"},
      {"model.recommender={users: 5, items: 9, autoint: {fields: [{name: age, values: 0}]}}",
       "model.recommender.autoint.fields[0].values", "found 0"},
      {"model.recommender={users: 5, items: 9, autoint: {fields: [{values: 2}]}}",
       "model.recommender.autoint.fields[0].name", "column of the data set"},
      {"model.recommender={users: 5, items: 9, private_users: true, multvae: {}}",
       "model.recommender.private_users", "no rows of users"},
      {"model.recommender={users: 100000000, items: 9, lightgcn: {dimensions: 4096}}",
       "model.recommender", "lower density"},
      {"model.input_features=3", "model.input_features", "does not go with a recommender"},
      {"model.name=resnet8", "model.name", "does not go with a recommender"},
  };
  for (const auto& bad : kCases) {
    EXPECT_THAT(ValidateJobSpec(Job(bad.override)),
                Contains(AllOf(Field(&Violation::field, bad.field),
                               Field(&Violation::description, HasSubstr(bad.expected)))))
        << bad.override;
  }
}

}  // namespace
}  // namespace espalier::config
