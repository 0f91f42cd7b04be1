// Tenure: how a coordinator comes by the store that its flags name, and that it keeps it.
//
// A file in the data folder is nobody else's, by the lock of that folder. A database is that of the
// coordinator that has its lease; the others wait for it in Begin(). Whoever has the lease may change the shared
// folder, which has the files of the jobs, and nobody else.
// Threading: one thread; files() from any.
#pragma once

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigset_t is POSIX

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/entropy.h"
#include "common/io/file_system.h"
#include "server/flags.h"
#include "server/store/store.h"

namespace espalier::server::store {
class LeaseKeeper;
class PostgresStore;
}  // namespace espalier::server::store

namespace espalier::server {

// Of the file in the data folder.
std::string StorePath(const Flags& flags);
// 128 bits, in hexadecimal digits.
std::string RandomId(base::Entropy& entropy);

class Tenure {
 public:
  // Errors: those of the store.
  static absl::StatusOr<std::unique_ptr<Tenure>> Open(const Flags& flags, base::Entropy& entropy);
  ~Tenure();
  static uint64_t RandomNumber(base::Entropy& entropy);

  // Null: jobs are not kept.
  store::Store* store() { return store_.get(); }
  // The folder that all coordinators of the store have.
  const std::string& shared_dir() const { return shared_dir_; }
  // Through which it is changed.
  io::FileSystem& files() { return *files_; }
  // Whether what the coordinators of the store share may be changed now. From any thread. Errors:
  // Unavailable STORE_LEASE_EXPIRED when the lease could not be renewed in time.
  absl::Status MayChange() const;

  // Waits until the store is this coordinator's, and returns its incarnation. `waits` is told once
  // whom it waits for. `lost` is called on another thread when the store is not this coordinator's any
  // more; the process has to end then. Errors: Cancelled when one of `signals`, which are blocked, came
  // meanwhile; FailedPrecondition SHARED_DIR_DIFFERS, CHECKPOINTS_DIFFER; those of the store.
  absl::StatusOr<uint64_t> Begin(const sigset_t& signals,
                                 const std::function<void(const std::string& holder)>& waits,
                                 std::function<void(const absl::Status&)> lost);
  // In order: the file is closed, or the lease given back. What is left of the process may still look
  // at the rest.
  void End();

 private:
  Tenure(const Flags& flags, base::Entropy& entropy);

  // Whether all was there to be compared.
  absl::StatusOr<bool> CheckShared(bool holds_lease);
  absl::Status CheckSharedDir(bool holds_lease);
  absl::Status WriteFolderId(const std::string& path, const std::string& id);

  base::Entropy& entropy_;
  std::unique_ptr<store::Store> store_;
  store::PostgresStore* database_ = nullptr;  // the store, if it is one
  const std::string checkpoints_;             // the flag
  const std::string shared_dir_;
  std::unique_ptr<io::FileSystem> guarded_;
  io::FileSystem* files_;
  std::unique_ptr<store::LeaseKeeper> keeper_;  // goes before the store
};

}  // namespace espalier::server
