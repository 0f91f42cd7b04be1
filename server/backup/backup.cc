#include "server/backup/backup.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/io/sha256.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/pretrained/part_store.h"
#include "server/store/sqlite_store.h"

namespace espalier::server::backup {
namespace {

namespace fs = std::filesystem;

constexpr char kStore[] = "/jobs.sqlite";
constexpr char kParts[] = "/parts";
constexpr char kCheckpoints[] = "/checkpoints";
constexpr char kUnfinished[] = ".unfinished";

// To a file that is not there yet.
absl::Status CopyFile(const std::string& from, const std::string& to) {
  constexpr uint64_t kPiece = uint64_t{1} << 20;
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_ASSIGN_OR_RETURN(const auto source, files.Open(from));
  ESPALIER_ASSIGN_OR_RETURN(const auto target, files.Create(to));
  std::string piece;
  for (uint64_t at = 0; at < source->size(); at += piece.size()) {
    piece.resize(std::min(kPiece, source->size() - at));
    ESPALIER_RETURN_IF_ERROR(source->ReadAt(at, piece.data(), piece.size()));
    ESPALIER_RETURN_IF_ERROR(target->Append(piece));
  }
  ESPALIER_RETURN_IF_ERROR(target->Sync());
  return target->Close();
}

bool Exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool IsEmptyFolder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error) && fs::is_empty(path, error);
}

// Without a "/" at its end.
std::string FolderName(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

bool IsPart(const std::string& name) { return io::IsSha256Hex(name); }
bool IsCheckpoint(const std::string& name) { return name.ends_with(".safetensors"); }

// One file that never changes once it has its name; false: it has gone meanwhile, and nobody needs
// it.
absl::StatusOr<bool> TakeFile(const std::string& from, const std::string& to) {
  if (Exists(to)) return true;
  std::error_code error;
  fs::create_hard_link(from, to, error);
  if (!error) return true;
  // On another file system, or on one without links.
  const absl::Status copied = CopyFile(from, to);
  if (copied.ok()) return true;
  fs::remove(to, error);
  if (!Exists(from)) return false;
  return copied;
}

// The files of a folder that are `wanted` by their names and not there yet.
absl::Status TakeFiles(const std::string& from, const std::string& to,
                       bool (*wanted)(const std::string& name)) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(to));
  if (!Exists(from)) return absl::OkStatus();
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(from));
  for (const std::string& name : names) {
    if (!wanted(name)) continue;
    ESPALIER_RETURN_IF_ERROR(TakeFile(from + "/" + name, to + "/" + name).status());
  }
  return files.SyncDirectory(to);
}

absl::Status Damaged(const std::string& file, const absl::Status& why) {
  return base::MakeError(absl::StatusCode::kDataLoss, "BACKUP_DAMAGED",
                         fmt::format("expected {} as it was written, found it damaged ({}); use "
                                     "another backup",
                                     file, base::MessageOf(why)));
}

// Reads everything.
absl::StatusOr<Contents> Verify(const std::string& folder) {
  io::FileSystem& files = io::PosixFileSystem();
  Contents contents;
  {
    ESPALIER_ASSIGN_OR_RETURN(const auto store, store::SqliteStore::Open(folder + kStore));
    std::vector<std::string> names;
    ESPALIER_RETURN_IF_ERROR(store->Jobs([&names](const store::StoredJob& job) {
      names.push_back(job.job);
      return absl::OkStatus();
    }));
    for (const std::string& name : names) ESPALIER_RETURN_IF_ERROR(store->Read(name).status());
    contents.jobs = static_cast<int64_t>(names.size());
  }
  pretrained::PartStore parts(files, folder + kParts);
  parts.KeepFiles();
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> digests, files.List(folder + kParts));
  for (const std::string& digest : digests) {
    const auto part = parts.Find(digest);
    if (!part.ok()) return Damaged(folder + kParts + ("/" + digest), part.status());
  }
  contents.parts = static_cast<int64_t>(digests.size());
  ESPALIER_ASSIGN_OR_RETURN(const auto checkpoints,
                            checkpoint::CheckpointStore::Open(files, folder + kCheckpoints));
  for (const auto& damaged : checkpoints->damaged()) {
    return Damaged(folder + kCheckpoints + ("/" + damaged.file), damaged.reason);
  }
  contents.checkpoints = static_cast<int64_t>(checkpoints->List("").size());
  return contents;
}

}  // namespace

absl::StatusOr<Contents> BackUp(const std::string& data_dir, const std::string& folder) {
  const std::string target = FolderName(folder);
  io::FileSystem& files = io::PosixFileSystem();
  if (!Exists(data_dir + kStore)) {
    return base::FailedPrecondition(
        "STORE_NOT_FOUND",
        fmt::format("expected the data folder of a coordinator at --data-dir '{}', found none; "
                    "name the folder that has jobs.sqlite in it",
                    data_dir));
  }
  if (Exists(target) && !IsEmptyFolder(target)) {
    return base::FailedPrecondition(
        "BACKUP_TARGET_USED",
        fmt::format("expected a new or empty folder for the backup, found '{}' with files in it; "
                    "name another",
                    target));
  }
  std::error_code error;
  const std::string work = target + kUnfinished;
  fs::remove_all(work, error);
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(work));
  // Most before, so that nobody waits for it, and what has come since while nothing can be written.
  const auto take_parts = [&] { return TakeFiles(data_dir + kParts, work + kParts, IsPart); };
  ESPALIER_RETURN_IF_ERROR(take_parts());
  ESPALIER_RETURN_IF_ERROR(store::SqliteStore::Copy(data_dir + kStore, work + kStore, take_parts));
  ESPALIER_RETURN_IF_ERROR(TakeFiles(data_dir + kCheckpoints, work + kCheckpoints, IsCheckpoint));
  ESPALIER_ASSIGN_OR_RETURN(const Contents contents, Verify(work));
  ESPALIER_RETURN_IF_ERROR(files.SyncDirectory(work));
  fs::remove(target, error);
  ESPALIER_RETURN_IF_ERROR(files.Rename(work, target));
  const std::string parent = fs::path(target).parent_path().string();
  ESPALIER_RETURN_IF_ERROR(files.SyncDirectory(parent.empty() ? "." : parent));
  return contents;
}

namespace {

// Everything but the lock and what is made anew.
absl::StatusOr<Contents> Assemble(const std::string& source, const std::string& work,
                                  uint64_t incarnation) {
  ESPALIER_RETURN_IF_ERROR(io::PosixFileSystem().CreateDirectories(work));
  ESPALIER_RETURN_IF_ERROR(TakeFiles(source + kParts, work + kParts, IsPart));
  ESPALIER_RETURN_IF_ERROR(TakeFiles(source + kCheckpoints, work + kCheckpoints, IsCheckpoint));
  ESPALIER_RETURN_IF_ERROR(CopyFile(source + kStore, work + kStore));
  ESPALIER_ASSIGN_OR_RETURN(const Contents contents, Verify(work));
  ESPALIER_RETURN_IF_ERROR(store::SqliteStore::BeginAnew(work + kStore, incarnation));
  return contents;
}

}  // namespace

absl::StatusOr<Contents> Restore(const std::string& folder, const std::string& data_dir,
                                 uint64_t incarnation) {
  const std::string source = FolderName(folder);
  if (!Exists(source + kStore)) {
    return base::FailedPrecondition(
        "STORE_NOT_FOUND",
        fmt::format("expected a backup in '{}', found none; name a folder that --backup made",
                    source));
  }
  const char* const all[] = {kCheckpoints, kParts, kStore};
  for (const std::string part : all) {
    const std::string used = data_dir + part;
    if (!Exists(used) || IsEmptyFolder(used)) continue;
    return base::FailedPrecondition(
        "RESTORE_TARGET_USED",
        fmt::format("expected a --data-dir without jobs, parts and checkpoints, found '{}'; move "
                    "all of the folder away or name another",
                    used));
  }
  const std::string work = data_dir + "/restore" + kUnfinished;
  std::error_code error;
  fs::remove_all(work, error);
  const absl::StatusOr<Contents> contents = Assemble(source, work, incarnation);
  io::FileSystem& files = io::PosixFileSystem();
  if (contents.ok()) {
    // The store comes last: with it the folder is whole.
    for (const std::string part : all) {
      fs::remove(data_dir + part, error);
      ESPALIER_RETURN_IF_ERROR(files.Rename(work + part, data_dir + part));
    }
  }
  fs::remove_all(work, error);
  ESPALIER_RETURN_IF_ERROR(files.SyncDirectory(data_dir));
  return contents;
}

}  // namespace espalier::server::backup
