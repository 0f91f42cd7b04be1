#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(MethodRegistryTest, HoldsTheBuiltinMethods) {
  EXPECT_THAT(MethodRegistry::Builtin().names(),
              ElementsAre("dense", "static", "set", "rigl", "dsl", "fedtiny", "fedmef", "feddst",
                          "gmp", "prunefl", "snip", "synflow", "echo", "magnitude", "wanda",
                          "sparsegpt", "dsnot", "essential-sparsity"));
}

TEST(MethodRegistryTest, UnknownMethodNamesTheNearestAndAllKnown) {
  const auto violations = Violations(SmallJob("riggl"));
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "method.name");
  EXPECT_THAT(violations[0].description, HasSubstr("did you mean \"rigl\""));
  EXPECT_THAT(violations[0].description, HasSubstr("dense, static, set, rigl"));
}

TEST(MethodRegistryTest, MissingMethodIsRequired) {
  const auto violations = Violations(SmallJob(""));
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_THAT(violations[0].description, HasSubstr("required"));
}

TEST(MethodRegistryTest, AllParameterMistakesAreReportedAtOnce) {
  v1::JobSpec spec = SmallJob("set");
  SetDouble(spec, "zeta", 1.5);
  SetDouble(spec, "desnity", 0.1);
  SetWord(spec, "drop", "sgned");
  EXPECT_EQ(Violations(spec).size(), 3u);
}

TEST(MethodRegistryTest, ParameterThatWouldBeIgnoredIsRefused) {
  v1::JobSpec spec = SmallJob("set");
  SetWord(spec, "distribution", "set_epsilon");
  SetDouble(spec, "density", 0.1);
  ASSERT_EQ(Violations(spec).size(), 1u);
  EXPECT_EQ(Violations(spec)[0].field, "method.parameters.density");
  spec = SmallJob("static");
  SetWord(spec, "distribution", "uniform");
  SetDouble(spec, "epsilon", 3);
  ASSERT_EQ(Violations(spec).size(), 1u);
  EXPECT_EQ(Violations(spec)[0].field, "method.parameters.epsilon");
}

TEST(MethodRegistryTest, ModelWithoutSparsifiableLayersIsRefusedForSparseMethods) {
  v1::JobSpec spec = SmallJob("rigl");
  for (v1::Layer& layer : *spec.mutable_model()->mutable_layers()) {
    layer.mutable_linear()->set_dense(true);
  }
  ASSERT_EQ(Violations(spec).size(), 1u);
  EXPECT_THAT(Violations(spec)[0].description, HasSubstr("use method dense"));
  spec.mutable_method()->set_name("dense");
  EXPECT_TRUE(Violations(spec).empty());
}

TEST(MethodRegistryTest, MakeRefusesWhatValidateRefuses) {
  v1::JobSpec spec = SmallJob("static");
  SetDouble(spec, "density", 0);
  const auto program = MethodRegistry::Builtin().Make(spec);
  EXPECT_EQ(base::ReasonOf(program.status()), "INVALID_JOB");
  EXPECT_THAT(base::MessageOf(program.status()), HasSubstr("method.parameters.density"));
}

TEST(MethodRegistryTest, MakeRefusesAModelWithoutLayers) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_model()->clear_layers();
  EXPECT_EQ(base::ReasonOf(MethodRegistry::Builtin().Make(spec).status()), "NO_LAYERS");
  spec.mutable_model()->add_layers();
  EXPECT_EQ(base::ReasonOf(MethodRegistry::Builtin().Make(spec).status()), "UNKNOWN_LAYER");
}

}  // namespace
}  // namespace espalier::server::methods
