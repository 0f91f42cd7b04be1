#include "common/rpc/health.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>

#include "common/base/status.h"
#include "common/rpc/connection_check.h"

namespace espalier::rpc {
namespace {

constexpr absl::Duration kTimeout = absl::Seconds(3);
// gRPC ends a call at its deadline. If it does not even do that, nobody waits for it longer.
constexpr absl::Duration kGrace = absl::Seconds(1);
// HealthCheckResponse{status: SERVING} in protobuf's wire form.
constexpr char kServing[] = "\x08\x01";

absl::Status NotServing(const std::string& target, const std::string& found) {
  return base::MakeError(absl::StatusCode::kUnavailable, "NOT_SERVING",
                         "expected a server that is SERVING at " + target + ", found " + found);
}

// The health proto is not packaged, and its one-field answer needs no generated code.
struct Question {
  explicit Question(const std::shared_ptr<grpc::Channel>& channel) : stub(channel) {}

  grpc::GenericStub stub;
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  std::unique_ptr<grpc::GenericClientAsyncResponseReader> call;
  grpc::ByteBuffer response;
  grpc::Status status;
};

// The question with what came of it; null when nothing did.
std::unique_ptr<Question> Ask(const std::shared_ptr<grpc::Channel>& channel,
                              absl::Duration timeout) {
  auto question = std::make_unique<Question>(channel);
  const auto now = std::chrono::system_clock::now();
  question->context.set_deadline(now + absl::ToChronoNanoseconds(timeout));
  const grpc::Slice empty;
  question->call =
      question->stub.PrepareUnaryCall(&question->context, "/grpc.health.v1.Health/Check",
                                      grpc::ByteBuffer(&empty, 1), &question->queue);
  question->call->StartCall();
  question->call->Finish(&question->response, &question->status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  const auto last = now + absl::ToChronoNanoseconds(timeout + kGrace);
  if (question->queue.AsyncNext(&tag, &ok, last) == grpc::CompletionQueue::GOT_EVENT) {
    return question;
  }
  // It belongs to gRPC for as long as it is not answered, which may be for ever.
  [[maybe_unused]] const Question* const kept = question.release();
  return nullptr;
}

}  // namespace

bool IsAnswered(const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout) {
  const std::unique_ptr<Question> question = Ask(channel, timeout);
  return question != nullptr &&
         question->status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED;
}

absl::Status CheckHealth(ChannelOptions options) {
  const size_t colon = std::min(options.target.rfind(':'), options.target.size());
  const std::string host = options.target.substr(0, colon);
  if (host == "0.0.0.0") options.target.replace(0, colon, "127.0.0.1");
  if (host == "[::]") options.target.replace(0, colon, "[::1]");
  ESPALIER_ASSIGN_OR_RETURN(auto channel, MakeChannel(options));
  const std::unique_ptr<Question> question = Ask(channel, kTimeout);
  if (question == nullptr) return NotServing(options.target, "no answer in time");
  if (!question->status.ok()) {
    const absl::Status found =
        ExplainFailure(options, absl::UnavailableError(question->status.error_message()),
                       kExplainLimit, std::stop_token());
    return NotServing(options.target, base::MessageOf(found));
  }
  grpc::Slice slice;
  question->response.DumpToSingleSlice(&slice);
  const std::string bytes(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes == kServing ? absl::OkStatus() : NotServing(options.target, "another state");
}

}  // namespace espalier::rpc
