#include "server/api/worker_service.h"

#include <atomic>
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
class Download : public WriteStream<v1::Chunk> {
 public:
  Download(const Context& context, grpc::CallbackServerContext* call,
           TransferSlots<SessionKey>& slots, Transfers& transfers, const v1::FetchRequest& request)
      : WriteStream(context, "Fetch", call,
                    {context.limits.transfer_stall,
                     LimitError("TRANSFER_STALLED", "a chunk of a model to be read",
                                context.limits.transfer_stall, "ask for the rest")}),
        slots_(slots),
        transfers_(transfers),
        request_(request),
        slot_(slots.NewId()) {}

  // On the core: lets the download wait for its turn if its session is one.
  void Admit() {
    if (!context().fleet.known_session(request_.session())) {
      End(base::MakeError(absl::StatusCode::kAborted, "SESSION_ENDED",
                          "expected the session of a connected worker, found another or one that "
                          "ended; register again"));
      return;
    }
    if (const absl::Status own = CheckSession(context(), *caller(), request_.session());
        !own.ok()) {
      End(own);
      return;
    }
    const auto weak = weak_from_this();
    transfer_ = transfers_.Add(request_.session(), [weak] {
      if (const auto self = weak.lock()) {
        self->End(
            base::MakeError(absl::StatusCode::kAborted, "SESSION_ENDED", "the session ended"));
      }
    });
    LimitWhole({context().limits.transfer_timeout,
                LimitError("TRANSFER_TIMEOUT", "the end of a model's download",
                           context().limits.transfer_timeout, "ask for the rest")});
    const auto self = std::static_pointer_cast<Download>(shared_from_this());
    const absl::Status waits = slots_.Acquire(slot_, request_.session(), [self] {
      self->blob_ = self->context().blobs.Get(self->request_.digest(), self->request_.job());
      self->offset_ = self->request_.offset();
      self->Pump();
      // The stream may have ended while it waited.
      if (self->ended_) self->GiveBack();
    });
    if (!waits.ok()) {
      CountLimit(context(), "Fetch", waits);
      End(waits);
    }
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
    message = wire::ChunkAt(blob_->bytes(), offset_, context().limits.chunk_bytes);
    offset_ += message.data().size();
    blob_->Charge(static_cast<int64_t>(message.ByteSizeLong()));
    context().metrics.Add(Metric::kBlobBytes, static_cast<double>(message.data().size()));
    return true;
  }

  void Ended() override {
    ended_ = true;
    const auto self = std::static_pointer_cast<Download>(shared_from_this());
    context().core.Post([self] { self->GiveBack(); });
  }

  void Released() override { transfers_.Remove(transfer_); }

 private:
  void GiveBack() { slots_.Release(slot_); }

  TransferSlots<SessionKey>& slots_;
  Transfers& transfers_;
  const v1::FetchRequest request_;
  const uint64_t slot_;
  std::shared_ptr<const round::Blob> blob_;
  uint64_t offset_ = 0;
  uint64_t transfer_ = 0;  // core only
  std::atomic<bool> ended_{false};
};

SlotLimits LimitsOf(const base::Limits& limits, int slots) {
  return {slots, limits.transfers_per_session, limits.max_workers,
          limits.waiting_transfers_per_session};
}

}  // namespace

absl::Status CheckSession(const Context& context, const access::Caller& caller,
                          const SessionKey& session) {
  if (caller.is_open()) return absl::OkStatus();
  const std::string worker = context.fleet.worker_of(session);
  // What is wrong with a session that has ended is said elsewhere.
  if (worker.empty() || worker == caller.name) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kPermissionDenied, "SESSION_OF_ANOTHER",
                         "expected the session of the worker '" + caller.name +
                             "', whom the certificate is for, found another worker's");
}

uint64_t Transfers::Add(const SessionKey& session, std::function<void()> end) {
  const base::MutexLock lock(mutex_);
  entries_[next_] = {session, std::move(end)};
  return next_++;
}

void Transfers::Remove(uint64_t id) {
  const base::MutexLock lock(mutex_);
  entries_.erase(id);
}

void Transfers::EndSession(const SessionKey& session) {
  std::vector<std::function<void()>> ends;
  {
    const base::MutexLock lock(mutex_);
    for (const auto& [id, entry] : entries_) {
      if (entry.session == session) ends.push_back(entry.end);
    }
  }
  for (const auto& end : ends) end();
}

WorkerService::WorkerService(const Context& context)
    : context_(context),
      downloads_(LimitsOf(context.limits, context.limits.concurrent_downloads)),
      uploads_(LimitsOf(context.limits, context.limits.concurrent_uploads)),
      unfinished_(context.clock) {
  context_.fleet.on_session_lost = [this](const SessionKey& session) {
    transfers_.EndSession(session);
  };
}

grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* WorkerService::Session(
    grpc::CallbackServerContext* call) {
  return SessionReactor::Start(context_, call);
}

grpc::ServerWriteReactor<v1::Chunk>* WorkerService::Fetch(grpc::CallbackServerContext* call,
                                                          const v1::FetchRequest* request) {
  const auto download =
      std::make_shared<Download>(context_, call, downloads_, transfers_, *request);
  auto* reactor = Download::Start(download, {"Fetch"});
  if (!download->caller().ok()) return reactor;
  context_.core.Post([download] { download->Admit(); });
  return reactor;
}

grpc::ServerReadReactor<v1::SubmitRequest>* WorkerService::Submit(grpc::CallbackServerContext* call,
                                                                  v1::SubmitResponse* response) {
  return UploadReactor::Start(context_, call, uploads_, transfers_, unfinished_, response);
}

}  // namespace espalier::server::api
