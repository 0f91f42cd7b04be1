// PostgresStore: the store of several coordinators, of which one works and the others stand by, in a
// database of a PostgreSQL server (14 or later), in its schema "espalier".
//
// Lease:       a coordinator has the store as long as it renews its lease (RenewLease). Begin() takes
//              a lease that nobody has renewed for `Options::lease` by the server's clock, ends the
//              connections of the one before, and raises the incarnation.
// Fencing:     every commit names the incarnation that it belongs to, and the database refuses those of
//              an earlier one, however long they were under way: a coordinator that was paused and
//              comes back can write nothing.
// Durability:  that of the server: with its synchronous_commit, a commit is on its disk.
// Form:        each commit is one transaction and one round trip. It has a number, by which one whose
//              answer was lost is recognised when it is tried again, and ones that the server has lost
//              are missed (STORE_FELL_BACK). Every value has a checksum as in
//              the file of SQLite (seal.h). The schema has a version of its own, which a lease's
//              holder brings forward.
// Threading:   as Store says; RenewLease(), HoldsLease() and Release() from one further thread.
// Errors:      those of Store. Begin(): also Unavailable STORE_LEASE_HELD. All: Aborted STORE_LEASE_LOST.
//              Commit(): also Aborted STORE_FELL_BACK.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "server/store/postgres/connection.h"
#include "server/store/store.h"

namespace espalier::server::store {

class PostgresStore : public Store {
 public:
  struct Options {
    std::string url;     // postgresql://…
    std::string id;      // of this process: random, so that no two are the same
    std::string holder;  // for people: who it is
    // Whether a commit waits for the server's disk.
    bool synchronous = true;
    absl::Duration lease = absl::Seconds(6);
  };

  // Whether --store names a database of a server.
  static bool IsUrl(const std::string& text);
  // Whether there is a password in the URL.
  static bool HasPassword(const std::string& url);
  // Connects with the first call.
  explicit PostgresStore(Options options);

  absl::StatusOr<uint64_t> Begin(uint64_t first) override;
  absl::Status Commit(std::span<const JobWrite> writes) override;
  absl::Status Jobs(const Visit& visit) override;
  absl::StatusOr<std::string> ReadRecord(const std::string& name) override;
  absl::StatusOr<StoredJob> Read(const std::string& name) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> CountedUpdates() override;
  absl::StatusOr<std::map<std::string, std::string>> AccessRecords() override;

  absl::Duration lease() const { return options_.lease; }
  // Holds the lease for another while. Errors: Aborted STORE_LEASE_LOST when it is another's; Unavailable
  // when the server could not be asked, and the lease is what it was.
  absl::Status RenewLease();
  // Whether the lease is certainly ours at this moment, by this machine's clock.
  bool HoldsLease() const;
  // Gives the lease back, so that another coordinator need not wait for its end.
  void Release();
  // Says of what is to be the same for all coordinators of one store, a shared folder for instance,
  // what it is: `mine` where nobody has said so yet, or what was said first. Only while the lease is
  // held.
  absl::StatusOr<std::string> Agree(const std::string& what, const std::string& mine);
  // The same, but the last one who speaks is right.
  absl::Status Tell(const std::string& what, const std::string& value);
  // What was said, whoever has the lease; "" where nothing was.
  absl::StatusOr<std::string> Agreed(const std::string& what);

 private:
  absl::StatusOr<PgRows> Query(const PgStatement& statement);
  absl::Status TakeLease();
  // Whose lease is over, "" where there is none. Errors: STORE_LEASE_HELD, STORE_TOO_NEW.
  absl::StatusOr<std::string> LookAtLease(const std::string& lock);
  absl::Status Migrate();
  absl::Status CheckVersion(int64_t version) const;
  void Renewed(int64_t asked);
  absl::Status ReadRows(StoredJob& job);

  const Options options_;
  Connection connection_;
  Connection lease_connection_;
  int64_t incarnation_ = 0;
  int64_t commits_ = 0;                     // of this incarnation, in the database for certain
  std::atomic<int64_t> lease_until_ns_{0};  // of ElapsedNanoseconds()
};

}  // namespace espalier::server::store
