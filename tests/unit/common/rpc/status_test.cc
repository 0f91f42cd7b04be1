// What reaches a caller of an error, over real connections where the transport has a say.
#include "common/rpc/status.h"

#include <gmock/gmock.h>
#include <grpcpp/client_context.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/server.h"
#include "espalier/v1/job.grpc.pb.h"

namespace espalier::rpc {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Answers every call with one error.
class FailingJobs final : public v1::JobService::Service {
 public:
  explicit FailingJobs(absl::Status error) : error_(std::move(error)) {}
  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::Job*) override {
    return ToGrpc(error_);
  }

 private:
  absl::Status error_;
};

// What a client gets of `error`.
absl::Status OverAConnection(const absl::Status& error) {
  FailingJobs service(error);
  ServerOptions server_options;
  server_options.listen = "127.0.0.1:0";
  const RunningServer running = StartServer(server_options, {&service}).value();
  ChannelOptions options;
  options.target = running.address;
  const auto stub = v1::JobService::NewStub(MakeChannel(options).value());
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
  v1::Job job;
  const absl::Status received = FromGrpc(stub->GetJob(&context, {}, &job));
  running.server->Shutdown();
  return received;
}

v1::FieldViolation Violation(const std::string& field, const std::string& description) {
  v1::FieldViolation violation;
  violation.set_field(field);
  violation.set_description(description);
  return violation;
}

// What grpc 1.51 says of such a call, in case there are more clients than windows can hold back.
TEST(StatusTest, FullBuffersAreWorthAnotherAttempt) {
  const absl::Status busy =
      FromGrpc({grpc::StatusCode::RESOURCE_EXHAUSTED, "Received RST_STREAM with error code 11"});
  EXPECT_EQ(busy.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(base::ReasonOf(busy), "COORDINATOR_BUSY");
  const absl::Status too_large = FromGrpc(
      {grpc::StatusCode::RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)"});
  EXPECT_EQ(too_large.code(), absl::StatusCode::kResourceExhausted);
}

TEST(StatusTest, CodeReasonAndMessageSurviveTheRoundTrip) {
  const absl::Status sent =
      base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_WORKERS", "expected fewer");
  EXPECT_EQ(FromGrpc(ToGrpc(sent)), sent);
}

TEST(StatusTest, ViolationsThatDoNotFitAreCounted) {
  std::vector<v1::FieldViolation> violations;
  for (int i = 0; i < 1000; ++i) {
    violations.push_back(Violation("spec.model.layers[" + std::to_string(i) + "].linear.units",
                                   "must be ≥ 1, found 0"));
  }
  const absl::Status received = OverAConnection(
      WithViolations(base::InvalidArgument("INVALID_JOB", "1,000 mistakes"), violations));
  EXPECT_EQ(received.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(base::ReasonOf(received), "INVALID_JOB");
  const auto shown = ViolationsOf(received);
  EXPECT_GE(shown.size(), 40u);
  EXPECT_EQ(shown.size() + static_cast<size_t>(ViolationsLeftOut(received)), 1000u);
}

TEST(StatusTest, FewViolationsAllArrive) {
  const absl::Status sent =
      WithViolations(base::InvalidArgument("INVALID_JOB", "x"), {Violation("a", "b")});
  EXPECT_EQ(ViolationsOf(OverAConnection(sent)).size(), 1u);
  EXPECT_EQ(ViolationsLeftOut(OverAConnection(sent)), 0);
}

TEST(StatusTest, LongMessagesAreCutBetweenCharacters) {
  for (const std::string unit : {"x", "ä", "数", "%"}) {
    std::string message;
    while (message.size() < 1'000'000) message += unit;
    const absl::Status received = OverAConnection(base::FailedPrecondition("REASON", message));
    EXPECT_EQ(received.code(), absl::StatusCode::kFailedPrecondition) << unit;
    EXPECT_EQ(base::ReasonOf(received), "REASON");
    EXPECT_THAT(base::MessageOf(received), StartsWith(message.substr(0, 3 * unit.size())));
    EXPECT_THAT(base::MessageOf(received), HasSubstr("…"));
  }
}

TEST(StatusTest, LongReasonsFieldsAndDescriptionsFitToo) {
  const std::string text(1'000'000, '\n');
  const absl::Status received =
      OverAConnection(WithViolations(base::InvalidArgument(text, text), {Violation(text, text)}));
  EXPECT_EQ(received.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ViolationsOf(received).size(), 1u);
}

TEST(StatusTest, WhatIsSentIsPrintable) {
  const absl::Status received = OverAConnection(base::NotFound("X", "a\nb\x1b[2J\xFF"));
  EXPECT_EQ(base::MessageOf(received), R"(a\nb\x1b[2J\xff)");
}

}  // namespace
}  // namespace espalier::rpc
