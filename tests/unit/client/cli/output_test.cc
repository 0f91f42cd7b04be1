#include "client/cli/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "absl/time/clock.h"
#include "client/cli/format.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/method.pb.h"

namespace espalier::cli {
namespace {

v1::Method SomeMethod() {
  v1::Method method;
  method.set_name("set");
  method.set_summary("a \"quoted\" word");
  v1::MethodParameter& parameter = *method.add_parameters();
  parameter.set_name("zeta");
  parameter.set_type(v1::MethodParameter::TYPE_DOUBLE);
  parameter.mutable_default_value()->set_double_value(0.3);
  parameter.add_choices("x");
  return method;
}

TEST(YamlTest, NestingAndQuotesAreKept) {
  EXPECT_EQ(ToYaml(SomeMethod()), R"(name: "set"
summary: "a \"quoted\" word"
source: ""
parameters:
  - name: "zeta"
    type: "DOUBLE"
    default_value: 0.3
    range: ""
    doc: ""
    choices:
      - "x"
dense_capable_workers: false
families: []
)");
}

TEST(TableTest, TerminalGetsAlignedColumnsUnderAHeader) {
  Table table({{"NAME"}, {"SIZE", true}});
  table.Add({"ä", "10 kB"});
  table.Add({"long name", "1 B"});
  std::ostringstream out;
  table.Print(out, {.is_tty = true, .color = false, .columns = 80});
  EXPECT_EQ(out.str(),
            "NAME        SIZE\n"
            "ä          10 kB\n"
            "long name    1 B\n");
}

Table WorkersTable() {
  Table table(
      {{"NAME"}, {"DONE", true, 1}, {"VERSION", false, 2}, {.title = "DATA", .wrap = true}});
  table.Add({"workers/a", "12", "0.1.0", "digits, mnist, cifar10, fashion-mnist"});
  table.Add({"workers/b", "3", "0.1.0", "one,two"});
  return table;
}

TEST(TableTest, TextIsWrappedBetweenWords) {
  std::ostringstream out;
  WorkersTable().Print(out, {.is_tty = true, .columns = 46});
  EXPECT_EQ(out.str(),
            "NAME       DONE  VERSION  DATA\n"
            "workers/a    12  0.1.0    digits, mnist,\n"
            "                          cifar10,\n"
            "                          fashion-mnist\n"
            "workers/b     3  0.1.0    one,two\n");
}

TEST(TableTest, WhatMattersLeastGoesFirst) {
  std::ostringstream out;
  WorkersTable().Print(out, {.is_tty = true, .columns = 34});
  EXPECT_EQ(out.str(),
            "NAME       DONE  DATA\n"
            "workers/a    12  digits, mnist,\n"
            "                 cifar10,\n"
            "                 fashion-mnist\n"
            "workers/b     3  one,two\n");
}

TEST(TableTest, NothingFitsEverywhereAndNamesStayWhole) {
  for (int columns = 1; columns < 80; ++columns) {
    std::ostringstream out;
    WorkersTable().Print(out, {.is_tty = true, .columns = columns});
    EXPECT_THAT(out.str(), testing::HasSubstr("workers/a")) << columns;
    std::istringstream lines(out.str());
    for (std::string line; std::getline(lines, line);) {
      EXPECT_LE(Columns(line), std::max(columns, 27)) << line;
    }
  }
}

TEST(TableTest, ColumnsWithoutAValueAreLeftOut) {
  Table table({{"ROUND", true}, {"LOSS", true, 1}, {"BYTES", true, 1}});
  table.Add({"1", "-", "-"});
  table.Add({"2", "-", "5 kB"});
  std::ostringstream out;
  table.Print(out, {.is_tty = true});
  EXPECT_EQ(out.str(), "ROUND  BYTES\n    1      -\n    2   5 kB\n");
}

TEST(FieldsTest, LongValuesAreWrapped) {
  std::ostringstream out;
  PrintFields(out, {.is_tty = true, .columns = 30},
              {{"state", "FAILED"}, {"message", "no worker offers the data set digits"}});
  EXPECT_EQ(out.str(),
            "state    FAILED\n"
            "message  no worker offers the\n"
            "         data set digits\n");
}

TEST(FieldsTest, NoPartOfAForeignValueLooksLikeALine) {
  std::ostringstream out;
  PrintFields(out, {.is_tty = true, .columns = 30},
              {{"message", "an error\nstate FAILED state FAILED"}});
  EXPECT_EQ(out.str(),
            "message  an error\\nstate\n"
            "         > FAILED state FAILED\n");
}

TEST(TableTest, PipeGetsTabsWithoutHeader) {
  Table table({{"NAME"}, {"TEXT"}});
  table.Add({"a", "with\ttab and\nline"});
  std::ostringstream out;
  table.Print(out, {});
  EXPECT_EQ(out.str(), "a\twith\\ttab and\\nline\n");
}

TEST(TableTest, CellsAreEscapedBeforeWidthsAreComputedAndCutWhenTheyAreLong) {
  Table table({{"NAME"}, {"SIZE"}});
  table.Add({"a\x1b[2J\nb", "1"});
  table.Add({"\xE2\x80\xAE", "2"});
  std::ostringstream out;
  table.Print(out, {.is_tty = true, .color = false, .columns = 80});
  EXPECT_EQ(out.str(),
            "NAME         SIZE\n"
            "a\\x1b[2J\\nb  1\n"
            "\\u202e       2\n");
  Table long_table({{"TEXT"}});
  long_table.Add({std::string(1'000'000, 'x')});
  for (const bool is_tty : {true, false}) {
    std::ostringstream cut;
    long_table.Print(cut, {.is_tty = is_tty});
    EXPECT_LT(cut.str().size(), 5000u);
    EXPECT_NE(cut.str().find("…"), std::string::npos);
  }
}

TEST(FieldsTest, ValuesAreEscaped) {
  for (const bool is_tty : {true, false}) {
    std::ostringstream out;
    PrintFields(out, {.is_tty = is_tty}, {{"name", "a\nstate  SUCCEEDED\x07"}});
    EXPECT_EQ(out.str().find("\nstate"), std::string::npos);
    EXPECT_NE(out.str().find("a\\nstate  SUCCEEDED\\x07\n"), std::string::npos);
  }
}

TEST(JsonTest, WhatSteersATerminalIsEscaped) {
  v1::Method method;
  method.set_name("\xC2\x9B\xE2\x80\xAE\x1b\x7f");
  EXPECT_NE(ToJson(method).find(R"("\u009b\u202e\u001b\u007f")"), std::string::npos);
  EXPECT_NE(ToYaml(method).find(R"("\u009b\u202e\u001b\u007f")"), std::string::npos);
}

TEST(YamlTest, KeysThatAreNoPlainWordsAreQuoted) {
  v1::MethodSpec spec;
  for (const char* name : {"a: b\nforged: 1", "no", "1", "plain_1"}) {
    (*spec.mutable_parameters())[name].set_int_value(1);
  }
  const std::string yaml = ToYaml(spec);
  EXPECT_NE(yaml.find("  \"a: b\\nforged: 1\": 1\n"), std::string::npos) << yaml;
  EXPECT_NE(yaml.find("  \"no\": 1\n"), std::string::npos);
  EXPECT_NE(yaml.find("  \"1\": 1\n"), std::string::npos);
  EXPECT_NE(yaml.find("  plain_1: 1\n"), std::string::npos);
}

TEST(FormatTest, SizesAndTimesAreShort) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(999), "999 B");
  EXPECT_EQ(HumanBytes(1500), "1.5 kB");
  EXPECT_EQ(HumanBytes(999'600), "1.0 MB");
  EXPECT_EQ(HumanBytes(123'456'789), "123 MB");
  EXPECT_EQ(HumanDuration(absl::Milliseconds(12)), "12 ms");
  EXPECT_EQ(HumanDuration(absl::Seconds(2.34)), "2.3 s");
  EXPECT_EQ(HumanDuration(absl::Seconds(59.7)), "1m 00s");
  EXPECT_EQ(HumanDuration(absl::Seconds(3725)), "1h 02m");
  EXPECT_EQ(Percent(0.95123), "95.1 %");
  EXPECT_EQ(Percent(-0.0002), "0.0 %");
}

TEST(FormatTest, UnsetTimesAreDashes) {
  google::protobuf::Timestamp time;
  EXPECT_EQ(AbsoluteTime(time), "-");
  EXPECT_EQ(RelativeTime(time, absl::Now()), "-");
  time.set_seconds(1'700'000'000);
  EXPECT_EQ(AbsoluteTime(time), "2023-11-14T22:13:20Z");
  EXPECT_EQ(RelativeTime(time, absl::FromUnixSeconds(1'700'000'300)), "5m ago");
}

TEST(FormatTest, TextIsCutBetweenCharacters) {
  EXPECT_EQ(FitTo("äöü", 3), "äöü");
  EXPECT_EQ(FitTo("äöü", 2), "ä…");
}

}  // namespace
}  // namespace espalier::cli
