#include "server/admission/update_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>

#include "common/base/status.h"
#include "common/wire/proto_time.h"

namespace espalier::server::admission {
namespace {

std::string ReadSource(const std::string& path) {
  const char* source = std::getenv("ESPALIER_SOURCE_DIR");
  std::ifstream file(std::string(source == nullptr ? "." : source) + "/" + path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string LowerCase(std::string_view word) {
  std::string lower(word);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower;
}

TEST(UpdateGateTest, WhatHonestWorkersMeetIsNoStrike) {
  for (const char* reason :
       {"LEASE_EXPIRED", "ROUND_CLOSED", "CHUNK_CORRUPT", "CHUNK_OUT_OF_ORDER", "NO_EXAMPLES",
        "VALUE_OUT_OF_RANGE", "DUPLICATE_PARTICIPANT", "TRANSFER_STALLED", "TRANSFER_TIMEOUT",
        "TRANSFERS_FULL", "HEADER_TIMEOUT", "HEADER_MISSING", "OUT_OF_MEMORY", "STORAGE_FULL",
        "REDUCER_BROKEN", ""}) {
    EXPECT_FALSE(IsStrike(reason)) << reason;
  }
  for (const char* reason : {"NON_FINITE", "SHAPE_MISMATCH", "BLOB_DIGEST_MISMATCH",
                             "EXAMPLES_OUT_OF_RANGE", "UPDATE_ID_REUSED", "LEASE_OF_ANOTHER"}) {
    EXPECT_TRUE(IsStrike(reason)) << reason;
  }
}

TEST(UpdateGateTest, TableDocumentationAndMetricHaveEveryReason) {
  const std::string table = ReadSource("server/admission/update_gate.h");
  const std::string errors = ReadSource("docs/reference/errors.md");
  const std::string metrics = ReadSource("docs/metrics.md");
  size_t place = 0;
  for (const Refusal& refusal : Refusals()) {
    const std::string reason(refusal.reason);
    const size_t found = table.find(reason, place);
    EXPECT_NE(found, std::string::npos) << reason << " is not in the table, or out of order";
    place = found == std::string::npos ? place : found;
    EXPECT_THAT(errors, testing::HasSubstr("`" + reason + "`"));
    if (!refusal.strike) continue;
    EXPECT_THAT(metrics, testing::HasSubstr(LowerCase(reason)));
  }
}

TEST(UpdateGateTest, TimeSpentCountsAsFarAsTheLeaseHasLasted) {
  v1::PartialHeader header;
  wire::SetDuration(absl::Seconds(7), header.mutable_compute_time());
  EXPECT_EQ(SecondsSpent(header, absl::Seconds(10)), 7);
  EXPECT_EQ(SecondsSpent(header, absl::Seconds(3)), 3);
  EXPECT_EQ(SecondsSpent(header, absl::InfiniteDuration()), 7);
  wire::SetDuration(absl::Seconds(-7), header.mutable_compute_time());
  EXPECT_EQ(SecondsSpent(header, absl::Seconds(10)), 0);
}

TEST(UpdateGateTest, ATimeThatIsNoneIsRefused) {
  v1::Task task;
  v1::PartialHeader header;
  header.set_update_id("u");
  const round::TaskInWork in_work{task, 0};
  EXPECT_TRUE(CheckAgainstTask(header, in_work).ok());
  const auto reason = [&](int64_t seconds, int32_t nanos) {
    header.mutable_compute_time()->set_seconds(seconds);
    header.mutable_compute_time()->set_nanos(nanos);
    return base::ReasonOf(CheckAgainstTask(header, in_work));
  };
  EXPECT_EQ(reason(1, 999'999'999), "");
  EXPECT_EQ(reason(-1, -5), "") << "a clock that was set back";
  EXPECT_EQ(reason(1, 1'000'000'000), "CLAIM_OUT_OF_RANGE");
  EXPECT_EQ(reason(1, -1), "CLAIM_OUT_OF_RANGE");
  EXPECT_EQ(reason(0, std::numeric_limits<int32_t>::min()), "CLAIM_OUT_OF_RANGE");
  EXPECT_EQ(reason(std::numeric_limits<int64_t>::max(), 0), "CLAIM_OUT_OF_RANGE");
  EXPECT_EQ(reason(std::numeric_limits<int64_t>::min(), 0), "CLAIM_OUT_OF_RANGE");
}

}  // namespace
}  // namespace espalier::server::admission
