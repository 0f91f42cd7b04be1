// Upload: one Submit call. The header is checked by the core before a byte of the body is read; the
// body goes to memory when it is small and to a file when not; then the core merges it and the call
// is answered.
//
// Broken: what has arrived of a large body is kept for ten minutes. A later upload of the same bytes, by
//         the same worker and by their digest, is told in the initial metadata ("espalier-offset") that it may go on there,
//         and does so with the offset of its first chunk.
// Limits: the header must arrive within limits.first_message_timeout, each chunk within
// limits.transfer_stall of the last, and all of it, the wait for a slot included, within
// limits.transfer_timeout.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "common/base/mutex.h"
#include "espalier/v1/worker.pb.h"
#include "server/api/context.h"
#include "server/api/deadlines.h"
#include "server/api/received_body.h"
#include "server/api/session_key.h"
#include "server/api/transfer_slots.h"
#include "server/api/worker_service.h"

namespace espalier::server::api {

class UploadReactor : public grpc::ServerReadReactor<v1::SubmitRequest>,
                      public std::enable_shared_from_this<UploadReactor> {
 public:
  static UploadReactor* Start(const Context& context, grpc::CallbackServerContext* call,
                              TransferSlots<SessionKey>& slots, Transfers& transfers,
                              UnfinishedBodies& unfinished, v1::SubmitResponse* response);

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  UploadReactor(const Context& context, grpc::CallbackServerContext* call,
                TransferSlots<SessionKey>& slots, Transfers& transfers,
                UnfinishedBodies& unfinished, v1::SubmitResponse* response)
      : context_(context),
        call_(call),
        slots_(slots),
        transfers_(transfers),
        unfinished_(unfinished),
        response_(response),
        slot_(slots.NewId()) {}

  void OnHeader();
  void BeginBody();
  // On the core.
  absl::StatusOr<std::unique_ptr<ReceivedBody>> OpenBody();
  absl::StatusOr<std::unique_ptr<ReceivedBody>> NewBody() const;
  absl::Status AddChunk();
  // Lets another upload go on with what has arrived.
  void KeepBody() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnBodyComplete();
  absl::StatusOr<round::Upload> MakeUpload();
  void End(const absl::Status& status);
  // The body is not the one that the header announced.
  void EndRefused(const absl::Status& status);
  // Nothing came in time, or the ended call does not leave.
  void StepPassed();
  void WholePassed();
  void EndAtLimit(const absl::Status& status);
  void GiveBackSlot();
  void CountResult(const absl::Status& status);

  const Context& context_;
  grpc::CallbackServerContext* call_ ABSL_GUARDED_BY(mutex_);  // null when gRPC is done
  TransferSlots<SessionKey>& slots_;
  Transfers& transfers_;
  UnfinishedBodies& unfinished_;
  v1::SubmitResponse* response_;
  std::shared_ptr<UploadReactor> self_;

  access::Caller caller_;
  v1::SubmitRequest request_;
  v1::PartialHeader header_;  // written once, with mutex_ held: a deadline may log it meanwhile
  bool has_header_ = false;
  std::string worker_;  // that sends it; core only
  std::atomic<bool> has_body_{false};
  std::unique_ptr<ReceivedBody> body_;
  uint64_t transfer_ = 0;

  const uint64_t slot_;
  std::optional<Deadline> step_;  // header, then each chunk, then the end
  std::optional<Deadline> whole_;
  base::Mutex mutex_;
  bool adding_ ABSL_GUARDED_BY(mutex_) = false;  // the body is being used
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace espalier::server::api
