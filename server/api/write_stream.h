// WriteStream: a server stream whose messages are produced one at a time, when the last one has
// left. A slow reader therefore costs one message of memory.
//
// Threading: Pump() may be called from any thread; Produce() is never called concurrently.
#pragma once

#include <grpcpp/server_context.h>
#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>

#include "absl/status/status.h"
#include "common/rpc/status.h"

namespace espalier::server::api {

template <typename Message>
class WriteStream : public grpc::ServerWriteReactor<Message> {
 public:
  // Sends what there is. Call once to begin, and whenever there may be something new.
  void Pump() {
    const std::lock_guard lock(mutex_);
    if (writing_ || finished_) return;
    absl::Status end;
    bool at_end = false;
    message_.Clear();
    if (Produce(message_, at_end, end)) {
      writing_ = true;
      this->StartWrite(&message_);
    } else if (at_end) {
      FinishLocked(end);
    }
  }

  // Ends the stream early.
  void End(const absl::Status& status) {
    const std::lock_guard lock(mutex_);
    FinishLocked(status);
  }

  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
      if (!ok) {
        FinishLocked(absl::CancelledError("the reader went away"));
        return;
      }
      if (pending_end_.has_value()) {
        FinishLocked(*pending_end_);
        return;
      }
    }
    Pump();
  }

  void OnCancel() override {
    const std::lock_guard lock(mutex_);
    FinishLocked(absl::CancelledError("the reader went away"));
  }

 protected:
  // Fills `message` and returns true, or returns false: `at_end` then says whether the stream is
  // over, with `end` as its status.
  virtual bool Produce(Message& message, bool& at_end, absl::Status& end) = 0;
  // Called once, when the stream's status is decided.
  virtual void Ended(const absl::Status& status) {}

 private:
  void FinishLocked(const absl::Status& status) {
    if (finished_) return;
    if (writing_) {
      if (!pending_end_.has_value()) pending_end_ = status;
      return;
    }
    finished_ = true;
    Ended(status);
    this->Finish(rpc::ToGrpc(status));
  }

  std::mutex mutex_;
  Message message_;
  bool writing_ = false;
  bool finished_ = false;
  std::optional<absl::Status> pending_end_;
};

}  // namespace espalier::server::api
