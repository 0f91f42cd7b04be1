#include "server/backup/backup.h"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/io/sha256.h"
#include "common/log/log.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/pretrained/part_store.h"
#include "server/store/records/records.pb.h"
#include "server/store/sqlite_store.h"

namespace espalier::server::backup {
namespace {

namespace fs = std::filesystem;

constexpr char kStore[] = "/jobs.sqlite";
constexpr char kParts[] = "/parts";
constexpr char kCheckpoints[] = "/checkpoints";
constexpr char kLog[] = "-wal";
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
    const std::string source = fmt::format("{}/{}", from, name);
    ESPALIER_RETURN_IF_ERROR(TakeFile(source, fmt::format("{}/{}", to, name)).status());
  }
  return files.SyncDirectory(to);
}

absl::Status Damaged(const std::string& file, const absl::Status& why) {
  return base::MakeError(absl::StatusCode::kDataLoss, "BACKUP_DAMAGED",
                         fmt::format("expected {} as it was written, found it damaged ({}); use "
                                     "another backup",
                                     file, base::MessageOf(why)));
}

// The parts that a job of the store needs are there.
absl::Status CheckParts(const store::StoredJob& job, const std::string& folder) {
  store::StateRecord state;
  std::vector<std::string> named;
  if (!state.ParseFromString(job.state)) {
    return Damaged(folder + kStore, absl::DataLossError("the state of " + job.job));
  }
  named.assign(state.files().begin(), state.files().end());
  for (const store::StoredUpdate& update : job.updates) {
    store::UpdateRecord record;
    if (!record.ParseFromString(update.bytes)) {
      return Damaged(folder + kStore, absl::DataLossError("an update of " + job.job));
    }
    if (record.has_file()) named.push_back(record.file());
  }
  for (const std::string& digest : named) {
    const std::string file = fmt::format("{}{}/{}", folder, kParts, digest);
    if (!Exists(file)) {
      return Damaged(file, absl::NotFoundError("it is not there, and " + job.job + " needs it"));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<int64_t> VerifyStore(const std::string& folder) {
  std::error_code error;
  const std::string file = folder + kStore;
  // An empty file would be taken for a new store.
  if (fs::file_size(file, error) == 0 || error) {
    return Damaged(file, absl::DataLossError("it is empty"));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto store, store::SqliteStore::Open(file));
  std::vector<std::string> names;
  ESPALIER_RETURN_IF_ERROR(store->Jobs([&names](const store::StoredJob& job) {
    names.push_back(job.job);
    return absl::OkStatus();
  }));
  for (const std::string& name : names) {
    ESPALIER_ASSIGN_OR_RETURN(const store::StoredJob job, store->Read(name));
    ESPALIER_RETURN_IF_ERROR(CheckParts(job, folder));
  }
  return static_cast<int64_t>(names.size());
}

// Reads everything. Checkpoints that are damaged are an error, or are left out where they are so in
// the coordinator's own folder as well.
enum class Damage { kIsAnError, kIsLeftOut };
absl::StatusOr<Contents> Verify(const std::string& folder, Damage damage) {
  io::FileSystem& files = io::PosixFileSystem();
  Contents contents;
  ESPALIER_ASSIGN_OR_RETURN(contents.jobs, VerifyStore(folder));
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
    const std::string file = fmt::format("{}{}/{}", folder, kCheckpoints, damaged.file);
    if (damage == Damage::kIsAnError) return Damaged(file, damaged.reason);
    log::Warning("checkpoint_not_backed_up",
                 {{"file", damaged.file}, {"message", base::MessageOf(damaged.reason)}});
    ESPALIER_RETURN_IF_ERROR(files.Remove(file));
  }
  contents.checkpoints = static_cast<int64_t>(checkpoints->List("").size());
  return contents;
}

absl::Status TakeAll(const std::string& from, const std::string& to) {
  ESPALIER_RETURN_IF_ERROR(TakeFiles(from + kParts, to + kParts, IsPart));
  return TakeFiles(from + kCheckpoints, to + kCheckpoints, IsCheckpoint);
}

}  // namespace

absl::StatusOr<Contents> BackUp(const std::string& data_dir, const std::string& target_folder) {
  const std::string target = FolderName(target_folder);
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
  // While nothing can be written files are only linked, on the disk where they are; they may be
  // copied to another one afterwards.
  const std::string links = fmt::format("{}/backup-{}{}", data_dir, getpid(), kUnfinished);
  absl::Status taken = store::SqliteStore::Copy(data_dir + kStore, work + kStore,
                                                [&] { return TakeAll(data_dir, links); });
  if (taken.ok()) taken = TakeAll(links, work);
  fs::remove_all(links, error);
  ESPALIER_RETURN_IF_ERROR(taken);
  ESPALIER_ASSIGN_OR_RETURN(const Contents contents, Verify(work, Damage::kIsLeftOut));
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
  ESPALIER_RETURN_IF_ERROR(TakeAll(source, work));
  ESPALIER_RETURN_IF_ERROR(CopyFile(source + kStore, work + kStore));
  ESPALIER_ASSIGN_OR_RETURN(const Contents contents, Verify(work, Damage::kIsAnError));
  ESPALIER_RETURN_IF_ERROR(store::SqliteStore::BeginAnew(work + kStore, incarnation));
  return contents;
}

}  // namespace

absl::StatusOr<Contents> Restore(const std::string& source_folder, const std::string& data_dir,
                                 uint64_t incarnation) {
  const std::string source = FolderName(source_folder);
  if (!Exists(source + kStore)) {
    return base::FailedPrecondition(
        "STORE_NOT_FOUND",
        fmt::format("expected a backup in '{}', found none; name a folder that --backup made",
                    source));
  }
  const std::string log_file = source + kStore + kLog;
  std::error_code error;
  if (Exists(log_file) && fs::file_size(log_file, error) > 0) {
    return base::FailedPrecondition(
        "BACKUP_UNFINISHED",
        fmt::format("expected a backup that --backup made, found '{}', which a coordinator that "
                    "runs has; make one of that folder with --backup",
                    log_file));
  }
  const char* const all[] = {kCheckpoints, kParts, kStore};
  // A log without its store would be played into another one.
  for (const std::string& part : {std::string(kCheckpoints), std::string(kParts),
                                  std::string(kStore), std::string(kStore) + kLog}) {
    const std::string used = data_dir + part;
    if (!Exists(used) || IsEmptyFolder(used)) continue;
    return base::FailedPrecondition(
        "RESTORE_TARGET_USED",
        fmt::format("expected a --data-dir without jobs, parts and checkpoints, found '{}'; move "
                    "all of the folder away or name another",
                    used));
  }
  const std::string work = data_dir + "/restore" + kUnfinished;
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
