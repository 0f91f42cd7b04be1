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
// In a folder that several coordinators share: of which database it is.
constexpr const char* kStoreIdFile = "store-id";
constexpr uint64_t kMaxStoreIdBytes = 256;
// What coordinators of one database agree on.
constexpr const char* kStoreId = "store-id";
constexpr const char* kHasFolder = "has a shared folder";
constexpr const char* kComplete = "all of it is said";
constexpr const char* kCheckpointsFlag = "--checkpoints";

// Who waits for this coordinator sees it.
std::string HolderName(const Flags& flags) {
  std::array<char, 256> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) host[0] = '\0';
  return fmt::format("the coordinator of {} (process {}, --listen {})",
                     host[0] == '\0' ? "an unnamed host" : host.data(), getpid(), flags.listen);
}

}  // namespace

std::string RandomId(base::Entropy& entropy) {
  return absl::BytesToHexString(entropy.Bytes(kIdBytes));
}

std::string StorePath(const Flags& flags) { return flags.data_dir + "/jobs.sqlite"; }

Tenure::Tenure(const Flags& flags, base::Entropy& entropy)
    : entropy_(entropy),
      checkpoints_(flags.checkpoints),
      shared_dir_(flags.shared_dir.empty() ? flags.data_dir : flags.shared_dir),
      files_(&io::PosixFileSystem()) {}

Tenure::~Tenure() = default;

uint64_t Tenure::RandomNumber(base::Entropy& entropy) {
  uint64_t number = 0;
  const std::string bytes = entropy.Bytes(sizeof(number));
  std::memcpy(&number, bytes.data(), sizeof(number));
  return number;
}

void Tenure::End() {
  keeper_.reset();
  if (database_ == nullptr) store_.reset();
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
    if (store::PostgresStore::HasPassword(flags.store)) {
      log::Warning("password_in_command_line",
                   {{"message",
                     "expected --store without the database's password, which all users "
                     "of this machine can read there, found one; put it into a file "
                     "and add ?passfile=FILE to the URL"}});
    }
    auto database = std::make_unique<store::PostgresStore>(
        store::PostgresStore::Options{flags.store, RandomId(entropy), HolderName(flags), machine});
    tenure->database_ = database.get();
    tenure->store_ = std::move(database);
    tenure->guarded_ = std::make_unique<io::GuardedFileSystem>(
        io::PosixFileSystem(), [own = tenure.get()] { return own->MayChange(); },
        RandomId(entropy));
    tenure->files_ = tenure->guarded_.get();
  }
  return tenure;
}

absl::Status Tenure::MayChange() const {
  if (database_ == nullptr || database_->HoldsLease()) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kUnavailable, "STORE_LEASE_EXPIRED",
                         "the lease of the jobs could not be renewed in time");
}

// One that stands by has to have what the one that works has; that one may choose.
absl::StatusOr<bool> Tenure::CheckShared(bool holds_lease) {
  ESPALIER_RETURN_IF_ERROR(CheckSharedDir(holds_lease));
  if (holds_lease) {
    ESPALIER_RETURN_IF_ERROR(database_->Tell(kCheckpointsFlag, checkpoints_));
    ESPALIER_RETURN_IF_ERROR(database_->Tell(kComplete, "yes"));
    return true;
  }
  // The one that works may have begun this moment; then it is asked again.
  ESPALIER_ASSIGN_OR_RETURN(const std::string complete, database_->Agreed(kComplete));
  if (complete.empty()) return false;
  ESPALIER_ASSIGN_OR_RETURN(const std::string theirs, database_->Agreed(kCheckpointsFlag));
  if (theirs == checkpoints_) return true;
  return base::FailedPrecondition(
      "CHECKPOINTS_DIFFER",
      fmt::format("expected --checkpoints as the coordinator has it that works ('{}'), found '{}'; "
                  "give both the same",
                  theirs, checkpoints_));
}

absl::Status Tenure::WriteFolderId(const std::string& path, const std::string& id) {
  ESPALIER_RETURN_IF_ERROR(files_->CreateDirectories(shared_dir_));
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file, io::AtomicFile::Create(*files_, path));
  ESPALIER_RETURN_IF_ERROR(file.Append(id + "\n"));
  return file.Commit();
}

// A coordinator with another folder would find none of the jobs' files, and remove those of other
// jobs. The folder has the id of its database; the database knows whether it has a folder.
absl::Status Tenure::CheckSharedDir(bool holds_lease) {
  const std::string path = shared_dir_ + "/" + kStoreIdFile;
  const auto found = io::ReadFile(io::PosixFileSystem(), path, kMaxStoreIdBytes);
  if (!found.ok() && !absl::IsNotFound(found.status())) return found.status();
  const std::string folder(absl::StripAsciiWhitespace(found.value_or("")));
  ESPALIER_ASSIGN_OR_RETURN(
      const std::string id,
      holds_lease ? database_->Agree(kStoreId, RandomId(entropy_)) : database_->Agreed(kStoreId));
  ESPALIER_ASSIGN_OR_RETURN(const std::string has_folder, database_->Agreed(kHasFolder));
  const bool fits = folder == id || (folder.empty() && has_folder.empty());
  if (!fits) {
    return base::FailedPrecondition(
        "SHARED_DIR_DIFFERS",
        fmt::format(
            "expected in '{}' the files of the jobs in the database of --store, found {}; "
            "give all coordinators of one database the same --shared-dir, and each database "
            "a folder of its own",
            shared_dir_,
            folder.empty() ? fmt::format("no {} there", kStoreIdFile)
                           : "those of another database"));
  }
  if (!holds_lease) return absl::OkStatus();
  // In this order a process that ends in between leaves nothing that does not fit.
  if (folder.empty()) ESPALIER_RETURN_IF_ERROR(WriteFolderId(path, id));
  return database_->Tell(kHasFolder, "yes");
}

absl::StatusOr<uint64_t> Tenure::Begin(const sigset_t& signals,
                                       const std::function<void(const std::string&)>& waits,
                                       std::function<void(const absl::Status&)> lost) {
  const uint64_t first = RandomNumber(entropy_);
  if (store_ == nullptr) return first;
  if (database_ == nullptr) return store_->Begin(first);
  std::string told;
  bool checked = false;
  for (;;) {
    const absl::StatusOr<uint64_t> incarnation = store_->Begin(first);
    if (incarnation.ok()) {
      keeper_ = std::make_unique<store::LeaseKeeper>(*database_, std::move(lost));
      ESPALIER_RETURN_IF_ERROR(CheckShared(/*holds_lease=*/true).status());
      return *incarnation;
    }
    const bool held = base::ReasonOf(incarnation.status()) == "STORE_LEASE_HELD";
    // What cannot be reached at first is wrong; later on it is away.
    if (!held && (told.empty() || incarnation.status().code() != absl::StatusCode::kUnavailable)) {
      return incarnation.status();
    }
    if (held && !checked) {
      ESPALIER_ASSIGN_OR_RETURN(checked, CheckShared(/*holds_lease=*/false));
    }
    if (const std::string now = base::MessageOf(incarnation.status()); now != told) {
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
