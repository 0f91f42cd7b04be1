#include "server/api/session.h"

#include <utility>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/rpc/status.h"
#include "server/api/calls.h"

namespace espalier::server::api {
namespace {

constexpr const char* kMethod = "Session";

}  // namespace

SessionReactor* SessionReactor::Start(const Context& context, grpc::CallbackServerContext* call) {
  auto* reactor = new SessionReactor(context, call);
  reactor->self_ = std::shared_ptr<SessionReactor>(reactor);
  reactor->deadline_.emplace(context.deadlines, [weak = reactor->weak_from_this()] {
    if (const auto self = weak.lock()) self->DeadlinePassed();
  });
  reactor->deadline_->Within(context.limits.first_message_timeout);
  const auto caller = AdmitCall(context, *call, {kMethod});
  if (!caller.ok()) {
    reactor->Close(caller.status());
    return reactor;
  }
  reactor->caller_ = *caller;
  reactor->open_call_ = context.access.open_calls.Add(
      *caller, [weak = reactor->weak_from_this()](const absl::Status& status) {
        if (const auto self = weak.lock()) self->Close(status);
      });
  reactor->StartRead(&reactor->incoming_);
  return reactor;
}

void SessionReactor::OnReadDone(bool ok) {
  if (!ok) {
    // The worker half-closed or vanished.
    const base::MutexLock lock(mutex_);
    FinishLocked(absl::OkStatus());
    return;
  }
  context_.core.Post([self = shared_from_this()] {
    self->Handle(self->incoming_);
    self->ReadNext();
  });
}

void SessionReactor::ReadNext() {
  const base::MutexLock lock(mutex_);
  if (!finished_ && !pending_end_.has_value()) StartRead(&incoming_);
}

absl::Status SessionReactor::CheckWorkerId(const v1::Register& hello) const {
  if (caller_.is_open() || hello.worker_id() == caller_.name) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kPermissionDenied, "WORKER_ID_MISMATCH",
                         "expected the worker's id to be '" + caller_.name +
                             "', for whom its certificate is, found '" +
                             base::Printable(hello.worker_id()) +
                             "'; leave --id out, or join under that id");
}

absl::Status SessionReactor::HandleRegister(const v1::Register& hello) {
  if (registered_) {
    return base::FailedPrecondition("ALREADY_REGISTERED",
                                    "expected one Register message per session, found a second");
  }
  const Subject subject{kMethod, "workers/" + hello.worker_id()};
  if (const absl::Status own = CheckWorkerId(hello); !own.ok()) {
    AuditCall(context_, caller_, subject, own);
    return own;
  }
  ESPALIER_ASSIGN_OR_RETURN(session_, context_.fleet.Register(hello, shared_from_this()));
  registered_ = true;
  AuditCall(context_, caller_, subject, absl::OkStatus());
  if (!caller_.is_open()) context_.fleet.NoteCertificateEnd(session_, caller_.expires);
  {
    const base::MutexLock lock(mutex_);
    if (!finished_ && !pending_end_.has_value()) deadline_->Clear();
  }
  log::Info("worker_registered", {{"worker", hello.worker_id()},
                                  {"version", hello.version()},
                                  {"datasets", hello.datasets_size()}});
  return absl::OkStatus();
}

void SessionReactor::Handle(const v1::WorkerMessage& message) {
  if (message.has_register_()) {
    const absl::Status status = HandleRegister(message.register_());
    if (!status.ok()) {
      log::Warning("worker_refused", {{"worker", message.register_().worker_id()},
                                      {"reason", base::ReasonOf(status)}});
      Close(status);
    }
    return;
  }
  if (!registered_) {
    Close(base::FailedPrecondition("NOT_REGISTERED",
                                   "expected Register as the first message of a session"));
    return;
  }
  if (message.has_heartbeat()) context_.fleet.Heartbeat(session_, message.heartbeat());
  if (message.has_task_failed()) context_.fleet.TaskFailed(session_, message.task_failed());
  if (message.has_drain()) {
    log::Info("worker_leaves", {{"worker", context_.fleet.worker_of(session_)}});
    context_.fleet.Leave(session_);
  }
  if (message.has_description()) context_.jobs.Describe(session_, message.description());
}

void SessionReactor::Send(const v1::CoordinatorMessage& message) {
  const base::MutexLock lock(mutex_);
  if (finished_ || pending_end_.has_value()) return;
  if (outgoing_.size() >= static_cast<size_t>(context_.limits.max_session_queue)) {
    FinishLocked(base::MakeError(absl::StatusCode::kResourceExhausted, "SESSION_QUEUE_FULL",
                                 "the worker does not read its session; register again"));
    return;
  }
  outgoing_.push_back(message);
  if (!writing_) {
    writing_ = true;
    StartWrite(&outgoing_.front());
  }
}

void SessionReactor::OnWriteDone(bool ok) {
  const base::MutexLock lock(mutex_);
  writing_ = false;
  outgoing_.pop_front();
  if (!ok) {
    FinishLocked(absl::CancelledError("the worker went away"));
  } else if (pending_end_.has_value()) {
    FinishLocked(*pending_end_);
  } else if (!outgoing_.empty()) {
    writing_ = true;
    StartWrite(&outgoing_.front());
  }
}

void SessionReactor::Close(const absl::Status& status) {
  const base::MutexLock lock(mutex_);
  FinishLocked(status);
}

void SessionReactor::OnCancel() {
  const base::MutexLock lock(mutex_);
  FinishLocked(absl::CancelledError("the worker went away"));
}

void SessionReactor::DeadlinePassed() {
  const base::MutexLock lock(mutex_);
  if (finished_ || pending_end_.has_value()) {
    if (call_ != nullptr) AbortCall(*call_, pending_end_.value_or(absl::CancelledError()));
    return;
  }
  const absl::Status late =
      LimitError("REGISTER_TIMEOUT", "Register as the first message of a session",
                 context_.limits.first_message_timeout, "send it first");
  CountLimit(context_, "Session", late);
  FinishLocked(late);
}

void SessionReactor::FinishLocked(const absl::Status& status) {
  if (finished_) return;
  deadline_->Within(context_.limits.stream_end_timeout);
  if (writing_) {
    if (!pending_end_.has_value()) pending_end_ = status;
    return;
  }
  finished_ = true;
  CountCall(context_.metrics, "Session", status);
  Finish(rpc::ToGrpc(status));
}

void SessionReactor::OnDone() {
  {
    const base::MutexLock lock(mutex_);
    call_ = nullptr;
    deadline_->Clear();
  }
  context_.access.open_calls.Remove(open_call_);
  context_.core.Post([self = std::move(self_)] {
    if (!self->registered_) return;
    const std::string worker = self->context_.fleet.worker_of(self->session_);
    self->context_.fleet.Disconnected(self->session_);
    if (worker.empty()) return;
    const v1::Worker* view = self->context_.fleet.Find(worker);
    if (view != nullptr && view->state() == v1::Worker::STATE_LEFT) {
      log::Info("worker_left", {{"worker", worker}});
    } else {
      log::Warning("worker_disconnected", {{"worker", worker}});
    }
  });
}

}  // namespace espalier::server::api
