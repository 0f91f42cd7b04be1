#include "server/api/worker_service.h"

#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/wire/blob.h"
#include "server/api/calls.h"
#include "server/api/session.h"
#include "server/api/upload.h"
#include "server/api/write_stream.h"

namespace espalier::server::api {
namespace {

using metrics::Metric;

// One blob on its way to a worker.
class Download : public WriteStream<v1::Chunk>, public std::enable_shared_from_this<Download> {
 public:
  Download(const Context& context, TransferSlots& slots, Transfers& transfers,
           std::shared_ptr<const round::Blob> blob, uint64_t offset)
      : context_(context),
        slots_(slots),
        transfers_(transfers),
        blob_(std::move(blob)),
        offset_(offset) {}

  // The object lives until gRPC is done with it and the slot has been given back.
  static Download* Start(const std::shared_ptr<Download>& download,
                         const scheduler::SessionKey& session) {
    download->self_ = download;
    download->transfer_ = download->transfers_.Add(session, [weak = download->weak_from_this()] {
      if (const auto self = weak.lock()) {
        self->End(
            base::MakeError(absl::StatusCode::kAborted, "SESSION_ENDED", "the session ended"));
      }
    });
    download->slots_.Acquire([download] {
      download->holds_slot_ = true;
      download->Pump();
      if (download->done_) download->GiveBack();
    });
    return download.get();
  }

  void OnDone() override {
    transfers_.Remove(transfer_);
    const auto self = std::move(self_);
    done_ = true;
    if (holds_slot_) GiveBack();
  }

 protected:
  bool Produce(v1::Chunk& message, bool& at_end, absl::Status& end) override {
    if (blob_ == nullptr || offset_ > blob_->bytes().size()) {
      at_end = true;
      end = base::NotFound("BLOB_NOT_FOUND",
                           "expected the digest of a model in use and an offset inside it; the "
                           "round it belonged to is over; drop the task");
      return false;
    }
    if (offset_ == blob_->bytes().size()) {
      at_end = true;
      return false;
    }
    message = wire::ChunkAt(blob_->bytes(), offset_, context_.limits.chunk_bytes);
    offset_ += message.data().size();
    blob_->Charge(static_cast<int64_t>(message.ByteSizeLong()));
    context_.metrics.Add(Metric::kBlobBytes, static_cast<double>(message.data().size()));
    return true;
  }

  void Ended(const absl::Status& status) override { CountCall(context_.metrics, "Fetch", status); }

 private:
  void GiveBack() {
    if (!given_back_.exchange(true)) slots_.Release();
  }

  const Context& context_;
  TransferSlots& slots_;
  Transfers& transfers_;
  std::shared_ptr<Download> self_;
  std::shared_ptr<const round::Blob> blob_;
  uint64_t offset_;
  uint64_t transfer_ = 0;
  std::atomic<bool> holds_slot_{false};
  std::atomic<bool> done_{false};
  std::atomic<bool> given_back_{false};
};

}  // namespace

uint64_t Transfers::Add(const scheduler::SessionKey& session, std::function<void()> end) {
  const std::lock_guard lock(mutex_);
  entries_[next_] = {session, std::move(end)};
  return next_++;
}

void Transfers::Remove(uint64_t id) {
  const std::lock_guard lock(mutex_);
  entries_.erase(id);
}

void Transfers::EndSession(const scheduler::SessionKey& session) {
  std::vector<std::function<void()>> ends;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, entry] : entries_) {
      if (entry.session == session) ends.push_back(entry.end);
    }
  }
  for (const auto& end : ends) end();
}

WorkerService::WorkerService(const Context& context)
    : context_(context),
      downloads_(context.limits.concurrent_downloads),
      uploads_(context.limits.concurrent_uploads) {
  context_.fleet.on_session_lost = [this](const scheduler::SessionKey& session) {
    transfers_.EndSession(session);
  };
}

grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* WorkerService::Session(
    grpc::CallbackServerContext* call) {
  return SessionReactor::Start(context_);
}

grpc::ServerWriteReactor<v1::Chunk>* WorkerService::Fetch(grpc::CallbackServerContext* call,
                                                          const v1::FetchRequest* request) {
  return Download::Start(
      std::make_shared<Download>(context_, downloads_, transfers_,
                                 context_.blobs.Get(request->digest(), request->job()),
                                 request->offset()),
      request->session());
}

grpc::ServerReadReactor<v1::SubmitRequest>* WorkerService::Submit(grpc::CallbackServerContext* call,
                                                                  v1::SubmitResponse* response) {
  return UploadReactor::Start(context_, uploads_, transfers_, response);
}

}  // namespace espalier::server::api
