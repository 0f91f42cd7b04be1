#include "client/dashboard/http/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/printable.h"
#include "common/base/rng.h"
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

// Whatever bytes come: they are refused, or are names that nothing misreads.
TEST(TargetTest, AnyBytesAreNamesOrRefused) {
  constexpr char kPieces[] = "/.%2f5cFe0a?&=+\xff\xc3\xa9\x01 \\";
  base::Rng rng(base::StreamKey(7, "targets"));
  int taken = 0;
  for (int i = 0; i < 200'000; ++i) {
    std::string raw = "/";
    const uint64_t length = rng.Below(12);
    for (uint64_t k = 0; k < length; ++k) raw += kPieces[rng.Below(sizeof(kPieces) - 1)];
    const auto target = ParseTarget(raw);
    if (!target.ok()) continue;
    ++taken;
    for (const std::string& part : target->parts) {
      ASSERT_TRUE(base::IsUtf8(part)) << raw;
      ASSERT_EQ(part.find_first_of(std::string_view("/\\\0\r\n\x01", 6)), std::string::npos) << raw;
      ASSERT_NE(part, "..") << raw;
    }
    for (const auto& [name, value] : target->query) ASSERT_TRUE(base::IsUtf8(name + value)) << raw;
  }
  EXPECT_GT(taken, 1000);
}

}  // namespace
}  // namespace espalier::dashboard
