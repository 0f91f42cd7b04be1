#include "common/rpc/health.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>

#include "common/base/status.h"
#include "common/rpc/connection_check.h"

namespace espalier::rpc {
namespace {

constexpr auto kTimeout = std::chrono::seconds(3);
// HealthCheckResponse{status: SERVING} in protobuf's wire form.
constexpr char kServing[] = "\x08\x01";

absl::Status NotServing(const std::string& target, const std::string& found) {
  return base::MakeError(absl::StatusCode::kUnavailable, "NOT_SERVING",
                         "expected a server that is SERVING at " + target + ", found " + found);
}

}  // namespace

absl::Status CheckHealth(ChannelOptions options) {
  const size_t colon = std::min(options.target.rfind(':'), options.target.size());
  const std::string host = options.target.substr(0, colon);
  if (host == "0.0.0.0") options.target.replace(0, colon, "127.0.0.1");
  if (host == "[::]") options.target.replace(0, colon, "[::1]");
  ESPALIER_ASSIGN_OR_RETURN(auto channel, MakeChannel(options));
  // The health proto is not packaged, and its one-field answer needs no generated code.
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kTimeout);
  grpc::CompletionQueue queue;
  grpc::ByteBuffer request;
  grpc::Slice empty;
  request = grpc::ByteBuffer(&empty, 1);
  auto call = stub.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) {
    const absl::Status found = ExplainFailure(
        options, absl::UnavailableError(status.error_message()), kExplainLimit, std::stop_token());
    return NotServing(options.target, base::MessageOf(found));
  }
  grpc::Slice slice;
  response.DumpToSingleSlice(&slice);
  const std::string bytes(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes == kServing ? absl::OkStatus() : NotServing(options.target, "another state");
}

}  // namespace espalier::rpc
