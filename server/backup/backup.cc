#include "server/backup/backup.h"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"
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

// The files of a folder that never change once they have their names. One that goes meanwhile is
// needed by nobody.
absl::StatusOr<int64_t> TakeFiles(const std::string& from, const std::string& to) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(to));
  if (!fs::is_directory(from)) return 0;
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(from));
  int64_t taken = 0;
  for (const std::string& name : names) {
    const std::string source = from + "/" + name;
    const std::string target = to + "/" + name;
    if (!fs::is_regular_file(source)) continue;
    std::error_code error;
    fs::create_hard_link(source, target, error);
    const absl::Status copied = error ? CopyFile(source, target) : absl::OkStatus();
    if (!copied.ok() && !fs::exists(source)) continue;
    ESPALIER_RETURN_IF_ERROR(copied);
    ++taken;
  }
  ESPALIER_RETURN_IF_ERROR(files.SyncDirectory(to));
  return taken;
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

absl::StatusOr<Contents> BackUp(const std::string& data_dir, const std::string& target) {
  io::FileSystem& files = io::PosixFileSystem();
  if (!fs::exists(data_dir + kStore)) {
    return base::FailedPrecondition(
        "STORE_NOT_FOUND",
        fmt::format("expected the data folder of a coordinator at --data-dir '{}', found none; "
                    "name the folder that has jobs.sqlite in it",
                    data_dir));
  }
  std::error_code error;
  if (fs::exists(target) && !fs::is_empty(target, error)) {
    return base::FailedPrecondition(
        "BACKUP_TARGET_USED",
        fmt::format("expected a new or empty folder for the backup, found '{}' with files in it; "
                    "name another",
                    target));
  }
  const std::string work = target + kUnfinished;
  fs::remove_all(work, error);
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(work));
  ESPALIER_RETURN_IF_ERROR(store::SqliteStore::Copy(data_dir + kStore, work + kStore, [&] {
    return TakeFiles(data_dir + kParts, work + kParts).status();
  }));
  ESPALIER_RETURN_IF_ERROR(TakeFiles(data_dir + kCheckpoints, work + kCheckpoints).status());
  ESPALIER_ASSIGN_OR_RETURN(const Contents contents, Verify(work));
  ESPALIER_RETURN_IF_ERROR(files.SyncDirectory(work));
  fs::remove(target, error);
  ESPALIER_RETURN_IF_ERROR(files.Rename(work, target));
  return contents;
}

absl::StatusOr<Contents> Restore(const std::string& source, const std::string& data_dir,
                                 uint64_t incarnation) {
  if (!fs::exists(source + kStore)) {
    return base::FailedPrecondition(
        "STORE_NOT_FOUND",
        fmt::format("expected a backup in '{}', found none; name a folder that --backup made",
                    source));
  }
  for (const std::string& used : {data_dir + kStore, data_dir + kCheckpoints}) {
    std::error_code error;
    if (!fs::exists(used) || (fs::is_directory(used) && fs::is_empty(used, error))) continue;
    return base::FailedPrecondition(
        "RESTORE_TARGET_USED",
        fmt::format("expected a --data-dir without jobs and checkpoints, found '{}'; move it away "
                    "or name another folder",
                    used));
  }
  ESPALIER_RETURN_IF_ERROR(Verify(source).status());
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(data_dir));
  ESPALIER_RETURN_IF_ERROR(TakeFiles(source + kParts, data_dir + kParts).status());
  ESPALIER_RETURN_IF_ERROR(TakeFiles(source + kCheckpoints, data_dir + kCheckpoints).status());
  // The store comes last, under its name: with it the folder is whole.
  const std::string work = data_dir + kStore + kUnfinished;
  ESPALIER_RETURN_IF_ERROR(
      store::SqliteStore::Copy(source + kStore, work, [] { return absl::OkStatus(); }));
  ESPALIER_RETURN_IF_ERROR(store::SqliteStore::BeginAnew(work, incarnation));
  ESPALIER_RETURN_IF_ERROR(files.Rename(work, data_dir + kStore));
  ESPALIER_RETURN_IF_ERROR(files.SyncDirectory(data_dir));
  return Verify(data_dir);
}

}  // namespace espalier::server::backup
