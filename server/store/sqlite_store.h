// SqliteStore: the store that a coordinator has by itself: one SQLite database in its data folder.
//
// Durability:  write-ahead log with synchronous=FULL: one sync for each Commit(), and a few more
//              when the log is copied into the database, about every 4 MB.
// Form:        schema version in PRAGMA user_version; a store of an older version is brought
//              forward when it is opened, a newer one is refused and stays untouched. Every value
//              has a CRC-32C at its end, since the database has no checksums of its own.
// Ownership:   whoever opens it holds a lock on the folder already.
// Errors:      Open(): FailedPrecondition STORE_TOO_NEW; DataLoss STORE_CORRUPT; those of Store.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/store/store.h"

namespace espalier::server::store {

class SqliteStore : public Store {
 public:
  // How sure a commit is. kProcess survives the end of the process, but not that of the machine.
  enum class Sync { kMachine, kProcess };

  // Creates `path` if need be, and checks what is there.
  static absl::StatusOr<std::unique_ptr<SqliteStore>> Open(const std::string& path,
                                                           Sync sync = Sync::kMachine);
  // A copy of the store at `path`, which a coordinator may use meanwhile, at `copy`, where nothing
  // is yet. While `meanwhile` runs, and until the copy is on stable storage, nothing can be written
  // to the store; who writes waits.
  static absl::Status Copy(const std::string& path, const std::string& copy,
                           const std::function<absl::Status()>& meanwhile);
  // The lives that follow count from this incarnation, not from the one that is in the store at
  // `path`.
  static absl::Status BeginAnew(const std::string& path, uint64_t incarnation);
  ~SqliteStore() override;

  absl::StatusOr<uint64_t> Begin(uint64_t first) override;
  absl::Status Commit(std::span<const JobWrite> writes) override;
  absl::Status Jobs(const Visit& visit) override;
  absl::StatusOr<std::string> ReadRecord(const std::string& name) override;
  absl::StatusOr<StoredJob> Read(const std::string& name) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> CountedUpdates() override;
  absl::StatusOr<std::map<std::string, std::string>> AccessRecords() override;

 private:
  class Database;
  explicit SqliteStore(std::unique_ptr<Database> database);

  absl::Status Write(const JobWrite& write);
  absl::Status WriteAccess(const AccessWrite& access);
  absl::Status WriteUpdates(const JobWrite& write, int64_t number);
  absl::Status Delete(int64_t number);
  absl::Status ReadRows(StoredJob& job, int64_t number);

  std::unique_ptr<Database> database_;
};

}  // namespace espalier::server::store
