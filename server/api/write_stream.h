// WriteStream: a server stream whose messages are produced one at a time, when the last one has
// left. A slow reader therefore costs one message of memory.
//
// Limits:    a message that has not left within the stall limit ends the stream, as does a limit
//            for the whole stream. The call is then cancelled with the limit's status, because
//            nothing else reaches a peer that does not read. So is one that ended but does not
//            leave within limits.stream_end_timeout.
// Ownership: made by std::make_shared and given to Start(); lives until gRPC and the core are done
//            with it.
// Threading: Pump() and End() may be called from any thread; Produce() is never called
//            concurrently.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "common/base/mutex.h"
#include "common/rpc/status.h"
#include "server/api/calls.h"
#include "server/api/deadlines.h"

namespace espalier::server::api {

template <typename Message>
class WriteStream : public grpc::ServerWriteReactor<Message>,
                    public std::enable_shared_from_this<WriteStream<Message>> {
 public:
  // A limit, and the status of a stream that passes it.
  struct Limit {
    absl::Duration within;
    absl::Status status;
  };

  WriteStream(const Context& context, const char* method, grpc::CallbackServerContext* call,
              Limit stall)
      : context_(context), method_(method), call_(call), stall_(std::move(stall)) {}

  // Gives the object to gRPC. The stream is silent until Pump() or End(), and over where its caller may
  // not make the call.
  template <typename Stream>
  static Stream* Start(std::shared_ptr<Stream> stream, const Subject& subject) {
    WriteStream& base = *stream;
    base.self_ = stream;
    const std::weak_ptr<WriteStream> weak = base.weak_from_this();
    base.stall_deadline_.emplace(base.context_.deadlines, [weak] {
      if (const auto self = weak.lock()) self->Stalled();
    });
    base.whole_deadline_.emplace(base.context_.deadlines, [weak] {
      if (const auto self = weak.lock()) self->WholePassed();
    });
    base.subject_ = subject;
    {
      const base::MutexLock lock(base.mutex_);
      base.caller_ = AdmitCall(base.context_, *base.call_, subject);
    }
    if (!base.caller_.ok()) base.End(base.caller_.status());
    return stream.get();
  }

  // Known once it has started.
  const absl::StatusOr<access::Caller>& caller() const { return caller_; }

  // For a stream that has no other end than its reader's: it takes one of the places that its caller has
  // for those (access/call_rates.h), and ends when the caller is known no more. False: no place is left,
  // and the stream is over. Once at most.
  bool StayOpen() {
    absl::StatusOr<access::CallRates::Stream> place;
    {
      const base::MutexLock lock(mutex_);
      place = OpenPlace(context_, *call_, *caller_);
    }
    if (!place.ok()) {
      CountLimit(context_, method_, place.status());
      End(place.status());
      return false;
    }
    place_ = *std::move(place);
    open_call_ = context_.access.open_calls.Add(
        *caller_, [weak = this->weak_from_this()](const absl::Status& status) {
          if (const auto self = weak.lock()) self->End(status);
        });
    return true;
  }

  // Sends what there is. Call once to begin, and whenever there may be something new.
  void Pump() {
    const base::MutexLock lock(mutex_);
    if (writing_ || decided_.has_value()) return;
    absl::Status end;
    bool at_end = false;
    message_.Clear();
    if (Produce(message_, at_end, end)) {
      writing_ = true;
      stall_deadline_->Within(stall_.within);
      this->StartWrite(&message_);
    } else if (at_end) {
      DecideLocked(end);
    }
  }

  // Ends the stream early, without waiting for a message that has not left.
  void End(const absl::Status& status) {
    const base::MutexLock lock(mutex_);
    DecideLocked(status);
  }

  void OnWriteDone(bool ok) override {
    {
      const base::MutexLock lock(mutex_);
      writing_ = false;
      stall_deadline_->Clear();
      if (decided_.has_value()) {
        FinishLocked();
        return;
      }
      if (!ok) {
        DecideLocked(absl::CancelledError("the reader went away"));
        return;
      }
    }
    Pump();
  }

  void OnCancel() override { End(absl::CancelledError("the reader went away")); }

  void OnDone() override {
    {
      const base::MutexLock lock(mutex_);
      call_ = nullptr;
      stall_deadline_->Clear();
    }
    context_.access.open_calls.Remove(open_call_);
    place_ = {};
    // On the core, so that it comes after whatever the core still does with this object.
    context_.core.Post([self = std::move(self_)] { self->Released(); });
  }

 protected:
  // Fills `message` and returns true, or returns false: `at_end` then says whether the stream is
  // over, with `end` as its status.
  virtual bool Produce(Message& message, bool& at_end, absl::Status& end) = 0;
  // Called once, when the stream's status is decided; must not call back into the stream.
  virtual void Ended() {}
  // Called once, on the core, when gRPC is done with the stream.
  virtual void Released() {}

  // Limits the whole stream from now on. Once at most.
  void LimitWhole(Limit limit) {
    const base::MutexLock lock(mutex_);
    whole_ = std::move(limit);
    whole_deadline_->Within(whole_->within);
  }

  const Context& context() const { return context_; }

 private:
  // A message has not left in time, or the end has not.
  void Stalled() {
    const base::MutexLock lock(mutex_);
    if (!decided_.has_value()) {
      PassLocked(stall_);
    } else if (call_ != nullptr) {
      AbortCall(*call_, *decided_);
    }
  }

  void WholePassed() {
    const base::MutexLock lock(mutex_);
    if (!decided_.has_value()) PassLocked(*whole_);
  }

  void PassLocked(const Limit& limit) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    CountLimit(context_, method_, limit.status);
    DecideLocked(limit.status);
  }

  void DecideLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (decided_.has_value()) return;
    decided_ = status;
    whole_deadline_->Clear();
    CountCall(context_.metrics, method_, status);
    if (caller_.ok()) AuditCall(context_, *caller_, subject_, status);
    Ended();
    if (!writing_) {
      FinishLocked();
    } else if (call_ != nullptr) {
      // OnWriteDone follows, and finishes.
      AbortCall(*call_, status);
    }
  }

  void FinishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    stall_deadline_->Within(context_.limits.stream_end_timeout);
    this->Finish(rpc::ToGrpc(*decided_));
  }

  const Context& context_;
  const char* const method_;
  Subject subject_{""};
  absl::StatusOr<access::Caller> caller_ = absl::UnknownError("not asked yet");
  uint64_t open_call_ = 0;
  access::CallRates::Stream place_;
  base::Mutex mutex_;
  grpc::CallbackServerContext* call_ ABSL_GUARDED_BY(mutex_);  // null when gRPC is done
  const Limit stall_;
  std::optional<Limit> whole_ ABSL_GUARDED_BY(mutex_);
  std::optional<Deadline> stall_deadline_;
  std::optional<Deadline> whole_deadline_;
  std::shared_ptr<WriteStream> self_;
  Message message_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> decided_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace espalier::server::api
