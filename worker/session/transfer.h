// Transfer: fetching models from the coordinator and handing partial results in.
//
// Limits:    sizes, chunk length and timeouts come from the coordinator's Welcome.
// Retries:   a transfer that breaks is resumed or repeated up to 5 times in a row, over about 6 s;
//            one whose bytes arrive damaged up to 3 times; a refusal that a damaged header would
//            also get is believed when it comes again (transfer_errors.h). A Fetch goes on behind
//            the last good chunk, and begins anew when the whole has another digest. A repeated
//            Submit carries the same update_id, so it counts once.
// Threading: one task at a time.
// Errors:    the server's; TRANSFER_DAMAGED (DataLoss) when bytes arrive damaged again and again.
#pragma once

#include <grpcpp/client_context.h>

#include <atomic>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "common/metrics/metrics.h"
#include "common/wire/blob.h"
#include "espalier/v1/worker.grpc.pb.h"
#include "worker/session/transfer_errors.h"

namespace espalier::worker::session {

class Transfer {
 public:
  explicit Transfer(metrics::Metrics& metrics) : metrics_(metrics) {}

  // Transfers that begin from now on go over this connection. Before the first of them.
  using Stub = std::shared_ptr<v1::WorkerService::Stub>;
  void Use(Stub stub);
  // What the coordinator says when it takes the worker. A task of an earlier connection may still be
  // in work.
  void SetLimits(const v1::Welcome& welcome);
  // The bytes of `blob`, checked against its digest.
  absl::StatusOr<std::string> Fetch(const v1::BlobRef& blob);
  // Sends header and body; fills in session, size, digest and update id.
  absl::Status Submit(v1::PartialHeader header, std::string_view body);

  // What follows belongs to a task of this job ("jobs/{id}").
  void BeginTask(const std::string& job);
  // Ends a transfer under way, from another thread; later ones fail until BeginTask().
  void Cancel();

 private:
  // The call under way, as long as this lives: Cancel() ends it.
  class Call;

  absl::StatusOr<std::string> FetchInChunks(const v1::BlobRef& blob);
  absl::Status FetchAll(const v1::BlobRef& blob, wire::BlobAssembler& assembler);
  absl::Status FetchRest(const v1::BlobRef& blob, wire::BlobAssembler& assembler);
  absl::Status SubmitOnce(const v1::PartialHeader& header, std::string_view body);
  // Waits before another attempt after one that ended with `status`. False if there must be none,
  // or the task is cancelled.
  bool MayRepeat(const absl::Status& status, Repeats& repeats);

  Stub stub();

  metrics::Metrics& metrics_;
  Stub stub_ ABSL_GUARDED_BY(mutex_);
  v1::Welcome Limits();
  std::string Job();
  v1::Welcome welcome_ ABSL_GUARDED_BY(mutex_);
  std::string job_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> cancelled_{false};
  base::Mutex mutex_;
  base::CondVar cancel_;
  grpc::ClientContext* current_ ABSL_GUARDED_BY(mutex_) = nullptr;
};

}  // namespace espalier::worker::session
