// The server under load: real connections over loopback.
#include "common/rpc/server.h"

#include <grpcpp/client_context.h>
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/rpc/channel.h"
#include "common/rpc/status.h"
#include "espalier/v1/worker.grpc.pb.h"

namespace espalier::rpc {
namespace {

// Takes uploads more slowly than clients send them, and keeps sessions open.
class SlowService final : public v1::WorkerService::Service {
 public:
  grpc::Status Submit(grpc::ServerContext*, grpc::ServerReader<v1::SubmitRequest>* reader,
                      v1::SubmitResponse*) override {
    reader->SendInitialMetadata();
    v1::SubmitRequest request;
    while (reader->Read(&request)) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return grpc::Status::OK;
  }

  grpc::Status Session(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::CoordinatorMessage, v1::WorkerMessage>* stream) override {
    v1::WorkerMessage message;
    while (stream->Read(&message)) stream->Write({});
    return grpc::Status::OK;
  }
};

std::unique_ptr<v1::WorkerService::Stub> Connect(const std::string& address) {
  ChannelOptions options;
  options.target = address;
  return v1::WorkerService::NewStub(MakeChannel(options).value());
}

grpc::Status Upload(const std::string& address, int64_t bytes) {
  const auto stub = Connect(address);
  grpc::ClientContext context;
  // Sixteen connections at once: one that does not come about at the first attempt may try again.
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::SubmitResponse response;
  const auto writer = stub->Submit(&context, &response);
  writer->WaitForInitialMetadata();
  v1::SubmitRequest request;
  request.mutable_chunk()->set_data(std::string(base::Limits().chunk_bytes, 'x'));
  for (int64_t sent = 0; sent < bytes; sent += base::Limits().chunk_bytes) {
    if (!writer->Write(request)) break;
  }
  writer->WritesDone();
  return writer->Finish();
}

std::vector<absl::Status> Upload(const std::string& address, int uploads, int64_t bytes) {
  std::vector<absl::Status> results(uploads);
  std::vector<std::jthread> threads;
  for (absl::Status& result : results) {
    threads.emplace_back([&] { result = FromGrpc(Upload(address, bytes)); });
  }
  threads.clear();
  return results;
}

// gRPC ends streams at random when a server's buffers are full: uploads, but also sessions.
TEST(ServerTest, UploadsFasterThanTheirReaderEndNoStream) {
  SlowService service;
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  const RunningServer running = StartServer(options, {&service}).value();
  const auto stub = Connect(running.address);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  const auto session = stub->Session(&context);
  for (const absl::Status& result : Upload(running.address, 16, int64_t{64} << 20)) {
    EXPECT_TRUE(result.ok()) << result;
  }
  EXPECT_TRUE(session->Write({}));
  v1::CoordinatorMessage answer;
  EXPECT_TRUE(session->Read(&answer));
  session->WritesDone();
  EXPECT_TRUE(session->Finish().ok());
  running.server->Shutdown();
}

}  // namespace
}  // namespace espalier::rpc
