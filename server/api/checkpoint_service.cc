#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/blob.h"
#include "common/wire/proto_time.h"
#include "server/api/calls.h"
#include "server/api/client_services.h"
#include "server/api/ownership.h"
#include "server/api/write_stream.h"

namespace espalier::server::api {
namespace {

v1::Checkpoint ToProto(const checkpoint::CheckpointInfo& info) {
  v1::Checkpoint proto;
  proto.set_name(info.name);
  proto.set_job("jobs/" + info.job);
  proto.set_round(info.round);
  proto.set_run(info.run);
  proto.set_size_bytes(static_cast<int64_t>(info.size_bytes));
  proto.set_sha256(info.sha256);
  wire::SetTimestamp(info.create_time, proto.mutable_create_time());
  if (info.main_metric.has_value()) {
    proto.set_main_metric(*info.main_metric);
    proto.set_main_metric_name(info.main_metric_name);
  }
  proto.set_density(info.density);
  return proto;
}

// Who may use a ticket.
std::string HolderOf(const access::Caller& caller) {
  return caller.is_open() ? "" : std::string(pki::NameOf(caller.role)) + "/" + caller.name;
}

// One checkpoint on its way to a client.
class CheckpointDownload : public WriteStream<v1::Chunk> {
 public:
  CheckpointDownload(const Context& context, grpc::CallbackServerContext* call,
                     TransferSlots<std::string>& slots, std::string name, uint64_t offset)
      : WriteStream(context, "DownloadCheckpoint", call,
                    {context.limits.transfer_stall,
                     LimitError("TRANSFER_STALLED", "a chunk of a checkpoint to be read",
                                context.limits.transfer_stall,
                                "continue from the offset that has arrived")}),
        slots_(slots),
        name_(std::move(name)),
        offset_(offset),
        slot_(slots.NewId()) {}

  // Waits for a turn.
  void Queue(const std::string& caller) {
    LimitWhole({context().limits.checkpoint_download_timeout,
                LimitError("TRANSFER_TIMEOUT", "the end of a download",
                           context().limits.checkpoint_download_timeout,
                           "continue from the offset that has arrived")});
    const auto self = std::static_pointer_cast<CheckpointDownload>(shared_from_this());
    const absl::Status waits = slots_.Acquire(slot_, caller, [self] {
      self->file_ = self->context().checkpoints.OpenFile(self->name_);
      self->Pump();
      // The stream may have ended while it waited.
      if (self->ended_) self->GiveBack();
    });
    if (!waits.ok()) {
      CountLimit(context(), "DownloadCheckpoint", waits);
      End(waits);
    }
  }

 protected:
  bool Produce(v1::Chunk& message, bool& at_end, absl::Status& end) override {
    at_end = true;
    if (!file_.ok()) {
      end = file_.status();
      return false;
    }
    const uint64_t size = (*file_)->size();
    if (offset_ >= size) return false;
    std::string data(std::min<uint64_t>(context().limits.chunk_bytes, size - offset_), '\0');
    end = (*file_)->ReadAt(offset_, data.data(), data.size());
    if (!end.ok()) return false;
    message = wire::MakeChunk(offset_, data);
    offset_ += data.size();
    return true;
  }

  void Ended() override {
    ended_ = true;
    const auto self = std::static_pointer_cast<CheckpointDownload>(shared_from_this());
    context().core.Post([self] { self->GiveBack(); });
  }

 private:
  void GiveBack() { slots_.Release(slot_); }

  TransferSlots<std::string>& slots_;
  const std::string name_;
  absl::StatusOr<std::unique_ptr<io::ReadableFile>> file_{absl::UnknownError("not opened yet")};
  uint64_t offset_;
  const uint64_t slot_;
  std::atomic<bool> ended_{false};
};

}  // namespace

CheckpointService::CheckpointService(const Context& context)
    : context_(context),
      tickets_(context.clock, context.entropy, context.limits.ticket_lifetime,
               static_cast<size_t>(context.limits.max_tickets)),
      // Without certificates all callers are one.
      downloads_({context.limits.concurrent_checkpoint_downloads,
                  context.limits.concurrent_checkpoint_downloads,
                  context.limits.waiting_checkpoint_downloads,
                  context.limits.waiting_checkpoint_downloads}) {}

grpc::ServerUnaryReactor* CheckpointService::ListCheckpoints(
    grpc::CallbackServerContext* call, const v1::ListCheckpointsRequest* request,
    v1::ListCheckpointsResponse* response) {
  return AnswerOnCore(
      context_, call, {"ListCheckpoints", request->job()},
      [this, request, response](const access::Caller& caller) -> absl::Status {
        std::string job = request->job();
        if (job.starts_with("jobs/")) job = job.substr(sizeof("jobs/") - 1);
        auto all = context_.checkpoints.List(job);
        std::erase_if(all, [&](const auto& info) { return !caller.MaySee(info.owner); });
        ESPALIER_ASSIGN_OR_RETURN(
            const Page page, MakePage(request->page_size(), request->page_token(), all.size()));
        FillPage(
            page, [&](size_t i) { return ToProto(all[i]); }, response->mutable_checkpoints(),
            response);
        // It is not known whose a damaged one is.
        if (!request->page_token().empty() || caller.role == pki::Role::kSubmitter) {
          return absl::OkStatus();
        }
        for (const auto& damaged : context_.checkpoints.damaged()) {
          response->add_damaged()->set_file(damaged.file);
          response->mutable_damaged()->rbegin()->set_problem(base::MessageOf(damaged.reason));
        }
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* CheckpointService::VerifyCheckpoint(
    grpc::CallbackServerContext* call, const v1::VerifyCheckpointRequest* request,
    v1::Checkpoint* response) {
  return AnswerAboutCheckpoint(
      call, {"VerifyCheckpoint", request->name()}, [this, request, response](const Answer& answer) {
        context_.files.Post([this, request, response, answer] {
          absl::Status status = context_.checkpoints.Verify(request->name());
          const auto info = context_.checkpoints.Get(request->name());
          if (info.ok()) *response = ToProto(*info);
          context_.core.Post([answer, status = std::move(status)] { answer(status); });
        });
      });
}

grpc::ServerUnaryReactor* CheckpointService::DeleteCheckpoint(
    grpc::CallbackServerContext* call, const v1::DeleteCheckpointRequest* request,
    v1::DeleteCheckpointResponse* response) {
  return AnswerAboutCheckpoint(
      call, {"DeleteCheckpoint", request->name()}, [this, request](const Answer& answer) {
        context_.files.Post([this, request, answer] {
          absl::Status status = context_.checkpoints.Remove({request->name()});
          if (status.ok()) log::Info("checkpoint_deleted", {{"checkpoint", request->name()}});
          context_.core.Post([answer, status = std::move(status)] { answer(status); });
        });
      });
}

grpc::ServerUnaryReactor* CheckpointService::AnswerAboutCheckpoint(
    grpc::CallbackServerContext* call, Subject subject,
    std::function<void(const Answer& answer)> work) {
  const std::string checkpoint = subject.object;
  return AnswerLater(context_, call, std::move(subject),
                     [this, checkpoint, work = std::move(work)](const access::Caller& caller,
                                                                const Answer& answer) {
                       const absl::Status own = CheckCheckpoint(context_, caller, checkpoint);
                       if (own.ok()) {
                         work(answer);
                       } else {
                         answer(own);
                       }
                     });
}

grpc::ServerUnaryReactor* CheckpointService::GetCheckpoint(grpc::CallbackServerContext* call,
                                                           const v1::GetCheckpointRequest* request,
                                                           v1::Checkpoint* response) {
  return AnswerOnCore(
      context_, call, {"GetCheckpoint", request->name()},
      [this, request, response](const access::Caller& caller) -> absl::Status {
        ESPALIER_RETURN_IF_ERROR(CheckCheckpoint(context_, caller, request->name()));
        ESPALIER_ASSIGN_OR_RETURN(const auto info, context_.checkpoints.Get(request->name()));
        *response = ToProto(info);
        response->set_download_ticket(tickets_.Issue(info.name, HolderOf(caller)));
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* CheckpointService::Recommend(grpc::CallbackServerContext* call,
                                                       const v1::RecommendRequest* request,
                                                       v1::RecommendResponse* response) {
  return AnswerAboutCheckpoint(
      call, {"Recommend", request->checkpoint()}, [this, request, response](const Answer& answer) {
        context_.jobs.questions().Recommend(
            *request, [response, answer](const absl::StatusOr<v1::RecommendResponse>& found) {
              if (found.ok()) *response = *found;
              answer(found.status());
            });
      });
}

grpc::ServerWriteReactor<v1::Chunk>* CheckpointService::DownloadCheckpoint(
    grpc::CallbackServerContext* call, const v1::DownloadCheckpointRequest* request) {
  const auto download = std::make_shared<CheckpointDownload>(context_, call, downloads_,
                                                             request->name(), request->offset());
  auto* reactor = CheckpointDownload::Start(download, {"DownloadCheckpoint", request->name()});
  if (!download->caller().ok()) return reactor;
  const std::string caller = HolderOf(*download->caller());
  const absl::Status allowed = tickets_.Check(request->ticket(), request->name(), caller);
  if (allowed.ok()) {
    download->Queue(caller);
  } else {
    download->End(allowed);
  }
  return reactor;
}

}  // namespace espalier::server::api
