#include "common/config/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace espalier::config {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

ParameterSchema Schema() {
  return {
      {.name = "density",
       .default_value = 0.1,
       .doc = "Active weights / weights.",
       .min = 0,
       .max = 1,
       .min_exclusive = true,
       .choices = {}},
      {.name = "interval", .default_value = int64_t{1}, .doc = "Rounds.", .min = 1, .choices = {}},
      {.name = "signed", .default_value = true, .doc = "By sign.", .choices = {}},
      {.name = "growth",
       .default_value = std::string("random"),
       .doc = "Rule.",
       .choices = {"random", "gradient"}},
  };
}

using Given = google::protobuf::Map<std::string, v1::Value>;

v1::Value Double(double value) {
  v1::Value result;
  result.set_double_value(value);
  return result;
}
v1::Value Int(int64_t value) {
  v1::Value result;
  result.set_int_value(value);
  return result;
}
v1::Value Text(const std::string& value) {
  v1::Value result;
  result.set_string_value(value);
  return result;
}

TEST(ParametersTest, AbsentParametersTakeTheirDefaults) {
  std::vector<Violation> violations;
  const Parameters parameters = Resolve(Schema(), Given(), "p", violations);
  EXPECT_THAT(violations, IsEmpty());
  EXPECT_EQ(parameters.Double("density"), 0.1);
  EXPECT_EQ(parameters.Int("interval"), 1);
  EXPECT_TRUE(parameters.Bool("signed"));
  EXPECT_EQ(parameters.Choice("growth"), "random");
}

TEST(ParametersTest, WholeNumberServesWhereANumberIsDeclared) {
  Given given;
  given["density"] = Int(1);
  std::vector<Violation> violations;
  const Parameters parameters = Resolve(Schema(), given, "p", violations);
  EXPECT_THAT(violations, IsEmpty());
  EXPECT_EQ(parameters.Double("density"), 1.0);
}

TEST(ParametersTest, FractionIsRefusedWhereAWholeNumberIsDeclared) {
  Given given;
  given["interval"] = Double(1.5);
  std::vector<Violation> violations;
  Resolve(Schema(), given, "p", violations);
  ASSERT_THAT(violations, SizeIs(1));
  EXPECT_EQ(violations[0].description, "expected a whole number, found 1.5");
}

TEST(ParametersTest, EveryMistakeIsReportedWithItsPath) {
  Given given;
  given["density"] = Double(2);
  given["intervall"] = Int(3);
  given["signed"] = Text("yes");
  given["growth"] = Text("gradiant");
  std::vector<Violation> violations;
  Resolve(Schema(), given, "method.parameters", violations);
  EXPECT_THAT(violations,
              ElementsAre(Field(&Violation::field, "method.parameters.density"),
                          Field(&Violation::field, "method.parameters.signed"),
                          Field(&Violation::description, HasSubstr("did you mean \"gradient\"?")),
                          Field(&Violation::description, HasSubstr("did you mean \"interval\"?"))));
  EXPECT_EQ(violations[0].description, "must be 0 < x ≤ 1, found 2");
}

TEST(ParametersTest, ExclusiveBoundAndNotANumberAreRefused) {
  for (const double value : {0.0, -0.1, std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity()}) {
    Given given;
    given["density"] = Double(value);
    std::vector<Violation> violations;
    Resolve(Schema(), given, "p", violations);
    EXPECT_THAT(violations, SizeIs(1)) << value;
  }
}

TEST(ParametersTest, DeclarationBecomesTheApisForm) {
  const ParameterSchema schema = Schema();
  const v1::MethodParameter density = ToProto(schema[0]);
  EXPECT_EQ(density.type(), v1::MethodParameter::TYPE_DOUBLE);
  EXPECT_EQ(density.range(), "0 < x ≤ 1");
  EXPECT_EQ(density.default_value().double_value(), 0.1);
  EXPECT_EQ(ToProto(schema[1]).range(), "x ≥ 1");
  EXPECT_EQ(ToProto(schema[2]).range(), "true or false");
  EXPECT_THAT(ToProto(schema[3]).choices(), ElementsAre("random", "gradient"));
}

TEST(NearestTest, TypingSlipsAreRecognised) {
  const std::vector<std::string> known = {"density", "zeta", "epsilon", "local_epochs"};
  EXPECT_EQ(Nearest("densty", known), "density");
  EXPECT_EQ(Nearest("desnity", known), "density");
  EXPECT_EQ(Nearest("Zeta", known), "zeta");
  EXPECT_EQ(Nearest("local-epochs", known), "local_epochs");
}

TEST(NearestTest, OtherWordsAreNotTakenForSlips) {
  const std::vector<std::string> known = {"density", "zeta"};
  EXPECT_EQ(Nearest("momentum", known), "");
  EXPECT_EQ(Nearest("", known), "");
  EXPECT_EQ(Nearest(std::string(100'000, 'd'), known), "");
}

}  // namespace
}  // namespace espalier::config
