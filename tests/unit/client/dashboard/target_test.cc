#include "client/dashboard/http/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::dashboard {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(TargetTest, PathAndQueryAreDecoded) {
  const auto target = ParseTarget("/api/v1/workers/caf%C3%A9%20%231?contains=a+b%2Bc&state=&x");
  ASSERT_TRUE(target.ok()) << target.status();
  EXPECT_THAT(target->parts, ElementsAre("api", "v1", "workers", "café #1"));
  EXPECT_THAT(target->query,
              ElementsAre(Pair("contains", "a b+c"), Pair("state", ""), Pair("x", "")));
}

TEST(TargetTest, PlusInAPathIsAPlus) {
  EXPECT_THAT(ParseTarget("/jobs/a+b")->parts, ElementsAre("jobs", "a+b"));
}

TEST(TargetTest, RootHasNoParts) {
  EXPECT_THAT(ParseTarget("/")->parts, IsEmpty());
  EXPECT_THAT(ParseTarget("/?a=1")->parts, IsEmpty());
}

TEST(TargetTest, EveryValueOfANameIsKept) {
  const auto target = ParseTarget("/j?state=RUNNING&state=PAUSED&order=NAME");
  EXPECT_THAT(target->Values("state"), ElementsAre("RUNNING", "PAUSED"));
  EXPECT_EQ(target->Value("state"), "RUNNING");
  EXPECT_EQ(target->Value("absent"), std::nullopt);
}

TEST(TargetTest, WhatNoNameCanBeIsRefused) {
  const struct {
    const char* raw;
    const char* why;
  } kCases[] = {
      {"", "slash at its front"},
      {"http://other/", "slash at its front"},
      {"/a%", "broken escape"},
      {"/a%4", "broken escape"},
      {"/a%zz", "broken escape"},
      {"/?a=%g0", "broken escape"},
      {"/%ff%fe", "UTF-8"},
      {"/?a=%c3%28", "UTF-8"},
      {"/a%00b", "control characters"},
      {"/a%0d%0aSet-Cookie:%20b=c", "control characters"},
      {"/../etc/passwd", "another folder"},
      {"/assets/%2e%2e/x", "another folder"},
      {"/assets/..%2f..%2fetc%2fpasswd", "slash in a name"},
      {"/assets/..%5c..%5cx", "slash in a name"},
  };
  for (const auto& c : kCases) {
    const absl::Status status = ParseTarget(c.raw).status();
    EXPECT_EQ(base::ReasonOf(status), "TARGET_INVALID") << c.raw;
    EXPECT_THAT(base::MessageOf(status), HasSubstr(c.why)) << c.raw;
    EXPECT_EQ(base::MessageOf(status).find('\r'), std::string::npos) << c.raw;
  }
}

}  // namespace
}  // namespace espalier::dashboard
