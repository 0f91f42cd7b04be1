#include "server/object_store/s3_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "server/object_store/s3_error.h"

namespace espalier::server::object_store {
namespace {

constexpr uint64_t kFirstWindow = uint64_t{256} << 10;
// What is asked for in one request, so that a failure costs little.
constexpr uint64_t kMaxRequest = uint64_t{16} << 20;

}  // namespace

S3ReadableFile::S3ReadableFile(std::shared_ptr<S3Client> client, std::string key, ObjectInfo info)
    : client_(std::move(client)), key_(std::move(key)), info_(std::move(info)) {}

std::shared_ptr<const S3ReadableFile::Block> S3ReadableFile::Find(uint64_t offset) const {
  const base::MutexLock lock(mutex_);
  for (Slot& slot : slots_) {
    if (slot.block == nullptr || offset < slot.block->begin || offset >= slot.block->end()) {
      continue;
    }
    slot.last_use = ++uses_;
    return slot.block;
  }
  return nullptr;
}

uint64_t S3ReadableFile::Window(uint64_t offset, uint64_t size) const {
  const uint64_t longest = client_->options().read_ahead_bytes;
  uint64_t window = std::min(kFirstWindow, longest);
  {
    const base::MutexLock lock(mutex_);
    for (const Slot& slot : slots_) {
      // Reads go on where a block ended.
      if (slot.block != nullptr && slot.block->end() == offset) {
        window = std::max(window, std::min<uint64_t>(longest, 2 * slot.block->bytes.size()));
      }
    }
  }
  return std::min(std::max(window, size), info_.size - offset);
}

void S3ReadableFile::Keep(std::shared_ptr<const Block> block) const {
  const base::MutexLock lock(mutex_);
  // In place of the block that it continues, else of the one that was used least recently.
  auto place = std::find_if(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    return slot.block != nullptr && slot.block->end() == block->begin;
  });
  if (place == slots_.end()) {
    place = std::min_element(slots_.begin(), slots_.end(),
                             [](const Slot& a, const Slot& b) { return a.last_use < b.last_use; });
  }
  place->block = std::move(block);
  place->last_use = ++uses_;
}

absl::StatusOr<std::shared_ptr<const S3ReadableFile::Block>> S3ReadableFile::Fetch(
    uint64_t offset, uint64_t size) const {
  auto block = std::make_shared<Block>();
  block->begin = offset;
  block->bytes.resize(size);
  ESPALIER_RETURN_IF_ERROR(client_->Get(key_, info_.etag, offset, block->bytes.data(), size));
  return block;
}

absl::Status S3ReadableFile::ReadAt(uint64_t offset, void* out, size_t size) const {
  if (offset > info_.size || size > info_.size - offset) {
    return base::MakeError(absl::StatusCode::kOutOfRange, "FILE_TRUNCATED",
                           fmt::format("expected {} bytes at byte {} of '{}', found that it has {}",
                                       size, offset, NameOf(client_->options(), key_), info_.size));
  }
  char* next = static_cast<char*>(out);
  while (size > 0) {
    std::shared_ptr<const Block> block = Find(offset);
    if (block == nullptr && size >= client_->options().read_ahead_bytes) {
      // Long enough to go where it is wanted at once.
      const size_t part = std::min<uint64_t>(size, kMaxRequest);
      ESPALIER_RETURN_IF_ERROR(client_->Get(key_, info_.etag, offset, next, part));
      next += part;
      offset += part;
      size -= part;
      continue;
    }
    if (block == nullptr) {
      ESPALIER_ASSIGN_OR_RETURN(block, Fetch(offset, Window(offset, size)));
      Keep(block);
    }
    const size_t part = std::min<uint64_t>(size, block->end() - offset);
    std::memcpy(next, block->bytes.data() + (offset - block->begin), part);
    next += part;
    offset += part;
    size -= part;
  }
  return absl::OkStatus();
}

}  // namespace espalier::server::object_store
