#include "client/dashboard/replies.h"

#include <gtest/gtest.h>

#include "client/lib/client.h"
#include "common/base/status.h"
#include "espalier/v1/job.pb.h"

namespace espalier::dashboard {
namespace {

using client::Json;

TEST(RepliesTest, EveryCodeHasItsStatusOfHttp) {
  const std::pair<absl::StatusCode, unsigned int> kCases[] = {
      {absl::StatusCode::kInvalidArgument, 400},   {absl::StatusCode::kOutOfRange, 400},
      {absl::StatusCode::kUnauthenticated, 401},   {absl::StatusCode::kPermissionDenied, 403},
      {absl::StatusCode::kNotFound, 404},          {absl::StatusCode::kFailedPrecondition, 409},
      {absl::StatusCode::kAlreadyExists, 409},     {absl::StatusCode::kAborted, 409},
      {absl::StatusCode::kResourceExhausted, 429}, {absl::StatusCode::kUnavailable, 503},
      {absl::StatusCode::kDeadlineExceeded, 504},  {absl::StatusCode::kInternal, 500},
      {absl::StatusCode::kUnknown, 500},           {absl::StatusCode::kDataLoss, 500},
  };
  for (const auto& [code, http] : kCases) {
    const Reply reply = ErrorReply(base::MakeError(code, "SOME_REASON", "a sentence"));
    EXPECT_EQ(reply.status, http);
    EXPECT_EQ(Json::parse(*reply.body)["error"]["code"], absl::StatusCodeToString(code));
  }
}

TEST(RepliesTest, ErrorsHaveReasonMessageAndViolations) {
  const absl::Status status =
      client::WithViolations(base::InvalidArgument("JOB_FILE_INVALID", "has <b>2</b> problems"),
                             {{"federation.rounds", "line 3: expected 1 or more, found 0"}}, 4);
  const Json error = Json::parse(*ErrorReply(status).body)["error"];
  EXPECT_EQ(error["reason"], "JOB_FILE_INVALID");
  EXPECT_EQ(error["message"], "has <b>2</b> problems");
  ASSERT_EQ(error["violations"].size(), 1U);
  EXPECT_EQ(error["violations"][0]["field"], "federation.rounds");
  EXPECT_EQ(error["violations"][0]["message"], "line 3: expected 1 or more, found 0");
  EXPECT_EQ(error["violations_left_out"], 4);
}

TEST(RepliesTest, RefusalsHaveTheirOwnStatus) {
  const Reply reply = RefusalReply(421, "HOST_UNKNOWN", "expected another host");
  EXPECT_EQ(reply.status, 421U);
  EXPECT_EQ(Json::parse(*reply.body)["error"]["reason"], "HOST_UNKNOWN");
}

TEST(RepliesTest, MessagesAreWrittenAsTheCommandLineWritesThem) {
  v1::Job job;
  job.set_name("jobs/a\xc2\x85");
  job.set_state(v1::Job::STATE_RUNNING);
  const Reply reply = JsonReply(job);
  EXPECT_EQ(*reply.body, client::ToJson(job, client::Layout::kLine));
  EXPECT_EQ(Json::parse(*reply.body)["state"], "RUNNING");
}

}  // namespace
}  // namespace espalier::dashboard
