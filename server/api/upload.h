// Upload: one Submit call. The header is checked by the core before a byte of the body is read; the
// body goes to memory when it is small and to a file when not; then the core merges it and the call
// is answered.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "common/io/spool_file.h"
#include "common/wire/blob.h"
#include "espalier/v1/worker.pb.h"
#include "server/api/context.h"
#include "server/api/transfer_slots.h"
#include "server/api/worker_service.h"

namespace espalier::server::api {

class UploadReactor : public grpc::ServerReadReactor<v1::SubmitRequest>,
                      public std::enable_shared_from_this<UploadReactor> {
 public:
  static UploadReactor* Start(const Context& context, TransferSlots& slots, Transfers& transfers,
                              v1::SubmitResponse* response);

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  UploadReactor(const Context& context, TransferSlots& slots, Transfers& transfers,
                v1::SubmitResponse* response)
      : context_(context), slots_(slots), transfers_(transfers), response_(response) {}

  void OnHeader();
  void BeginBody();
  absl::Status OpenBody();
  absl::Status AddChunk();
  void OnBodyComplete();
  absl::StatusOr<round::Upload> MakeUpload();
  void End(const absl::Status& status);
  void CountResult(const absl::Status& status);

  const Context& context_;
  TransferSlots& slots_;
  Transfers& transfers_;
  v1::SubmitResponse* response_;
  std::shared_ptr<UploadReactor> self_;

  v1::SubmitRequest request_;
  v1::PartialHeader header_;
  bool has_header_ = false;
  bool has_body_ = false;
  std::optional<wire::BlobAssembler> assembler_;
  std::shared_ptr<std::string> memory_;
  std::shared_ptr<io::SpoolFile> spool_;
  uint64_t transfer_ = 0;

  std::mutex mutex_;
  bool finished_ = false;
  bool holds_slot_ = false;
};

}  // namespace espalier::server::api
