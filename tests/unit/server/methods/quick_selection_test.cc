#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "common/wire/model_spec/model_spec.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// 5 – 4 – 5.
v1::JobSpec SelectionJob() {
  v1::JobSpec spec = SmallJob("quick-selection");
  spec.clear_model();
  spec.mutable_model()->set_input_features(5);
  AddLayer(spec, 4, v1::ACTIVATION_SIGMOID);
  AddLayer(spec, 5, v1::ACTIVATION_LINEAR);
  spec.mutable_data()->set_target(v1::DataSpec::TARGET_INPUT);
  spec.mutable_federation()->set_rounds(1);
  SetDouble(spec, "density", 0.5);
  SetWord(spec, "distribution", "uniform");
  SetInt(spec, "features", 2);
  return spec;
}

// What the job tells when its last round's training has come to these weights of the first layer, in the order in which they
// are stored; all others are 0.
struct Told {
  std::vector<v1::FeatureStrength> features;
  std::vector<int32_t> columns;
};
Told After(const v1::JobSpec& spec, const std::vector<float>& first) {
  const auto program = Make(spec);
  Transition transition = program->Start().value();
  const tensor::ModelState& model = transition.state.model;
  Told told;
  const auto columns = model.topology->topology(0).columns();
  told.columns.assign(columns.begin(), columns.end());
  reduce::Reduced trained;
  trained.examples = 10;
  trained.participants = 1;
  auto& values = trained.sections[v1::SECTION_KIND_VALUES];
  values.assign(model.values.size(), 0.0F);
  std::ranges::copy(first, values.begin());
  transition = program->Next(transition.state, trained).value();
  while (transition.state.step.has_value()) {
    reduce::Reduced evaluated;
    evaluated.examples = 10;
    transition = program->Next(transition.state, evaluated).value();
  }
  told.features = transition.features;
  return told;
}

// Ten weights: the weakest positive and negative ones go, each by their share.
TEST(QuickSelectionTest, StrengthIsTheSumOfMagnitudesThatTheRemovalLeaves) {
  v1::JobSpec spec = SelectionJob();
  SetDouble(spec, "zeta", 0.34);
  const std::vector<float> weights = {.9F, -.2F, .1F, .8F, -.5F, .3F, -.7F, .6F, .2F, .4F};
  const std::vector<bool> removed = {false, true,  true,  false, false,
                                     false, false, false, true,  false};
  const Told told = After(spec, weights);
  ASSERT_EQ(told.columns.size(), weights.size());
  // Seven positive weights lose ⌊0.34 · 7⌋ = 2, three negative ones ⌊0.34 · 3⌋ = 1.
  std::map<int64_t, double> expected;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (!removed[i]) expected[told.columns[i]] += std::abs(static_cast<double>(weights[i]));
  }
  ASSERT_EQ(told.features.size(), 5u);
  double before = 1e9;
  for (const v1::FeatureStrength& feature : told.features) {
    EXPECT_DOUBLE_EQ(feature.strength(), expected[feature.index()]);
    EXPECT_LE(feature.strength(), before);
    before = feature.strength();
  }
  EXPECT_TRUE(told.features[0].selected());
  EXPECT_TRUE(told.features[1].selected());
  EXPECT_FALSE(told.features[2].selected());
}

// With remove_only the removal has happened when strengths are taken.
TEST(QuickSelectionTest, WhatWasRemovedIsNotRemovedTwice) {
  v1::JobSpec spec = SelectionJob();
  SetDouble(spec, "zeta", 0.34);
  const std::vector<float> weights = {.9F, -.2F, .1F, .8F, -.5F, .3F, -.7F, .6F, .2F, .4F};
  const Told told = After(spec, weights);
  SetWord(spec, "final_step", "remove_only");
  const Told removed = After(spec, weights);
  ASSERT_EQ(told.features.size(), removed.features.size());
  for (size_t i = 0; i < told.features.size(); ++i) {
    EXPECT_EQ(told.features[i].SerializeAsString(), removed.features[i].SerializeAsString());
  }
}

TEST(QuickSelectionTest, EqualFeaturesComeInTheirOrder) {
  const Told told = After(SelectionJob(), std::vector<float>(10, 0.0F));
  std::vector<int64_t> order;
  order.reserve(told.features.size());
  for (const v1::FeatureStrength& feature : told.features) order.push_back(feature.index());
  EXPECT_THAT(order, ElementsAre(0, 1, 2, 3, 4));
}

TEST(QuickSelectionTest, OnlyTheEndTells) {
  v1::JobSpec spec = SelectionJob();
  spec.mutable_federation()->set_rounds(3);
  const test::JobTrace trace = Trace(spec);
  for (size_t i = 0; i + 1 < trace.transitions.size(); ++i) {
    EXPECT_THAT(trace.transitions[i].features, IsEmpty());
  }
  EXPECT_EQ(trace.transitions.back().features.size(), 5u);
}

TEST(QuickSelectionTest, IsSetWithOtherDefaults) {
  v1::JobSpec selection = SelectionJob();
  v1::JobSpec set = selection;
  set.mutable_method()->set_name("set");
  set.mutable_method()->mutable_parameters()->erase("features");
  SetDouble(set, "zeta", 0.2);
  for (v1::JobSpec* spec : {&selection, &set}) spec->mutable_federation()->set_rounds(5);
  EXPECT_EQ(Trace(selection).final_state.model.values, Trace(set).final_state.model.values);
}

TEST(QuickSelectionTest, WhatIsNoSparseAutoencoderIsRefused) {
  EXPECT_EQ(RefusedField(SelectionJob()), "");
  v1::JobSpec classes = SelectionJob();
  classes.mutable_data()->clear_target();
  EXPECT_EQ(RefusedField(classes), "data.target");
  v1::JobSpec pooled = SelectionJob();
  pooled.mutable_model()->mutable_layers(0)->mutable_batch_norm();
  EXPECT_EQ(RefusedField(pooled), "model.layers[0]");
  v1::JobSpec dense = SelectionJob();
  dense.mutable_model()->mutable_layers(0)->mutable_linear()->set_dense(true);
  EXPECT_EQ(RefusedField(dense), "model.layers[0]");
  v1::JobSpec many = SelectionJob();
  SetInt(many, "features", 6);
  EXPECT_EQ(RefusedField(many), "method.parameters.features");
  EXPECT_EQ(RefusedField(ConvJob("quick-selection")), "method.name");
}

}  // namespace
}  // namespace espalier::server::methods
