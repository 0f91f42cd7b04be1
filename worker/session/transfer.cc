#include "worker/session/transfer.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/string_view.h"
#include "common/base/entropy.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/log/log.h"
#include "common/rpc/status.h"
#include "common/wire/blob.h"
#include "common/wire/proto_time.h"

namespace espalier::worker::session {
namespace {

using metrics::Metric;

constexpr auto kFirstBackoff = std::chrono::milliseconds(200);
// From the last message that could be read to the end of a download.
constexpr auto kEndTimeout = std::chrono::seconds(5);

// 128 random bits in hexadecimal digits: unique among all workers and restarts.
std::string NewUpdateId() { return absl::BytesToHexString(base::SystemEntropy().Bytes(16)); }

// Ends the call of `context` unless it is gone within kEndTimeout. Reading stops at a message that
// cannot be parsed, too; then nobody takes what still comes, and the end might never arrive.
class EndsSoon {
 public:
  explicit EndsSoon(grpc::ClientContext& context)
      : thread_([&context](const std::stop_token& stop) {
          if (base::SleepUnlessStopped(kEndTimeout, stop)) context.TryCancel();
        }) {}

 private:
  std::jthread thread_;
};

}  // namespace

class Transfer::Call {
 public:
  Call(Transfer& transfer, grpc::ClientContext& context) : transfer_(transfer) {
    context.set_deadline(
        std::chrono::system_clock::now() +
        absl::ToChronoNanoseconds(wire::FromProto(transfer.Limits().transfer_timeout())));
    const base::MutexLock lock(transfer.mutex_);
    transfer.current_ = &context;
    if (transfer.cancelled_) context.TryCancel();
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  // Also when an exception passes, for instance of a message for which there is no memory.
  ~Call() {
    const base::MutexLock lock(transfer_.mutex_);
    transfer_.current_ = nullptr;
  }

 private:
  Transfer& transfer_;
};

void Transfer::Use(Stub stub) {
  const base::MutexLock lock(mutex_);
  stub_ = std::move(stub);
}

Transfer::Stub Transfer::stub() {
  const base::MutexLock lock(mutex_);
  return stub_;
}

void Transfer::SetLimits(const v1::Welcome& welcome) {
  const base::MutexLock lock(mutex_);
  welcome_ = welcome;
}

v1::Welcome Transfer::Limits() {
  const base::MutexLock lock(mutex_);
  return welcome_;
}

std::string Transfer::Job() {
  const base::MutexLock lock(mutex_);
  return job_;
}

void Transfer::BeginTask(const std::string& job) {
  const base::MutexLock lock(mutex_);
  job_ = job;
  cancelled_ = false;
}

void Transfer::Cancel() {
  const base::MutexLock lock(mutex_);
  cancelled_ = true;
  if (current_ != nullptr) current_->TryCancel();
  cancel_.NotifyAll();
}

bool Transfer::MayRepeat(const absl::Status& status, Repeats& repeats) {
  const Fault fault = FaultOf(status);
  const int count = cancelled_ ? 0 : repeats.Count(fault);
  if (count == 0) return false;
  if (fault == Fault::kDamaged) {
    log::Warning("transfer_damaged",
                 {{"reason", base::ReasonOf(status)}, {"message", base::MessageOf(status)}});
  }
  const base::MutexLock lock(mutex_);
  return !cancel_.WaitFor(mutex_, kFirstBackoff * (1 << (count - 1)),
                          [this] { return cancelled_.load(); });
}

absl::Status Transfer::FetchRest(const v1::BlobRef& blob, wire::BlobAssembler& assembler) {
  grpc::ClientContext context;
  const Call call(*this, context);
  v1::FetchRequest request;
  request.set_session(Limits().session());
  request.set_digest(blob.digest());
  request.set_offset(assembler.received());
  request.set_job(Job());
  const Stub stub = this->stub();
  auto reader = stub->Fetch(&context, request);
  v1::Chunk chunk;
  absl::Status status;
  while (status.ok() && reader->Read(&chunk)) status = assembler.Add(chunk);
  std::optional<EndsSoon> ends_soon;
  if (!status.ok()) {
    context.TryCancel();
  } else if (!assembler.complete()) {
    ends_soon.emplace(context);
  }
  const absl::Status finished = rpc::FromGrpc(reader->Finish());
  if (!status.ok()) return status;
  if (!finished.ok() || assembler.complete()) return finished;
  return base::MakeError(absl::StatusCode::kDataLoss, "BLOB_SIZE_MISMATCH",
                         fmt::format("expected {} bytes of a blob, found the end after {}",
                                     blob.size_bytes(), assembler.received()));
}

absl::Status Transfer::FetchAll(const v1::BlobRef& blob, wire::BlobAssembler& assembler) {
  absl::Status status;
  Repeats repeats;
  do {
    const uint64_t before = assembler.received();
    status = FetchRest(blob, assembler);
    if (assembler.received() > before) repeats.Progress();
    // A connection that breaks behind the last byte took nothing away.
  } while (!assembler.complete() && MayRepeat(status, repeats));
  return assembler.complete() ? assembler.Finish() : status;
}

absl::StatusOr<std::string> Transfer::FetchInChunks(const v1::BlobRef& blob) {
  std::string data;
  absl::Status status;
  Repeats repeats;
  do {
    data.clear();
    wire::BlobAssembler assembler(blob.size_bytes(), blob.digest(),
                                  [&data](std::string_view bytes) {
                                    data.append(bytes);
                                    return absl::OkStatus();
                                  });
    status = FetchAll(blob, assembler);
    // Only a wrong digest of the whole makes all of it worth another attempt.
  } while (data.size() == blob.size_bytes() && MayRepeat(status, repeats));
  if (FaultOf(status) == Fault::kDamaged) return DamagedTooOften(status);
  ESPALIER_RETURN_IF_ERROR(status);
  metrics_.Add(Metric::kWorkerTransferBytes, static_cast<double>(data.size()), "fetched");
  return data;
}

absl::StatusOr<std::string> Transfer::Fetch(const v1::BlobRef& blob) {
  if (blob.inline_().empty() && blob.size_bytes() > 0) return FetchInChunks(blob);
  const absl::Status status = wire::CheckBlob(blob.inline_(), blob.size_bytes(), blob.digest());
  if (status.ok()) return blob.inline_();
  // The coordinator keeps what travels inside a task to be fetched as well.
  log::Warning("transfer_damaged",
               {{"reason", base::ReasonOf(status)}, {"message", base::MessageOf(status)}});
  return FetchInChunks(blob);
}

namespace {

// Where the coordinator wants an upload to begin: it has what is before that.
uint64_t OffsetOf(const grpc::ClientContext& context, uint64_t size) {
  const auto& metadata = context.GetServerInitialMetadata();
  const auto it = metadata.find(wire::kUploadOffset);
  uint64_t offset = 0;
  if (it == metadata.end() ||
      !absl::SimpleAtoi(absl::string_view(it->second.data(), it->second.size()), &offset) ||
      offset >= size) {
    return 0;
  }
  return offset;
}

}  // namespace

absl::Status Transfer::SubmitOnce(const v1::PartialHeader& header, std::string_view body) {
  grpc::ClientContext context;
  const Call call(*this, context);
  v1::SubmitResponse response;
  const Stub stub = this->stub();
  auto writer = stub->Submit(&context, &response);
  v1::SubmitRequest request;
  *request.mutable_header() = header;
  bool open = writer->Write(request);
  // The coordinator answers the header when it has a place for the body. Small bodies need none.
  uint64_t begin = 0;
  if (open && body.size() > Limits().inline_bytes()) {
    writer->WaitForInitialMetadata();
    begin = OffsetOf(context, body.size());
  }
  const size_t chunk_bytes = std::max<uint32_t>(1, Limits().chunk_bytes());
  for (uint64_t offset = begin; open && offset < body.size(); offset += chunk_bytes) {
    *request.mutable_chunk() = wire::ChunkAt(body, offset, chunk_bytes);
    open = writer->Write(request);
  }
  if (open) writer->WritesDone();
  return rpc::FromGrpc(writer->Finish());
}

absl::Status Transfer::Submit(v1::PartialHeader header, std::string_view body) {
  header.set_session(Limits().session());
  header.set_update_id(NewUpdateId());
  header.set_body_bytes(body.size());
  header.set_body_sha256(io::Sha256Hex(body));
  absl::Status status;
  Repeats repeats;
  do {
    status = SubmitOnce(header, body);
  } while (MayRepeat(status, repeats));
  if (FaultOf(status) == Fault::kDamaged) return DamagedTooOften(status);
  if (status.ok()) {
    metrics_.Add(Metric::kWorkerTransferBytes, static_cast<double>(body.size()), "submitted");
  }
  return status;
}

}  // namespace espalier::worker::session
