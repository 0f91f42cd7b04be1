#include "server/pretrained/part_store.h"

#include <fmt/core.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <set>

#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/sha256.h"
#include "common/log/log.h"

namespace espalier::server::pretrained {

// What store and parts share. A file is removed by the last of those who hold it, which takes the
// lock; so nobody lets go of one with the lock.
class PartStore::Files : public std::enable_shared_from_this<PartStore::Files> {
 public:
  Files(io::FileSystem& files, std::string directory)
      : files_(files), directory_(std::move(directory)) {}

  // `digest` is that of all pieces, or is held against them when `check`.
  absl::StatusOr<Part> Put(const std::string& digest,
                           const std::function<absl::Status(const Sink&)>& source, bool check) {
    std::shared_ptr<const io::MappedFile> held;
    std::string aside;
    {
      const base::MutexLock lock(mutex_);
      held = Held(digest);
      aside = PathOf("new-" + std::to_string(next_aside_++) +
                     std::string(io::AtomicFile::kTemporarySuffix));
    }
    if (held != nullptr) return Part{digest, std::move(held)};
    // Without the lock, since others must not wait for the disk.
    const absl::Status written = Write(aside, source, check ? &digest : nullptr);
    if (!written.ok()) {
      (void)files_.Remove(aside);
      return written;
    }
    absl::StatusOr<Part> part = Publish(aside, digest);
    if (part.ok() && sync_) ESPALIER_RETURN_IF_ERROR(files_.SyncDirectory(directory_));
    return part;
  }

  absl::StatusOr<Part> Find(const std::string& digest) {
    ESPALIER_ASSIGN_OR_RETURN(Part part, Hold(digest));
    {
      const base::MutexLock lock(mutex_);
      if (!unchecked_.contains(digest)) return part;
    }
    if (io::Sha256Hex(part.bytes()) != digest) return OtherBytes(digest);
    const base::MutexLock lock(mutex_);
    unchecked_.erase(digest);
    return part;
  }

  absl::StatusOr<Part> Hold(const std::string& digest) {
    const auto keeper = std::make_shared<Keeper>(shared_from_this(), digest);
    std::shared_ptr<const io::MappedFile> held;
    {
      const base::MutexLock lock(mutex_);
      held = Held(digest);
      if (held == nullptr) {
        const absl::Status opened =
            io::IsSha256Hex(digest) ? Open(keeper) : absl::NotFoundError("");
        if (absl::IsNotFound(opened)) {
          return base::NotFound(
              "PART_MISSING",
              fmt::format("expected a part of a model that was left by a job in work, found none "
                          "of the name {}; start the job again",
                          digest));
        }
        ESPALIER_RETURN_IF_ERROR(opened);
        unchecked_.insert(digest);
        held = FileOf(keeper);
      }
    }
    return Part{digest, std::move(held)};
  }

  void Sync() { sync_ = true; }

  void Keep() {
    const base::MutexLock lock(mutex_);
    keep_ = true;
  }

  absl::Status Sweep() {
    const base::MutexLock lock(mutex_);
    ESPALIER_ASSIGN_OR_RETURN(const auto names, files_.List(directory_));
    for (const std::string& name : names) {
      if (!IsHeld(name)) Remove(name);
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Write(const std::string& path,
                     const std::function<absl::Status(const Sink&)>& source,
                     const std::string* digest) {
    ESPALIER_ASSIGN_OR_RETURN(const std::unique_ptr<io::WritableFile> file, files_.Create(path));
    io::Sha256 hash;
    ESPALIER_RETURN_IF_ERROR(source([&](std::string_view piece) {
      if (digest != nullptr) hash.Update(piece);
      return file->Append(piece);
    }));
    if (digest != nullptr && hash.HexDigest() != *digest) return OtherBytes(*digest);
    if (sync_) ESPALIER_RETURN_IF_ERROR(file->Sync());
    return file->Close();
  }

  absl::StatusOr<Part> Publish(const std::string& aside, const std::string& digest) {
    const auto keeper = std::make_shared<Keeper>(shared_from_this(), digest);
    std::shared_ptr<const io::MappedFile> held;
    {
      const base::MutexLock lock(mutex_);
      held = Held(digest);
      if (held != nullptr) {
        // Somebody else was quicker.
        ESPALIER_RETURN_IF_ERROR(files_.Remove(aside));
      } else {
        ESPALIER_RETURN_IF_ERROR(files_.Rename(aside, PathOf(digest)));
        ESPALIER_RETURN_IF_ERROR(Open(keeper));
        held = FileOf(keeper);
      }
    }
    return Part{digest, std::move(held)};
  }

  static absl::Status OtherBytes(const std::string& digest) {
    return base::MakeError(absl::StatusCode::kDataLoss, "PART_CORRUPT",
                           fmt::format("expected the part {} as it was written, found other bytes "
                                       "in its file; start the job again",
                                       digest));
  }

  void Remove(const std::string& name) {
    const absl::Status removed = files_.Remove(PathOf(name));
    if (!removed.ok()) log::Warning("part_not_removed", {{"message", base::MessageOf(removed)}});
  }

  std::string PathOf(const std::string& name) const { return directory_ + "/" + name; }

  std::shared_ptr<const io::MappedFile> Held(const std::string& digest) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = held_.find(digest);
    return found == held_.end() ? nullptr : found->second.lock();
  }

  bool IsHeld(const std::string& digest) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = held_.find(digest);
    return found != held_.end() && !found->second.expired();
  }

  // The mapping that holders of a part share. It is made without the lock and filled with it, so
  // that it is also let go of without the lock when filling it fails.
  struct Keeper {
    Keeper(std::shared_ptr<Files> files, std::string name)
        : all(std::move(files)), digest(std::move(name)) {}
    ~Keeper() {
      if (file == nullptr) return;
      file.reset();
      all->LetGo(digest);
    }
    Keeper(const Keeper&) = delete;
    Keeper& operator=(const Keeper&) = delete;

    const std::shared_ptr<Files> all;
    const std::string digest;
    std::unique_ptr<io::MappedFile> file;
  };

  static std::shared_ptr<const io::MappedFile> FileOf(const std::shared_ptr<Keeper>& keeper) {
    return {keeper, keeper->file.get()};
  }

  absl::Status Open(const std::shared_ptr<Keeper>& keeper) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ESPALIER_ASSIGN_OR_RETURN(keeper->file, io::MappedFile::Open(PathOf(keeper->digest)));
    held_[keeper->digest] = FileOf(keeper);
    return absl::OkStatus();
  }

  void LetGo(const std::string& digest) ABSL_LOCKS_EXCLUDED(mutex_) {
    const base::MutexLock lock(mutex_);
    const auto found = held_.find(digest);
    // Somebody may have put the same bytes again.
    if (found == held_.end() || !found->second.expired()) return;
    held_.erase(found);
    unchecked_.erase(digest);
    if (!keep_) Remove(digest);
  }

  io::FileSystem& files_;
  const std::string directory_;
  std::atomic<bool> sync_ = false;
  base::Mutex mutex_;
  uint64_t next_aside_ ABSL_GUARDED_BY(mutex_) = 1;
  bool keep_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<std::string, std::weak_ptr<const io::MappedFile>> held_ ABSL_GUARDED_BY(mutex_);
  // Of those held: files of another process, not read yet.
  std::set<std::string> unchecked_ ABSL_GUARDED_BY(mutex_);
};

PartStore::PartStore(io::FileSystem& files, std::string directory)
    : files_(std::make_shared<Files>(files, std::move(directory))) {}

absl::StatusOr<Part> PartStore::Put(std::string_view bytes) {
  return files_->Put(
      io::Sha256Hex(bytes), [bytes](const Sink& sink) { return sink(bytes); }, /*check=*/false);
}

absl::StatusOr<Part> PartStore::PutPieces(
    const std::string& digest, const std::function<absl::Status(const Sink& sink)>& source) {
  return files_->Put(digest, source, /*check=*/true);
}

absl::StatusOr<Part> PartStore::Find(const std::string& digest) const {
  return files_->Find(digest);
}

absl::StatusOr<Part> PartStore::Hold(const std::string& digest) const {
  return files_->Hold(digest);
}

void PartStore::SyncFiles() { files_->Sync(); }

void PartStore::KeepFiles() { files_->Keep(); }

absl::Status PartStore::Sweep() { return files_->Sweep(); }

}  // namespace espalier::server::pretrained
