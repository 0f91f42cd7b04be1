#include <utility>

#include "common/base/status.h"
#include "common/wire/blob.h"
#include "common/wire/proto_time.h"
#include "server/api/calls.h"
#include "server/api/client_services.h"
#include "server/api/write_stream.h"

namespace espalier::server::api {
namespace {

v1::Checkpoint ToProto(const checkpoint::CheckpointInfo& info) {
  v1::Checkpoint proto;
  proto.set_name(info.name);
  proto.set_job("jobs/" + info.job);
  proto.set_round(info.round);
  proto.set_size_bytes(static_cast<int64_t>(info.size_bytes));
  proto.set_sha256(info.sha256);
  wire::SetTimestamp(info.create_time, proto.mutable_create_time());
  proto.set_test_accuracy(info.test_accuracy.value_or(0));
  proto.set_density(info.density);
  return proto;
}

// One checkpoint on its way to a client.
class CheckpointDownload : public WriteStream<v1::Chunk> {
 public:
  CheckpointDownload(const Context& context, absl::StatusOr<std::unique_ptr<io::ReadableFile>> file,
                     uint64_t offset)
      : context_(context), file_(std::move(file)), offset_(offset) {}
  void OnDone() override { delete this; }

 protected:
  bool Produce(v1::Chunk& message, bool& at_end, absl::Status& end) override {
    at_end = true;
    if (!file_.ok()) {
      end = file_.status();
      return false;
    }
    const uint64_t size = (*file_)->size();
    if (offset_ >= size) return false;
    std::string data(std::min<uint64_t>(context_.limits.chunk_bytes, size - offset_), '\0');
    end = (*file_)->ReadAt(offset_, data.data(), data.size());
    if (!end.ok()) return false;
    message = wire::MakeChunk(offset_, data);
    offset_ += data.size();
    return true;
  }

  void Ended(const absl::Status& status) override {
    CountCall(context_.metrics, "DownloadCheckpoint", status);
  }

 private:
  const Context& context_;
  absl::StatusOr<std::unique_ptr<io::ReadableFile>> file_;
  uint64_t offset_;
};

}  // namespace

grpc::ServerUnaryReactor* CheckpointService::ListCheckpoints(
    grpc::CallbackServerContext* call, const v1::ListCheckpointsRequest* request,
    v1::ListCheckpointsResponse* response) {
  return AnswerOnCore(
      context_, call, "ListCheckpoints", [this, request, response]() -> absl::Status {
        std::string job = request->job();
        if (job.starts_with("jobs/")) job = job.substr(sizeof("jobs/") - 1);
        const auto all = context_.checkpoints.List(job);
        ESPALIER_ASSIGN_OR_RETURN(
            const Page page, MakePage(request->page_size(), request->page_token(), all.size()));
        FillPage(
            page, [&](size_t i) { return ToProto(all[i]); }, response->mutable_checkpoints(),
            response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* CheckpointService::GetCheckpoint(grpc::CallbackServerContext* call,
                                                           const v1::GetCheckpointRequest* request,
                                                           v1::Checkpoint* response) {
  return AnswerOnCore(context_, call, "GetCheckpoint", [this, request, response]() -> absl::Status {
    ESPALIER_ASSIGN_OR_RETURN(const auto info, context_.checkpoints.Get(request->name()));
    *response = ToProto(info);
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* CheckpointService::Recommend(grpc::CallbackServerContext* call,
                                                       const v1::RecommendRequest* request,
                                                       v1::RecommendResponse* response) {
  return AnswerLater(context_, call, "Recommend",
                     [this, request, response](std::function<void(const absl::Status&)> answer) {
                       context_.jobs.Recommend(
                           *request, [response, answer = std::move(answer)](
                                         const absl::StatusOr<v1::RecommendResponse>& found) {
                             if (found.ok()) *response = *found;
                             answer(found.status());
                           });
                     });
}

grpc::ServerWriteReactor<v1::Chunk>* CheckpointService::DownloadCheckpoint(
    grpc::CallbackServerContext* call, const v1::DownloadCheckpointRequest* request) {
  auto* download = new CheckpointDownload(context_, context_.checkpoints.OpenFile(request->name()),
                                          request->offset());
  download->Pump();
  return download;
}

}  // namespace espalier::server::api
