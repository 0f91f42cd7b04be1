#include "server/tenure.h"

#include <fmt/core.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/guarded_file_system.h"
#include "common/log/log.h"
#include "server/store/postgres/lease_keeper.h"
#include "server/store/postgres/postgres_store.h"
#include "server/store/sqlite_store.h"

namespace espalier::server {
namespace {

constexpr size_t kIdBytes = 16;
constexpr long kAskAgainNanoseconds = 500'000'000;
// In a folder that several coordinators share: what the database knows it by.
constexpr const char* kFolderFile = "shared-folder-id";
constexpr uint64_t kMaxFolderIdBytes = 256;

std::string RandomId(base::Entropy& entropy) {
  return absl::BytesToHexString(entropy.Bytes(kIdBytes));
}

// Who waits for this coordinator sees it.
std::string HolderName(const Flags& flags) {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return fmt::format("the coordinator of {} (process {}, --listen {})",
                     host[0] == '\0' ? "an unnamed host" : host.data(), getpid(), flags.listen);
}

}  // namespace

std::string StorePath(const Flags& flags) { return flags.data_dir + "/jobs.sqlite"; }

Tenure::Tenure(const Flags& flags, base::Entropy& entropy)
    : entropy_(entropy),
      shared_dir_(flags.shared_dir.empty() ? flags.data_dir : flags.shared_dir),
      files_(&io::PosixFileSystem()) {}

Tenure::~Tenure() = default;

uint64_t Tenure::RandomNumber(base::Entropy& entropy) {
  uint64_t number = 0;
  const std::string bytes = entropy.Bytes(sizeof(number));
  std::memcpy(&number, bytes.data(), sizeof(number));
  return number;
}

absl::StatusOr<std::unique_ptr<Tenure>> Tenure::Open(const Flags& flags, base::Entropy& entropy) {
  std::unique_ptr<Tenure> tenure(new Tenure(flags, entropy));
  const bool machine = flags.store_sync == "machine";
  if (flags.store == "sqlite") {
    using Sync = store::SqliteStore::Sync;
    ESPALIER_ASSIGN_OR_RETURN(
        tenure->store_,
        store::SqliteStore::Open(StorePath(flags), machine ? Sync::kMachine : Sync::kProcess));
  } else if (flags.store != "memory") {
    auto database = std::make_unique<store::PostgresStore>(
        store::PostgresStore::Options{flags.store, RandomId(entropy), HolderName(flags), machine});
    tenure->database_ = database.get();
    tenure->store_ = std::move(database);
    tenure->guarded_ = std::make_unique<io::GuardedFileSystem>(
        io::PosixFileSystem(), [store = tenure->database_]() -> absl::Status {
          if (store->HoldsLease()) return absl::OkStatus();
          // For jobs that is like a disk that does not take it now.
          return base::MakeError(absl::StatusCode::kUnavailable, "IO_ERROR",
                                 "the lease of the jobs could not be renewed in time");
        });
    tenure->files_ = tenure->guarded_.get();
  }
  return tenure;
}

absl::Status Tenure::WriteFolderId(const std::string& path, const std::string& id) {
  ESPALIER_RETURN_IF_ERROR(files_->CreateDirectories(shared_dir_));
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file, io::AtomicFile::Create(*files_, path));
  ESPALIER_RETURN_IF_ERROR(file.Append(id + "\n"));
  return file.Commit();
}

// A coordinator that took over with another folder would find none of the jobs' files.
absl::Status Tenure::CheckSharedDir(bool holds_lease) {
  const std::string path = shared_dir_ + "/" + kFolderFile;
  io::FileSystem& files = io::PosixFileSystem();
  const absl::StatusOr<std::string> found = io::ReadFile(files, path, kMaxFolderIdBytes);
  if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
  std::string id(absl::StripAsciiWhitespace(found.value_or("")));
  const bool is_new = id.empty() && holds_lease;
  if (is_new) {
    // Before it is agreed upon, so that a process that ends in between leaves nothing that misleads.
    id = RandomId(entropy_);
    ESPALIER_RETURN_IF_ERROR(WriteFolderId(path, id));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::string agreed, holds_lease
                                                          ? database_->Agree(kFolderFile, id)
                                                          : database_->Agreed(kFolderFile));
  // Nothing is agreed upon before the first one has begun.
  if (agreed.empty() || agreed == id) return absl::OkStatus();
  if (is_new) ESPALIER_RETURN_IF_ERROR(files_->Remove(path));
  return base::FailedPrecondition(
      "SHARED_DIR_DIFFERS",
      fmt::format(
          "expected in '{}' the files of the jobs in the database of --store, found another "
          "folder ({} {}); give all coordinators of one database the same --shared-dir, or "
          "this one a database of its own",
          shared_dir_, kFolderFile, id.empty() || is_new ? "is missing" : "is another"));
}

absl::StatusOr<uint64_t> Tenure::Begin(const sigset_t& signals,
                                       const std::function<void(const std::string&)>& waits,
                                       std::function<void(const absl::Status&)> lost) {
  const uint64_t first = RandomNumber(entropy_);
  if (store_ == nullptr) return first;
  if (database_ == nullptr) return store_->Begin(first);
  std::string told;
  for (;;) {
    const absl::StatusOr<uint64_t> incarnation = store_->Begin(first);
    if (incarnation.ok()) {
      keeper_ = std::make_unique<store::LeaseKeeper>(*database_, std::move(lost));
      ESPALIER_RETURN_IF_ERROR(CheckSharedDir(/*holds_lease=*/true));
      return *incarnation;
    }
    const bool held = base::ReasonOf(incarnation.status()) == "STORE_LEASE_HELD";
    // What cannot be reached at first is wrong; later on it is away.
    if (!held && (told.empty() || incarnation.status().code() != absl::StatusCode::kUnavailable)) {
      return incarnation.status();
    }
    if (const std::string now = base::MessageOf(incarnation.status()); now != told) {
      ESPALIER_RETURN_IF_ERROR(held ? CheckSharedDir(/*holds_lease=*/false) : absl::OkStatus());
      log::Info("stands_by", {{"message", now}});
      if (told.empty()) waits(now);
      told = now;
    }
    const timespec pause{0, kAskAgainNanoseconds};
    if (sigtimedwait(&signals, nullptr, &pause) >= 0) {
      return absl::CancelledError("a signal came");
    }
  }
}

}  // namespace espalier::server
