#include "server/object_store/s3_transfer.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "common/base/status.h"

namespace espalier::server::object_store {
namespace {

constexpr uint64_t kMaxParts = 10'000;
constexpr uint64_t kPartUnit = uint64_t{1} << 20;

// Sends part `number`, which begins at `offset`, and returns its ETag.
using SendPart = std::function<absl::StatusOr<std::string>(const Upload& upload, int number,
                                                           uint64_t offset, uint64_t size)>;

// Larger than asked for where there would be too many parts.
uint64_t PartBytes(uint64_t size, uint64_t asked_for) {
  const uint64_t least = (size + kMaxParts - 1) / kMaxParts;
  return std::max(asked_for, (least + kPartUnit - 1) / kPartUnit * kPartUnit);
}

absl::Status SendParts(S3Client& client, const Upload& upload, uint64_t size, uint64_t part_bytes,
                       const SendPart& send) {
  std::vector<std::string> etags;
  for (uint64_t offset = 0; offset < size; offset += part_bytes) {
    const int number = static_cast<int>(etags.size()) + 1;
    const uint64_t bytes = std::min(part_bytes, size - offset);
    ESPALIER_ASSIGN_OR_RETURN(etags.emplace_back(), send(upload, number, offset, bytes));
  }
  return client.CompleteUpload(upload, etags);
}

absl::Status SendInParts(S3Client& client, const std::string& key, uint64_t size,
                         uint64_t part_bytes, const SendPart& send) {
  absl::Status status;
  // When the answer to completing an upload is lost, nobody can say whether the object that has the
  // name now is the one that was sent: then all of it is sent once more.
  for (int attempt = 0; attempt < 2; ++attempt) {
    ESPALIER_ASSIGN_OR_RETURN(const Upload upload, client.StartUpload(key));
    status = SendParts(client, upload, size, part_bytes, send);
    if (status.ok()) return status;
    if (base::ReasonOf(status) == "UPLOAD_LOST") continue;
    const absl::Status aborted = client.AbortUpload(upload);
    if (aborted.ok()) return status;
    return base::MakeError(
        status.code(), base::ReasonOf(status),
        base::MessageOf(status) +
            "; the parts that were sent could not be removed either, and cost room until a "
            "lifecycle rule of the bucket for uploads that were not completed removes them");
  }
  return status;
}

}  // namespace

absl::Status UploadObject(S3Client& client, const std::string& key, const io::ReadableFile& file) {
  const uint64_t size = file.size();
  const uint64_t part_bytes = client.options().part_bytes;
  if (size <= part_bytes) return client.Put(key, {&file, 0, size});
  return SendInParts(client, key, size, PartBytes(size, part_bytes),
                     [&](const Upload& upload, int number, uint64_t offset, uint64_t bytes) {
                       return client.PutPart(upload, number, {&file, offset, bytes});
                     });
}

absl::Status CopyObject(S3Client& client, const std::string& from, const ObjectInfo& info,
                        const std::string& to) {
  const uint64_t part_bytes = client.options().copy_part_bytes;
  if (info.size <= part_bytes) return client.Copy(from, info.etag, to);
  return SendInParts(client, to, info.size, PartBytes(info.size, part_bytes),
                     [&](const Upload& upload, int number, uint64_t offset, uint64_t bytes) {
                       return client.CopyPart(upload, number, from, info.etag, offset, bytes);
                     });
}

}  // namespace espalier::server::object_store
