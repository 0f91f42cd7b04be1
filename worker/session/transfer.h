// Transfer: fetching models from the coordinator and handing partial results in.
//
// Limits:    sizes, chunk length and timeouts come from the coordinator's Welcome.
// Retries:   a transfer that breaks (Unavailable) is resumed or repeated, kAttempts times in a row
//            without progress, over about 6 s; a repeated Submit carries the same update_id, so
//            it counts once.
// Threading: one task at a time.
// Errors:    the server's; DataLoss when bytes arrive damaged.
#pragma once

#include <grpcpp/channel.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/metrics/metrics.h"
#include "common/wire/blob.h"
#include "espalier/v1/worker.grpc.pb.h"

namespace espalier::worker::session {

class Transfer {
 public:
  Transfer(std::shared_ptr<grpc::Channel> channel, metrics::Metrics& metrics)
      : stub_(v1::WorkerService::NewStub(channel)), metrics_(metrics) {}

  void SetLimits(const v1::Welcome& welcome) { welcome_ = welcome; }
  // The bytes of `blob`, checked against its digest.
  absl::StatusOr<std::string> Fetch(const v1::BlobRef& blob);
  // Sends header and body; fills in session, size, digest and update id.
  absl::Status Submit(v1::PartialHeader header, std::string_view body);

  // What follows belongs to a task of this job ("jobs/{id}").
  void BeginTask(const std::string& job);
  // Ends a transfer under way, from another thread; later ones fail until BeginTask().
  void Cancel();

 private:
  static constexpr int kAttempts = 6;

  absl::Status FetchRest(const v1::BlobRef& blob, wire::BlobAssembler& assembler);
  absl::Status SubmitOnce(const v1::PartialHeader& header, std::string_view body);
  // Waits after the attempt of that number, from 1. False if none is left, or the task is
  // cancelled.
  bool MayRepeat(int attempt);
  void Begin(grpc::ClientContext& context);
  void Finish();

  std::unique_ptr<v1::WorkerService::Stub> stub_;
  metrics::Metrics& metrics_;
  v1::Welcome welcome_;
  std::string job_;
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::condition_variable cancel_;
  grpc::ClientContext* current_ = nullptr;  // guarded by mutex_
};

}  // namespace espalier::worker::session
