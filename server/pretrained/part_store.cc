#include "server/pretrained/part_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <mutex>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/log/log.h"

namespace espalier::server::pretrained {
namespace {

bool IsDigest(std::string_view text) {
  constexpr size_t kLength = 64;
  return text.size() == kLength && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

}  // namespace

// What store and parts share. A file is removed by the last of those who hold it.
class PartStore::Files : public std::enable_shared_from_this<PartStore::Files> {
 public:
  Files(io::FileSystem& files, std::string directory)
      : files_(files), directory_(std::move(directory)) {}

  absl::StatusOr<Part> Put(std::string_view bytes) {
    const std::string digest = io::Sha256Hex(bytes);
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (auto held = Held(digest)) return Part{digest, std::move(held)};
    const std::string aside = PathOf("new-" + digest);
    {
      ESPALIER_ASSIGN_OR_RETURN(const auto file, files_.Create(aside));
      ESPALIER_RETURN_IF_ERROR(file->Append(bytes));
      ESPALIER_RETURN_IF_ERROR(file->Close());
    }
    ESPALIER_RETURN_IF_ERROR(files_.Rename(aside, PathOf(digest)));
    return Open(digest);
  }

  absl::StatusOr<Part> Find(const std::string& digest) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    if (auto held = Held(digest)) return Part{digest, std::move(held)};
    absl::StatusOr<Part> part = IsDigest(digest) ? Open(digest) : absl::NotFoundError("");
    if (!part.ok()) {
      return base::NotFound("PART_MISSING",
                            fmt::format("expected a part of a language model that was left by a "
                                        "job in work, found none of the name {}; start the job "
                                        "again",
                                        digest));
    }
    if (io::Sha256Hex(part->bytes()) == digest) return part;
    return base::MakeError(absl::StatusCode::kDataLoss, "PART_CORRUPT",
                           fmt::format("expected the part {} as it was written, found other bytes "
                                       "in its file; start the job again",
                                       digest));
  }

  void Keep() {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    keep_ = true;
  }

 private:
  std::string PathOf(const std::string& name) const { return directory_ + "/" + name; }

  std::shared_ptr<const io::MappedFile> Held(const std::string& digest) const {
    const auto found = held_.find(digest);
    return found == held_.end() ? nullptr : found->second.lock();
  }

  absl::StatusOr<Part> Open(const std::string& digest) {
    ESPALIER_ASSIGN_OR_RETURN(std::unique_ptr<io::MappedFile> mapped,
                              io::MappedFile::Open(PathOf(digest)));
    const std::shared_ptr<const io::MappedFile> file(
        mapped.release(), [self = shared_from_this(), digest](const io::MappedFile* done) {
          delete done;
          self->LetGo(digest);
        });
    held_[digest] = file;
    return Part{digest, file};
  }

  void LetGo(const std::string& digest) {
    const std::lock_guard<std::recursive_mutex> lock(mutex_);
    const auto found = held_.find(digest);
    // Somebody may have put the same bytes again.
    if (found == held_.end() || !found->second.expired()) return;
    held_.erase(found);
    if (keep_) return;
    const absl::Status removed = files_.Remove(PathOf(digest));
    if (!removed.ok()) log::Warning("part_not_removed", {{"message", base::MessageOf(removed)}});
  }

  io::FileSystem& files_;
  const std::string directory_;
  // A part that is let go of while another is looked for comes back here.
  std::recursive_mutex mutex_;
  bool keep_ = false;
  std::map<std::string, std::weak_ptr<const io::MappedFile>> held_;
};

PartStore::PartStore(io::FileSystem& files, std::string directory)
    : files_(std::make_shared<Files>(files, std::move(directory))) {}

absl::StatusOr<Part> PartStore::Put(std::string_view bytes) { return files_->Put(bytes); }

absl::StatusOr<Part> PartStore::Find(const std::string& digest) const {
  return files_->Find(digest);
}

void PartStore::KeepFiles() { files_->Keep(); }

}  // namespace espalier::server::pretrained
