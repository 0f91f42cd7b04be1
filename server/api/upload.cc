#include "server/api/upload.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"
#include "common/rpc/status.h"
#include "server/api/calls.h"

namespace espalier::server::api {
namespace {

using metrics::Metric;

std::string NewSpoolPath(const std::string& directory) {
  static std::atomic<uint64_t> next{0};
  return directory + "/upload-" + std::to_string(next++);
}

std::string LowerCase(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return word;
}

}  // namespace

UploadReactor* UploadReactor::Start(const Context& context, grpc::CallbackServerContext* call,
                                    TransferSlots<SessionKey>& slots, Transfers& transfers,
                                    UnfinishedBodies& unfinished, v1::SubmitResponse* response) {
  auto* reactor = new UploadReactor(context, call, slots, transfers, unfinished, response);
  reactor->self_ = std::shared_ptr<UploadReactor>(reactor);
  const std::weak_ptr<UploadReactor> weak = reactor->self_;
  reactor->step_.emplace(context.deadlines, [weak] {
    if (const auto self = weak.lock()) self->StepPassed();
  });
  reactor->whole_.emplace(context.deadlines, [weak] {
    if (const auto self = weak.lock()) self->WholePassed();
  });
  reactor->step_->Within(context.limits.first_message_timeout);
  const auto caller = AdmitCall(context, *call, {"Submit"});
  if (!caller.ok()) {
    reactor->End(caller.status());
    return reactor;
  }
  reactor->caller_ = *caller;
  reactor->StartRead(&reactor->request_);
  return reactor;
}

void UploadReactor::OnReadDone(bool ok) {
  if (!ok) {
    if (has_body_) {
      OnBodyComplete();
    } else {
      End(base::InvalidArgument("HEADER_MISSING", "expected a header first, found the end"));
    }
    return;
  }
  if (!has_header_) {
    if (!request_.has_header()) {
      End(base::InvalidArgument("HEADER_MISSING", "expected a header first, found a chunk"));
      return;
    }
    has_header_ = true;
    {
      const base::MutexLock lock(mutex_);
      if (finished_) return;
      header_ = request_.header();
      step_->Clear();
      whole_->Within(context_.limits.transfer_timeout);
    }
    context_.core.Post([self = shared_from_this()] { self->OnHeader(); });
    return;
  }
  {
    const base::MutexLock lock(mutex_);
    if (finished_) return;
    adding_ = true;
  }
  const absl::Status added = AddChunk();
  {
    const base::MutexLock lock(mutex_);
    adding_ = false;
    if (finished_) {
      KeepBody();
      return;
    }
    if (added.ok()) {
      step_->Within(context_.limits.transfer_stall);
      StartRead(&request_);
      return;
    }
  }
  EndRefused(added);
}

void UploadReactor::OnHeader() {
  if (const absl::Status own = CheckSession(context_, caller_, header_.session()); !own.ok()) {
    End(own);
    return;
  }
  const absl::StatusOr<bool> duplicate = context_.jobs.Admit(header_);
  if (!duplicate.ok()) {
    End(duplicate.status());
    return;
  }
  if (*duplicate) {
    response_->set_duplicate(true);
    {
      const base::MutexLock lock(mutex_);
      whole_->Clear();
    }
    // The first one may still be on its way to the disk.
    context_.jobs.WhenWritten(
        [self = shared_from_this()](const absl::Status& status) { self->End(status); });
    return;
  }
  worker_ = context_.fleet.worker_of(header_.session());
  transfer_ = transfers_.Add(header_.session(), [weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->End(base::MakeError(absl::StatusCode::kAborted, "LEASE_EXPIRED", "the session ended"));
    }
  });
  const absl::Status waits =
      slots_.Acquire(slot_, header_.session(), [self = shared_from_this()] { self->BeginBody(); });
  if (!waits.ok()) EndAtLimit(waits);
}

// Runs once there is a slot.
void UploadReactor::BeginBody() {
  absl::StatusOr<std::unique_ptr<ReceivedBody>> body = OpenBody();
  {
    const base::MutexLock lock(mutex_);
    if (finished_) {
      if (body.ok() && (*body)->is_part()) unfinished_.Keep(worker_, *std::move(body));
      GiveBackSlot();
      return;
    }
    if (body.ok()) {
      body_ = *std::move(body);
      has_body_ = true;
      step_->Within(context_.limits.transfer_stall);
      // Workers send a large body once they see this, so that waiting uploads are not buffered
      // here.
      if (body_->received() > 0) {
        log::Info("upload_goes_on", {{"task", header_.task_id()}, {"offset", body_->received()}});
        call_->AddInitialMetadata(wire::kUploadOffset, std::to_string(body_->received()));
      }
      StartSendInitialMetadata();
      StartRead(&request_);
      return;
    }
  }
  End(body.status());
}

absl::StatusOr<std::unique_ptr<ReceivedBody>> UploadReactor::OpenBody() {
  auto part = unfinished_.Take(worker_, header_.body_sha256(), header_.body_bytes());
  if (part != nullptr) return part;
  return NewBody();
}

absl::StatusOr<std::unique_ptr<ReceivedBody>> UploadReactor::NewBody() const {
  std::unique_ptr<io::SpoolFile> spool;
  if (header_.body_bytes() > context_.limits.spool_threshold_bytes) {
    ESPALIER_ASSIGN_OR_RETURN(spool, io::SpoolFile::Create(io::PosixFileSystem(),
                                                           NewSpoolPath(context_.spool_directory)));
  }
  return std::make_unique<ReceivedBody>(header_.body_bytes(), header_.body_sha256(),
                                        std::move(spool));
}

absl::Status UploadReactor::AddChunk() {
  if (!request_.has_chunk()) {
    return base::InvalidArgument("CHUNK_OUT_OF_ORDER", "expected a chunk, found another header");
  }
  // A worker of an earlier version begins anew.
  if (request_.chunk().offset() == 0 && body_->received() > 0) {
    ESPALIER_ASSIGN_OR_RETURN(body_, NewBody());
  }
  return body_->Add(request_.chunk());
}

void UploadReactor::KeepBody() {
  if (body_ == nullptr || !body_->is_part()) return;
  context_.core.Post([&unfinished = unfinished_, self = shared_from_this()] {
    unfinished.Keep(self->worker_, std::move(self->body_));
  });
}

void UploadReactor::OnBodyComplete() {
  {
    const base::MutexLock lock(mutex_);
    if (finished_) return;
    step_->Clear();
    whole_->Clear();
    adding_ = true;
  }
  absl::StatusOr<round::Upload> upload = MakeUpload();
  {
    const base::MutexLock lock(mutex_);
    adding_ = false;
    if (finished_) {
      KeepBody();
      return;
    }
  }
  if (!upload.ok()) {
    EndRefused(upload.status());
    return;
  }
  // All has arrived; what remains is to wait for the disk.
  GiveBackSlot();
  auto shared = std::make_shared<round::Upload>(*std::move(upload));
  context_.core.Post([self = shared_from_this(), shared] {
    self->context_.jobs.Accept(std::move(*shared),
                               [self](const absl::Status& status) { self->End(status); });
  });
}

absl::StatusOr<round::Upload> UploadReactor::MakeUpload() {
  round::Upload upload;
  upload.header = header_;
  ESPALIER_ASSIGN_OR_RETURN(upload.body, body_->Finish());
  return upload;
}

void UploadReactor::OnCancel() { End(absl::CancelledError("the worker went away")); }

void UploadReactor::CountResult(const absl::Status& status) {
  metrics::Metrics& metrics = context_.metrics;
  CountCall(metrics, "Submit", status);
  if (status.ok()) {
    metrics.Add(Metric::kUpdates, 1, response_->duplicate() ? "duplicate" : "accepted");
    return;
  }
  const bool late = status.code() == absl::StatusCode::kAborted;
  metrics.Add(Metric::kUpdates, 1, late ? "late" : "rejected");
  metrics.Add(Metric::kUpdateRejections, 1, LowerCase(base::ReasonOf(status)));
  log::Warning("update_refused", {{"task", header_.task_id()},
                                  {"reason", base::ReasonOf(status)},
                                  {"message", base::MessageOf(status)}});
}

void UploadReactor::StepPassed() {
  {
    const base::MutexLock lock(mutex_);
    if (finished_) {
      if (call_ != nullptr) AbortCall(*call_, absl::CancelledError());
      return;
    }
  }
  EndAtLimit(has_body_ ? LimitError("TRANSFER_STALLED", "the next chunk of an update",
                                    context_.limits.transfer_stall, "send the update again")
                       : LimitError("HEADER_TIMEOUT", "the header of an update",
                                    context_.limits.first_message_timeout, "send it first"));
}

void UploadReactor::WholePassed() {
  EndAtLimit(LimitError("TRANSFER_TIMEOUT", "the end of an update",
                        context_.limits.transfer_timeout,
                        "send it again over a faster connection"));
}

void UploadReactor::EndAtLimit(const absl::Status& status) {
  CountLimit(context_, "Submit", status);
  End(status);
}

void UploadReactor::EndRefused(const absl::Status& status) {
  context_.core.Post(
      [self = shared_from_this(), status] { self->context_.jobs.Refused(self->header_, status); });
  End(status);
}

void UploadReactor::End(const absl::Status& status) {
  const base::MutexLock lock(mutex_);
  if (finished_) return;
  finished_ = true;
  whole_->Clear();
  step_->Within(context_.limits.stream_end_timeout);
  CountResult(status);
  Finish(rpc::ToGrpc(status));
  if (!adding_) KeepBody();
  GiveBackSlot();
}

// On the core, since whoever is next begins there and then.
void UploadReactor::GiveBackSlot() {
  context_.core.Post([self = shared_from_this()] { self->slots_.Release(self->slot_); });
}

void UploadReactor::OnDone() {
  {
    const base::MutexLock lock(mutex_);
    call_ = nullptr;
    step_->Clear();
  }
  // On the core, so that it comes after whatever the core still does with this object.
  context_.core.Post([self = std::move(self_)] { self->transfers_.Remove(self->transfer_); });
}

}  // namespace espalier::server::api
