#include "common/config/well_formed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "espalier/v1/job.pb.h"

namespace espalier::config {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<std::string> Oversized(const v1::JobSpec& spec) {
  std::vector<Violation> violations;
  const bool ok = CheckSizes(spec, Checker(violations));
  EXPECT_EQ(ok, violations.empty());
  std::vector<std::string> fields;
  for (const Violation& violation : violations) fields.push_back(violation.field);
  return fields;
}

std::vector<std::string> Senseless(const v1::JobSpec& spec,
                                   std::vector<Violation> violations = {}) {
  CheckValues(spec, violations);
  std::vector<std::string> fields;
  for (const Violation& violation : violations) fields.push_back(violation.field);
  return fields;
}

TEST(WellFormedTest, TextsOfAThousandBytesAreAllowed) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset(std::string(1000, 'x'));
  EXPECT_THAT(Oversized(spec), IsEmpty());
  spec.mutable_data()->set_dataset(std::string(1001, 'x'));
  EXPECT_THAT(Oversized(spec), ElementsAre("data.dataset"));
}

TEST(WellFormedTest, TextsOfParametersAreBoundedToo) {
  v1::JobSpec spec;
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters["drop"].set_string_value(std::string(2000, 'x'));
  EXPECT_THAT(Oversized(spec), ElementsAre("method.parameters.drop.value.string_value"));
}

TEST(WellFormedTest, ListsOfNumbersMayBeLongerThanListsOfMessages) {
  v1::JobSpec spec;
  for (int i = 0; i < 1001; ++i) spec.mutable_data()->add_channel_mean(0);
  EXPECT_THAT(Oversized(spec), IsEmpty());
  for (int i = 0; i < 100'000; ++i) spec.mutable_data()->add_channel_mean(0);
  for (int i = 0; i < 1001; ++i) spec.mutable_model()->add_layers();
  EXPECT_THAT(Oversized(spec), ElementsAre("model.layers", "data.channel_mean"));
}

TEST(WellFormedTest, MessagesInAllAndWithinEachOtherAreBounded) {
  v1::JobSpec wide;
  for (int i = 0; i < 900; ++i) {
    auto& residual = *wide.mutable_model()->add_layers()->mutable_residual();
    for (int k = 0; k < 900; ++k) residual.add_body();
  }
  EXPECT_EQ(Oversized(wide).size(), 1u);
  v1::JobSpec deep;
  v1::Layer* layer = deep.mutable_model()->add_layers();
  for (int i = 0; i < 30; ++i) layer = layer->mutable_residual()->add_body();
  EXPECT_EQ(Oversized(deep).size(), 1u);
}

TEST(WellFormedTest, NumbersThatAreNotFiniteAndUnknownWordsAreFoundInEveryField) {
  v1::JobSpec spec;
  spec.mutable_data()->add_channel_std(1);
  spec.mutable_data()->add_channel_std(std::numeric_limits<double>::infinity());
  spec.mutable_model()->set_dropout_scaling(static_cast<v1::DropoutScaling>(7));
  spec.mutable_model()->add_layers()->mutable_linear()->set_dropout(
      std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(Senseless(spec),
              ElementsAre("model.dropout_scaling", "model.layers[0].linear.dropout",
                          "data.channel_std[1]"));
}

TEST(WellFormedTest, WhatIsReportedAlreadyIsNotReportedAgain) {
  v1::JobSpec spec;
  spec.mutable_federation()->set_quorum(std::numeric_limits<double>::quiet_NaN());
  EXPECT_THAT(Senseless(spec, {{"federation.quorum", "must be 0 < x ≤ 1, found nan"}}),
              ElementsAre("federation.quorum"));
}

}  // namespace
}  // namespace espalier::config
