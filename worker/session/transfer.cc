#include "worker/session/transfer.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/rpc/status.h"
#include "common/wire/blob.h"
#include "common/wire/proto_time.h"

namespace espalier::worker::session {
namespace {

using metrics::Metric;

constexpr auto kFirstBackoff = std::chrono::milliseconds(200);

// Unique among all workers and restarts.
std::string NewUpdateId(const std::string& task_id, const v1::Epoch& epoch) {
  return task_id + "-" + std::to_string(epoch.counter()) + "-" + std::to_string(getpid()) + "-" +
         std::to_string(absl::GetCurrentTimeNanos());
}

}  // namespace

void Transfer::Begin(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() +
                       absl::ToChronoNanoseconds(wire::FromProto(welcome_.transfer_timeout())));
  const std::lock_guard lock(mutex_);
  current_ = &context;
  if (cancelled_) context.TryCancel();
}

void Transfer::Finish() {
  const std::lock_guard lock(mutex_);
  current_ = nullptr;
}

void Transfer::BeginTask(const std::string& job) {
  job_ = job;
  cancelled_ = false;
}

void Transfer::Cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (current_ != nullptr) current_->TryCancel();
  cancel_.notify_all();
}

bool Transfer::MayRepeat(int attempt) {
  if (attempt >= kAttempts) return false;
  std::unique_lock lock(mutex_);
  return !cancel_.wait_for(lock, kFirstBackoff * (1 << (attempt - 1)),
                           [this] { return cancelled_.load(); });
}

absl::Status Transfer::FetchRest(const v1::BlobRef& blob, wire::BlobAssembler& assembler) {
  grpc::ClientContext context;
  Begin(context);
  v1::FetchRequest request;
  request.set_session(welcome_.session());
  request.set_digest(blob.digest());
  request.set_offset(assembler.received());
  request.set_job(job_);
  auto reader = stub_->Fetch(&context, request);
  v1::Chunk chunk;
  absl::Status status;
  while (status.ok() && reader->Read(&chunk)) status = assembler.Add(chunk);
  if (!status.ok()) context.TryCancel();
  const absl::Status finished = rpc::FromGrpc(reader->Finish());
  Finish();
  return status.ok() ? finished : status;
}

absl::StatusOr<std::string> Transfer::Fetch(const v1::BlobRef& blob) {
  if (!blob.inline_().empty() || blob.size_bytes() == 0) {
    ESPALIER_RETURN_IF_ERROR(wire::CheckBlob(blob.inline_(), blob.size_bytes(), blob.digest()));
    return blob.inline_();
  }
  std::string data;
  wire::BlobAssembler assembler(blob.size_bytes(), blob.digest(), [&data](std::string_view bytes) {
    data.append(bytes);
    return absl::OkStatus();
  });
  absl::Status status;
  int attempt = 0;
  do {
    const uint64_t before = assembler.received();
    status = FetchRest(blob, assembler);
    attempt = assembler.received() > before ? 1 : attempt + 1;
  } while (status.code() == absl::StatusCode::kUnavailable && MayRepeat(attempt));
  ESPALIER_RETURN_IF_ERROR(status);
  ESPALIER_RETURN_IF_ERROR(assembler.Finish());
  metrics_.Add(Metric::kWorkerTransferBytes, static_cast<double>(data.size()), "fetched");
  return data;
}

absl::Status Transfer::SubmitOnce(const v1::PartialHeader& header, std::string_view body) {
  grpc::ClientContext context;
  Begin(context);
  v1::SubmitResponse response;
  auto writer = stub_->Submit(&context, &response);
  v1::SubmitRequest request;
  *request.mutable_header() = header;
  bool open = writer->Write(request);
  // The coordinator answers the header when it has a place for the body. Small bodies need none.
  if (open && body.size() > welcome_.inline_bytes()) writer->WaitForInitialMetadata();
  const size_t chunk_bytes = std::max<uint32_t>(1, welcome_.chunk_bytes());
  for (uint64_t offset = 0; open && offset < body.size(); offset += chunk_bytes) {
    *request.mutable_chunk() = wire::ChunkAt(body, offset, chunk_bytes);
    open = writer->Write(request);
  }
  if (open) writer->WritesDone();
  const absl::Status status = rpc::FromGrpc(writer->Finish());
  Finish();
  return status;
}

absl::Status Transfer::Submit(v1::PartialHeader header, std::string_view body) {
  header.set_session(welcome_.session());
  header.set_update_id(NewUpdateId(header.task_id(), header.epoch()));
  header.set_body_bytes(body.size());
  header.set_body_sha256(io::Sha256Hex(body));
  absl::Status status;
  int attempt = 0;
  do {
    status = SubmitOnce(header, body);
  } while (status.code() == absl::StatusCode::kUnavailable && MayRepeat(++attempt));
  if (status.ok()) {
    metrics_.Add(Metric::kWorkerTransferBytes, static_cast<double>(body.size()), "submitted");
  }
  return status;
}

}  // namespace espalier::worker::session
