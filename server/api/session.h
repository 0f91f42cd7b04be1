// Session: the stream of one worker, as the fleet's WorkerLink.
//
// Ownership: the reactor keeps itself alive until gRPC and the core are both done with it.
// Limits:    Register must arrive within limits.first_message_timeout. At most
//            limits.max_session_queue messages wait; a worker that reads slower is disconnected.
//            The next message is read only after the core has handled the last one. A stream that
//            ended but does not leave is cancelled after limits.stream_end_timeout.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <memory>
#include <optional>

#include "common/base/mutex.h"
#include "espalier/v1/worker.pb.h"
#include "server/api/context.h"
#include "server/api/deadlines.h"
#include "server/api/session_key.h"

namespace espalier::server::api {

class SessionReactor : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>,
                       public scheduler::WorkerLink,
                       public std::enable_shared_from_this<SessionReactor> {
 public:
  static SessionReactor* Start(const Context& context, grpc::CallbackServerContext* call);

  // From the core.
  void Send(const v1::CoordinatorMessage& message) override;
  void Close(const absl::Status& status) override;

  // From gRPC.
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  SessionReactor(const Context& context, grpc::CallbackServerContext* call)
      : context_(context), call_(call) {}
  // That it says of itself what its certificate says.
  absl::Status CheckWorkerId(const v1::Register& hello) const;
  void Handle(const v1::WorkerMessage& message);
  absl::Status HandleRegister(const v1::Register& hello);
  void ReadNext();
  void FinishLocked(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Register has not come in time, or the ended stream does not leave.
  void DeadlinePassed();

  const Context& context_;
  grpc::CallbackServerContext* call_ ABSL_GUARDED_BY(mutex_);  // null when gRPC is done
  std::shared_ptr<SessionReactor> self_;
  base::Mutex mutex_;
  access::Caller caller_;
  uint64_t open_call_ = 0;
  v1::WorkerMessage incoming_;
  std::deque<v1::CoordinatorMessage> outgoing_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> pending_end_ ABSL_GUARDED_BY(mutex_);
  std::optional<Deadline> deadline_;
  SessionKey session_;       // core only
  bool registered_ = false;  // core only
};

}  // namespace espalier::server::api
