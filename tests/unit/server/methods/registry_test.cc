#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>

#include "common/base/status.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;

// What the files of the catalog are called, in order.
std::vector<std::string> CatalogFiles() {
  const char* source = std::getenv("ESPALIER_SOURCE_DIR");
  const std::filesystem::path root = source == nullptr ? "." : source;
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(root / "server/methods/catalog")) {
    if (entry.path().extension() != ".cc") continue;
    names.push_back(entry.path().stem());
    std::ranges::replace(names.back(), '_', '-');
  }
  std::ranges::sort(names);
  return names;
}

TEST(MethodRegistryTest, EveryFileOfTheCatalogIsTheMethodOfItsName) {
  const std::vector<std::string> names = MethodRegistry::Builtin().names();
  EXPECT_THAT(names, ElementsAreArray(CatalogFiles()));
  EXPECT_THAT(names, IsSupersetOf({"dense", "set", "rigl", "fedtiny", "essential-sparsity"}));
}

TEST(MethodRegistryTest, ParameterOfSeveralMethodsHasOneWordingAndRange) {
  std::map<std::string, config::Parameter> first;
  const MethodRegistry registry = MethodRegistry::Builtin();
  for (const MethodDeclaration& method : registry.all()) {
    for (const config::Parameter& parameter : method.parameters) {
      const std::string& name = parameter.name;
      if (name != "stop_round" && name != "candidate_slack" && name != "growth_batches" &&
          name != "top_k" && name != "update_every") {
        continue;
      }
      const config::Parameter& known = first.try_emplace(name, parameter).first->second;
      EXPECT_EQ(parameter.min, known.min) << method.name << " " << name;
      EXPECT_EQ(parameter.max, known.max) << method.name << " " << name;
      if (name == "update_every") {
        EXPECT_THAT(parameter.doc, testing::StartsWith("Rounds between two ")) << method.name;
      } else {
        EXPECT_EQ(parameter.doc, known.doc) << method.name << " " << name;
      }
    }
  }
  EXPECT_EQ(first.size(), 5U);
}

TEST(MethodRegistryTest, UnknownMethodNamesTheNearestAndAllKnown) {
  const auto violations = Violations(SmallJob("riggl"));
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "method.name");
  EXPECT_THAT(violations[0].description, HasSubstr("did you mean \"rigl\""));
  EXPECT_THAT(violations[0].description, HasSubstr("dense, dsl, dsnot, echo"));
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
