#include "server/store/postgres/postgres_store.h"

#include <fmt/core.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <string_view>

#include "common/base/status.h"
#include "server/store/postgres/schema.h"
#include "server/store/seal.h"

namespace espalier::server::store {
namespace {

// Of many jobs so many are in memory at a time.
constexpr int64_t kJobsAtATime = 256;
// A lease is renewed in much less than its length, or not at all.
constexpr absl::Duration kRenewalAnswer = absl::Seconds(2);
// Any number that nobody else uses: those who want the lease come one after the other.
constexpr int64_t kBeginLock = 0x657370616c696572;

// What else rows say. A job has a row in each of these parts.
constexpr const char* kParts[] = {"record", "progress", "state"};
constexpr const char* kWriteParts[] = {
    "INSERT INTO records VALUES ((SELECT number FROM jobs WHERE name = $1), $2) "
    "ON CONFLICT (job) DO UPDATE SET contents = EXCLUDED.contents",
    "INSERT INTO progress VALUES ((SELECT number FROM jobs WHERE name = $1), $2) "
    "ON CONFLICT (job) DO UPDATE SET contents = EXCLUDED.contents",
    "INSERT INTO states VALUES ((SELECT number FROM jobs WHERE name = $1), $2) "
    "ON CONFLICT (job) DO UPDATE SET contents = EXCLUDED.contents"};

std::string PartKey(const char* part, const std::string& job) {
  return fmt::format("{}/{}", part, job);
}
std::string EventKey(const std::string& job, int64_t sequence) {
  return fmt::format("event/{}/{}", job, sequence);
}
std::string UpdateKey(const std::string& job, const StoredUpdate& update) {
  return fmt::format("update/{}/{}/{}", job, update.id, update.fingerprint);
}

std::string AccessKey(const std::string& name) { return "access/" + name; }

// The server ends what a coordinator that is paused in the middle of it has left open, so that it holds
// nobody up.
std::string Settings(bool synchronous) {
  return fmt::format(
      "-c search_path=espalier -c statement_timeout=25000 -c lock_timeout=10000 -c "
      "idle_in_transaction_session_timeout=5000 -c synchronous_commit={}",
      synchronous ? "on" : "off");
}

absl::Status LeaseLost(const std::string& where) {
  return base::MakeError(absl::StatusCode::kAborted, "STORE_LEASE_LOST",
                         fmt::format("another coordinator has taken over the jobs in {}", where));
}

// What is done to one job, as statements.
class Writes {
 public:
  void Add(const JobWrite& write) {
    for (const AccessWrite& access : write.access) AddAccess(access);
    if (write.job.empty()) return;
    const PgValue job = PgValue::Text(write.job);
    if (write.accepted.has_value()) {
      Do("INSERT INTO jobs (name, accepted) VALUES ($1, $2)",
         {job, PgValue::Bytes(Seal(*write.accepted, write.job))});
    }
    if (write.deleted) {
      Delete(job);
      return;
    }
    const std::optional<std::string>* contents[] = {&write.record, &write.progress, &write.state};
    for (size_t i = 0; i < std::size(kParts); ++i) {
      // A new job has all of them, so that one that is missing is missed.
      if (!contents[i]->has_value() && !write.accepted.has_value()) continue;
      Do(kWriteParts[i],
         {job, PgValue::Bytes(Seal(contents[i]->value_or(""), PartKey(kParts[i], write.job)))});
    }
    for (const StoredEvent& event : write.events) {
      Do("INSERT INTO events VALUES ((SELECT number FROM jobs WHERE name = $1), $2, $3)",
         {job, PgValue::Int(event.sequence),
          PgValue::Bytes(Seal(event.bytes, EventKey(write.job, event.sequence)))});
    }
    AddUpdates(write, job);
  }

  std::vector<PgStatement>& statements() { return statements_; }
  void Do(const char* text, std::vector<PgValue> values) {
    statements_.push_back({text, std::move(values)});
  }

 private:
  void AddAccess(const AccessWrite& access) {
    const PgValue name = PgValue::Text(access.name);
    if (!access.record.has_value()) {
      Do("DELETE FROM access WHERE name = $1", {name});
      return;
    }
    Do("INSERT INTO access VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET contents = "
       "EXCLUDED.contents",
       {name, PgValue::Bytes(Seal(*access.record, AccessKey(access.name)))});
  }

  void AddUpdates(const JobWrite& write, const PgValue& job) {
    if (write.new_step) {
      Do("INSERT INTO counted SELECT (SELECT COALESCE(MAX(number), 0) FROM counted) + row_number() "
         "OVER (ORDER BY number), job, id, fingerprint FROM updates WHERE job = (SELECT number "
         "FROM "
         "jobs WHERE name = $1)",
         {job});
      Do("DELETE FROM updates WHERE job = (SELECT number FROM jobs WHERE name = $1)", {job});
    }
    for (const auto& [id, fingerprint] : write.counted_before) {
      Do("INSERT INTO counted VALUES ((SELECT COALESCE(MAX(number), 0) + 1 FROM counted), "
         "(SELECT number FROM jobs WHERE name = $1), $2, $3)",
         {job, PgValue::Bytes(id), PgValue::Bytes(fingerprint)});
    }
    for (const StoredUpdate& update : write.updates) {
      Do("INSERT INTO updates (job, id, fingerprint, contents) VALUES "
         "((SELECT number FROM jobs WHERE name = $1), $2, $3, $4)",
         {job, PgValue::Bytes(update.id), PgValue::Bytes(update.fingerprint),
          PgValue::Bytes(Seal(update.bytes, UpdateKey(write.job, update)))});
    }
    if (!write.new_step && write.counted_before.empty()) return;
    Do("DELETE FROM counted WHERE number <= (SELECT MAX(number) FROM counted) - $1",
       {PgValue::Int(Store::kRememberedUpdates)});
  }

  void Delete(const PgValue& job) {
    for (const char* text :
         {"DELETE FROM events WHERE job = (SELECT number FROM jobs WHERE name = $1)",
          "DELETE FROM updates WHERE job = (SELECT number FROM jobs WHERE name = $1)",
          "DELETE FROM counted WHERE job = (SELECT number FROM jobs WHERE name = $1)",
          "DELETE FROM records WHERE job = (SELECT number FROM jobs WHERE name = $1)",
          "DELETE FROM progress WHERE job = (SELECT number FROM jobs WHERE name = $1)",
          "DELETE FROM states WHERE job = (SELECT number FROM jobs WHERE name = $1)",
          "DELETE FROM jobs WHERE name = $1"}) {
      Do(text, {job});
    }
  }

  std::vector<PgStatement> statements_;
};

// A value that was sealed; a row that is missing has none.
absl::StatusOr<std::string> Sealed(const Connection& connection, const PgRows& rows, int row,
                                   int column, std::string_view what, std::string_view of_row) {
  std::optional<std::string> bytes;
  if (!rows.IsNull(row, column)) bytes = Unseal(rows.Bytes(row, column), of_row);
  if (!bytes.has_value()) return connection.Corrupt(fmt::format("the checksum of {}", what));
  return *std::move(bytes);
}

// For what may be asked for twice: a connection that was left from before may have ended meanwhile.
absl::StatusOr<PgRows> RunAgain(Connection& connection, const PgStatement& statement,
                                absl::Duration answer) {
  const bool was_connected = connection.connected();
  absl::StatusOr<PgRows> rows = connection.Run(statement, answer);
  if (rows.ok() || connection.connected() || !was_connected) return rows;
  return connection.Run(statement, answer);
}

}  // namespace

bool PostgresStore::IsUrl(const std::string& text) {
  return text.starts_with("postgresql://") || text.starts_with("postgres://");
}

bool PostgresStore::HasPassword(const std::string& url) { return Connection::HasPassword(url); }

PostgresStore::PostgresStore(Options options)
    : options_(std::move(options)),
      // By this name a successor finds the connections of a predecessor.
      connection_(options_.url, "espalier-" + options_.id, Settings(options_.synchronous)),
      lease_connection_(options_.url, "espalier-" + options_.id, Settings(options_.synchronous)) {}

absl::StatusOr<PgRows> PostgresStore::Query(const PgStatement& statement) {
  return RunAgain(connection_, statement, Connection::kAnswer);
}

absl::StatusOr<uint64_t> PostgresStore::Begin(uint64_t first) {
  ESPALIER_RETURN_IF_ERROR(connection_.Run({"BEGIN", {}}).status());
  absl::Status taken = TakeLease();
  if (taken.ok()) taken = Migrate();
  if (taken.ok()) {
    // A first one leaves room for many more. Waits for a transaction of the one before that is under
    // way.
    const absl::StatusOr<PgRows> life =
        connection_.Run({"INSERT INTO life VALUES (0, $1, 0) ON CONFLICT (id) DO UPDATE SET "
                         "incarnation = life.incarnation + 1, commits = 0 RETURNING incarnation",
                         {PgValue::Int(static_cast<int64_t>(first >> 1))}});
    taken = life.status();
    if (taken.ok()) incarnation_ = life->Int(0, 0);
  }
  if (taken.ok()) taken = connection_.Run({"COMMIT", {}}).status();
  if (!taken.ok()) {
    lease_until_ns_ = 0;
    if (connection_.connected()) (void)connection_.Run({"ROLLBACK", {}});
    return taken;
  }
  commits_ = 0;
  return static_cast<uint64_t>(incarnation_);
}

absl::Status PostgresStore::TakeLease() {
  ESPALIER_RETURN_IF_ERROR(
      connection_.Run({"SELECT pg_advisory_xact_lock($1)", {PgValue::Int(kBeginLock)}}).status());
  // Whoever made the schema for us may not have let us make one.
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows schema,
      connection_.Run({"SELECT 1 FROM pg_namespace WHERE nspname = 'espalier'", {}}));
  if (schema.size() == 0) {
    ESPALIER_RETURN_IF_ERROR(connection_.Run({"CREATE SCHEMA espalier", {}}).status());
  }
  ESPALIER_RETURN_IF_ERROR(connection_.Run({kPgLeaseTable, {}}).status());
  // One that only stands by locks nothing: it would hold up renewals if it was stopped then.
  ESPALIER_RETURN_IF_ERROR(LookAtLease("").status());
  // A renewal that comes at the same time waits for us, and finds another owner then.
  ESPALIER_ASSIGN_OR_RETURN(const std::string before, LookAtLease(" FOR UPDATE"));
  if (!before.empty()) {
    // What it has under way must not hold us up.
    ESPALIER_RETURN_IF_ERROR(connection_
                                 .Run({"SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                                       "WHERE usename = current_user AND application_name = $1",
                                       {PgValue::Text("espalier-" + before)}})
                                 .status());
  }
  const int64_t asked = ElapsedNanoseconds();
  ESPALIER_RETURN_IF_ERROR(
      connection_
          .Run({"INSERT INTO lease VALUES (0, $1, $2, clock_timestamp(), 0) ON CONFLICT (id) DO "
                "UPDATE SET owner = $1, holder = $2, renewed = clock_timestamp()",
                {PgValue::Text(options_.id), PgValue::Text(options_.holder)}})
          .status());
  Renewed(asked);
  return absl::OkStatus();
}

absl::StatusOr<std::string> PostgresStore::LookAtLease(const std::string& lock) {
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows lease,
      connection_.Run({"SELECT owner, holder, (extract(epoch FROM clock_timestamp() - renewed) * "
                       "1000)::bigint, version FROM lease" +
                           lock,
                       {}}));
  if (lease.size() == 0) return "";
  // Also one that only stands by would be of no use.
  ESPALIER_RETURN_IF_ERROR(CheckVersion(lease.Int(0, 3)));
  if (lease.Bytes(0, 0) == options_.id) return "";
  if (absl::Milliseconds(lease.Int(0, 2)) >= options_.lease) return lease.Bytes(0, 0);
  return base::MakeError(
      absl::StatusCode::kUnavailable, "STORE_LEASE_HELD",
      fmt::format("{} works on the jobs in {}", lease.Bytes(0, 1), connection_.where()));
}

absl::Status PostgresStore::CheckVersion(int64_t version) const {
  if (version <= kPgSchemaVersion) return absl::OkStatus();
  return base::FailedPrecondition(
      "STORE_TOO_NEW",
      fmt::format("expected a store of version {} or older in {}, found version {}, which a "
                  "later release of this program wrote; start that one",
                  kPgSchemaVersion, connection_.where(), version));
}

absl::Status PostgresStore::Migrate() {
  ESPALIER_ASSIGN_OR_RETURN(const PgRows found, connection_.Run({"SELECT version FROM lease", {}}));
  const int64_t version = found.size() == 0 ? 0 : found.Int(0, 0);
  for (int64_t next = std::max<int64_t>(0, version); next < kPgSchemaVersion; ++next) {
    for (const char* const* text = kPgMigrations[next]; *text != nullptr; ++text) {
      ESPALIER_RETURN_IF_ERROR(connection_.Run({*text, {}}).status());
    }
    ESPALIER_RETURN_IF_ERROR(
        connection_.Run({"UPDATE lease SET version = $1", {PgValue::Int(next + 1)}}).status());
  }
  return absl::OkStatus();
}

void PostgresStore::Renewed(int64_t asked) {
  // From the moment in which it was asked for, which is before that of the server.
  lease_until_ns_ = asked + absl::ToInt64Nanoseconds(options_.lease);
}

absl::Status PostgresStore::RenewLease() {
  const int64_t asked = ElapsedNanoseconds();
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows renewed,
      RunAgain(lease_connection_,
               {"UPDATE lease SET renewed = clock_timestamp() WHERE owner = $1 RETURNING 1::bigint",
                {PgValue::Text(options_.id)}},
               kRenewalAnswer));
  if (renewed.size() == 0) {
    lease_until_ns_ = 0;
    return LeaseLost(lease_connection_.where());
  }
  Renewed(asked);
  return absl::OkStatus();
}

bool PostgresStore::HoldsLease() const { return ElapsedNanoseconds() < lease_until_ns_; }

void PostgresStore::Release() {
  lease_until_ns_ = 0;
  (void)lease_connection_.Run(
      {"UPDATE lease SET renewed = 'epoch' WHERE owner = $1", {PgValue::Text(options_.id)}},
      kRenewalAnswer);
}

absl::StatusOr<std::string> PostgresStore::Agree(const std::string& what, const std::string& mine) {
  ESPALIER_RETURN_IF_ERROR(
      connection_
          .Run({"INSERT INTO agreed VALUES ($1, $2) ON CONFLICT (what) DO NOTHING",
                {PgValue::Text(what), PgValue::Text(mine)}})
          .status());
  return Agreed(what);
}

absl::Status PostgresStore::Tell(const std::string& what, const std::string& value) {
  return connection_
      .Run({"INSERT INTO agreed VALUES ($1, $2) ON CONFLICT (what) DO UPDATE SET value = $2",
            {PgValue::Text(what), PgValue::Text(value)}})
      .status();
}

absl::StatusOr<std::string> PostgresStore::Agreed(const std::string& what) {
  ESPALIER_ASSIGN_OR_RETURN(const PgRows agreed, Query({"SELECT value FROM agreed WHERE what = $1",
                                                        {PgValue::Text(what)}}));
  return agreed.size() == 0 ? "" : agreed.Bytes(0, 0);
}

absl::Status PostgresStore::Commit(std::span<const JobWrite> writes) {
  const int64_t number = commits_ + 1;
  Writes all;
  all.Do("SELECT begin_commit($1, $2)", {PgValue::Int(incarnation_), PgValue::Int(number)});
  for (const JobWrite& write : writes) all.Add(write);
  absl::Status written = connection_.RunTransaction(all.statements());
  // The same was sent before, and its answer was lost.
  if (base::ReasonOf(written) == Connection::kIsThere) written = absl::OkStatus();
  if (written.ok()) commits_ = number;
  return written;
}

absl::Status PostgresStore::Jobs(const Visit& visit) {
  for (int64_t after = -1;;) {
    ESPALIER_ASSIGN_OR_RETURN(
        const PgRows rows,
        Query({"SELECT number, name, accepted, contents FROM jobs LEFT JOIN records ON job = "
               "number WHERE number > $1 ORDER BY number LIMIT $2",
               {PgValue::Int(after), PgValue::Int(kJobsAtATime)}}));
    for (int row = 0; row < rows.size(); ++row) {
      after = rows.Int(row, 0);
      StoredJob job;
      job.job = rows.Bytes(row, 1);
      ESPALIER_ASSIGN_OR_RETURN(job.accepted, Sealed(connection_, rows, row, 2, "a job", job.job));
      ESPALIER_ASSIGN_OR_RETURN(
          job.record, Sealed(connection_, rows, row, 3, "a job", PartKey("record", job.job)));
      ESPALIER_RETURN_IF_ERROR(visit(std::move(job)));
    }
    if (rows.size() < kJobsAtATime) return absl::OkStatus();
  }
}

absl::StatusOr<std::string> PostgresStore::ReadRecord(const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows rows,
      Query({"SELECT contents FROM jobs LEFT JOIN records ON job = number WHERE name = $1",
             {PgValue::Text(name)}}));
  if (rows.size() == 0) return NoSuchJob(name);
  return Sealed(connection_, rows, 0, 0, "a job", PartKey("record", name));
}

absl::StatusOr<StoredJob> PostgresStore::Read(const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows rows,
      Query({"SELECT accepted, records.contents, progress.contents, states.contents FROM jobs "
             "LEFT JOIN records ON records.job = number LEFT JOIN progress ON progress.job = "
             "number LEFT JOIN states ON states.job = number WHERE name = $1",
             {PgValue::Text(name)}}));
  if (rows.size() == 0) return NoSuchJob(name);
  StoredJob job;
  job.job = name;
  ESPALIER_ASSIGN_OR_RETURN(job.accepted, Sealed(connection_, rows, 0, 0, "a job", name));
  std::string* const parts[] = {&job.record, &job.progress, &job.state};
  for (size_t i = 0; i < std::size(kParts); ++i) {
    ESPALIER_ASSIGN_OR_RETURN(*parts[i], Sealed(connection_, rows, 0, static_cast<int>(i) + 1,
                                                kParts[i], PartKey(kParts[i], name)));
  }
  ESPALIER_RETURN_IF_ERROR(ReadRows(job));
  return job;
}

absl::Status PostgresStore::ReadRows(StoredJob& job) {
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows events,
      Query({"SELECT sequence, event FROM events WHERE job = (SELECT number FROM jobs WHERE name "
             "= $1) ORDER BY sequence",
             {PgValue::Text(job.job)}}));
  for (int row = 0; row < events.size(); ++row) {
    StoredEvent& event = job.events.emplace_back();
    event.sequence = events.Int(row, 0);
    ESPALIER_ASSIGN_OR_RETURN(event.bytes, Sealed(connection_, events, row, 1, "an event",
                                                  EventKey(job.job, event.sequence)));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows updates,
      Query({"SELECT id, fingerprint, contents FROM updates WHERE job = (SELECT number FROM jobs "
             "WHERE name = $1) ORDER BY number",
             {PgValue::Text(job.job)}}));
  for (int row = 0; row < updates.size(); ++row) {
    StoredUpdate& update = job.updates.emplace_back();
    update.id = updates.Bytes(row, 0);
    update.fingerprint = updates.Bytes(row, 1);
    ESPALIER_ASSIGN_OR_RETURN(update.bytes, Sealed(connection_, updates, row, 2, "an update",
                                                   UpdateKey(job.job, update)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> PostgresStore::CountedUpdates() {
  ESPALIER_ASSIGN_OR_RETURN(
      const PgRows rows,
      Query({"SELECT id, fingerprint FROM (SELECT 0 AS newer, number, id, fingerprint FROM counted "
             "WHERE number > (SELECT MAX(number) FROM counted) - ($1 - (SELECT COUNT(*) FROM "
             "updates)) UNION ALL SELECT 1, number, id, fingerprint FROM updates) AS known ORDER "
             "BY newer, number",
             {PgValue::Int(kRememberedUpdates)}}));
  std::vector<std::pair<std::string, std::string>> counted;
  counted.reserve(static_cast<size_t>(rows.size()));
  for (int row = 0; row < rows.size(); ++row) {
    counted.emplace_back(rows.Bytes(row, 0), rows.Bytes(row, 1));
  }
  return counted;
}

absl::StatusOr<std::map<std::string, std::string>> PostgresStore::AccessRecords() {
  ESPALIER_ASSIGN_OR_RETURN(const PgRows rows, Query({"SELECT name, contents FROM access", {}}));
  std::map<std::string, std::string> records;
  for (int row = 0; row < rows.size(); ++row) {
    const std::string name = rows.Bytes(row, 0);
    ESPALIER_ASSIGN_OR_RETURN(
        records[name], Sealed(connection_, rows, row, 1, "a record of access", AccessKey(name)));
  }
  return records;
}

}  // namespace espalier::server::store
