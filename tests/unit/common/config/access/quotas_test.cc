#include "common/config/access/quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/base/status.h"

namespace espalier::config {
namespace {

using ::testing::HasSubstr;

constexpr char kQuotas[] = R"(users:
  ada: {jobs: 50, checkpoint_bytes: unlimited}
  bob:
    running_tasks: 0
default:
  jobs: 10
  running_tasks: 8
  checkpoint_bytes: 20GB
)";

std::string ErrorOf(const std::string& text) {
  const auto quotas = ParseQuotas(text, "quotas.yaml");
  EXPECT_EQ(base::ReasonOf(quotas.status()), "INVALID_QUOTAS") << text;
  return base::MessageOf(quotas.status());
}

int64_t BytesOf(const std::string& size) {
  const auto quotas = ParseQuotas("default: {checkpoint_bytes: " + size + "}", "quotas.yaml");
  return quotas.ok() ? quotas->everyone.checkpoint_bytes.value_or(-1) : -2;
}

TEST(QuotasTest, WhatIsNotSaidOfAUserIsAsForEveryone) {
  const Quotas quotas = ParseQuotas(kQuotas, "quotas.yaml").value();
  EXPECT_EQ(quotas.Of("carl"), (Quota{10, 8, 20'000'000'000}));
  EXPECT_EQ(quotas.Of("ada"), (Quota{50, 8, std::nullopt}));
  EXPECT_EQ(quotas.Of("bob"), (Quota{10, 0, 20'000'000'000}));
}

TEST(QuotasTest, JobsWithoutAnOwnerHaveNoQuota) {
  EXPECT_EQ(ParseQuotas(kQuotas, "quotas.yaml")->Of(""), Quota());
  EXPECT_EQ(Quotas().Of("ada"), Quota());
}

TEST(QuotasTest, SizesHaveUnits) {
  EXPECT_EQ(BytesOf("5"), 5);
  EXPECT_EQ(BytesOf("5B"), 5);
  EXPECT_EQ(BytesOf("3 KB"), 3000);
  EXPECT_EQ(BytesOf("3KiB"), 3072);
  EXPECT_EQ(BytesOf("2TiB"), int64_t{2} << 40);
  EXPECT_EQ(BytesOf("unlimited"), -1);
  for (const char* wrong : {"-1", "1.5GB", "9999999TB", "5 gb", "GB", "''", "'5'", "[5]", "many"}) {
    EXPECT_EQ(BytesOf(wrong), -2) << wrong;
  }
}

TEST(QuotasTest, MistakesSayTheirLineAndWhatIsMeant) {
  EXPECT_THAT(ErrorOf("default:\n  job: 3\n"),
              HasSubstr("default.job: line 2: unknown field \"job\"; did you mean \"jobs\"?"));
  EXPECT_THAT(ErrorOf("user: {}\n"),
              HasSubstr("line 1: unknown field \"user\"; did you mean \"users\""));
  EXPECT_THAT(ErrorOf("users:\n  Ada: {jobs: 3}\n"),
              HasSubstr("users.Ada: line 2: expected the name"));
  EXPECT_THAT(ErrorOf("users: [ada]\n"), HasSubstr("line 1: expected a map from names of users"));
  EXPECT_THAT(ErrorOf("default: 3\n"),
              HasSubstr("expected a map with fields of jobs, running_tasks"));
  EXPECT_THAT(ErrorOf("users:\n  ada:\n    jobs: 1GB\n"),
              HasSubstr("users.ada.jobs: line 3: expected a whole number, 0 or more, or the word "
                        "unlimited, found \"1GB\""));
  EXPECT_THAT(ErrorOf(""), HasSubstr("found nothing"));
  EXPECT_THAT(ErrorOf("users:\n  ada: {jobs: 1}\n  ada: {jobs: 2}\n"), HasSubstr("line 3"));
}

}  // namespace
}  // namespace espalier::config
