#include "server/store/sqlite_store.h"

#include <fmt/core.h>
#include <sqlite3.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <string_view>

#include "common/base/status.h"
#include "server/store/seal.h"

namespace espalier::server::store {
namespace {

constexpr int kSchemaVersion = 2;
constexpr int kBusyMilliseconds = 60'000;

// What leads from each version to the next one.
constexpr const char* kMigrations[kSchemaVersion] = {
    "CREATE TABLE life (id INTEGER PRIMARY KEY CHECK (id = 0), incarnation BLOB NOT NULL);"
    // What changes at different times is in tables of its own, since a row is written whole.
    "CREATE TABLE jobs (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    "  accepted BLOB NOT NULL);"
    "CREATE TABLE records (job INTEGER PRIMARY KEY, contents BLOB NOT NULL);"
    "CREATE TABLE progress (job INTEGER PRIMARY KEY, contents BLOB NOT NULL);"
    "CREATE TABLE states (job INTEGER PRIMARY KEY, contents BLOB NOT NULL);"
    "CREATE TABLE events (job INTEGER NOT NULL, sequence INTEGER NOT NULL, event BLOB NOT NULL,"
    "  PRIMARY KEY (job, sequence)) WITHOUT ROWID;"
    // Of steps in work; and of which it is remembered that they counted.
    "CREATE TABLE updates (number INTEGER PRIMARY KEY, job INTEGER NOT NULL, id BLOB NOT NULL,"
    "  fingerprint BLOB NOT NULL, contents BLOB NOT NULL);"
    "CREATE INDEX updates_of_jobs ON updates (job);"
    "CREATE TABLE counted (number INTEGER PRIMARY KEY, job INTEGER NOT NULL, id BLOB NOT NULL,"
    "  fingerprint BLOB NOT NULL);",
    "CREATE TABLE access (name TEXT PRIMARY KEY, contents BLOB NOT NULL) WITHOUT ROWID;",
};

// What else rows say. A job has a row in each of these parts.
constexpr const char* kParts[] = {"record", "progress", "state"};
std::string PartKey(const char* part, int64_t job) { return fmt::format("{}/{}", part, job); }
std::string EventKey(int64_t job, int64_t sequence) {
  return fmt::format("event/{}/{}", job, sequence);
}
std::string UpdateKey(int64_t job, const StoredUpdate& update) {
  return fmt::format("update/{}/{}/{}", job, update.id, update.fingerprint);
}

std::string AccessKey(const std::string& name) { return "access/" + name; }

}  // namespace

// The connection, and its statements, which are compiled once.
class SqliteStore::Database {
 public:
  explicit Database(std::string path) : path_(std::move(path)) {}

  ~Database() {
    for (const auto& [text, statement] : statements_) sqlite3_finalize(statement);
    sqlite3_close(connection_);
  }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  absl::Status Open() {
    const int code = sqlite3_open_v2(
        path_.c_str(), &connection_,
        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX,
        nullptr);
    if (code != SQLITE_OK) return Error();
    // A backup holds writers up for a while.
    sqlite3_busy_timeout(connection_, kBusyMilliseconds);
    return absl::OkStatus();
  }

  // All of another database, as its connection sees it.
  absl::Status CopyFrom(Database& source) {
    sqlite3_backup* backup = sqlite3_backup_init(connection_, "main", source.connection_, "main");
    if (backup == nullptr) return Error();
    sqlite3_backup_step(backup, -1);
    return sqlite3_backup_finish(backup) == SQLITE_OK ? absl::OkStatus() : Error();
  }

  absl::Status Run(const std::string& text) {
    return sqlite3_exec(connection_, text.c_str(), nullptr, nullptr, nullptr) == SQLITE_OK
               ? absl::OkStatus()
               : Error();
  }

  absl::Status Corrupt(std::string_view what) const {
    return base::MakeError(
        absl::StatusCode::kDataLoss, "STORE_CORRUPT",
        fmt::format("expected the coordinator's store in {} as it was written, found it damaged "
                    "({}); put a copy of the whole folder in its place, or move this file, with "
                    "-wal and -shm, away to begin without jobs (checkpoints stay)",
                    path_, what));
  }

  // What the connection failed with last.
  absl::Status Error() const {
    const int code = connection_ == nullptr ? SQLITE_NOMEM : sqlite3_extended_errcode(connection_);
    const std::string what = connection_ == nullptr ? "out of memory" : sqlite3_errmsg(connection_);
    switch (code & 0xff) {
      case SQLITE_FULL:
        return base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
                               fmt::format("there is no space left for {}; free some", path_));
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
      // A statement does not fit the tables: these are not ours any more.
      case SQLITE_ERROR:
        return Corrupt(what);
      default:
        break;
    }
    if (code == SQLITE_IOERR_FSYNC || code == SQLITE_IOERR_DIR_FSYNC) {
      return base::MakeError(absl::StatusCode::kDataLoss, "SYNC_FAILED",
                             fmt::format("expected {} to be on the disk, found that its sync "
                                         "failed; look at the disk",
                                         path_));
    }
    return base::MakeError(absl::StatusCode::kUnavailable, "STORAGE_ERROR",
                           fmt::format("{} could not be used: {}", path_, what));
  }

  // Valid until the next call with the same text; whoever gets it resets it (Statement).
  sqlite3_stmt* Prepare(const char* text) {
    sqlite3_stmt*& statement = statements_[text];
    if (statement == nullptr) {
      sqlite3_prepare_v3(connection_, text, -1, SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    }
    return statement;
  }

  int64_t changes() const { return sqlite3_changes64(connection_); }

 private:
  const std::string path_;
  sqlite3* connection_ = nullptr;
  std::map<std::string, sqlite3_stmt*> statements_;
};

namespace {

// One use of a statement. Bound bytes are borrowed until its end.
template <typename Database>
class Statement {
 public:
  Statement(Database& database, const char* text)
      : database_(database), statement_(database.Prepare(text)) {}
  ~Statement() {
    if (statement_ == nullptr) return;
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;

  Statement& Bind(int64_t value) {
    return Note(statement_ == nullptr ? SQLITE_ERROR
                                      : sqlite3_bind_int64(statement_, next_++, value));
  }
  Statement& Text(std::string_view text) {
    return Note(statement_ == nullptr
                    ? SQLITE_ERROR
                    : sqlite3_bind_text64(statement_, next_++, text.data(), text.size(),
                                          SQLITE_STATIC, SQLITE_UTF8));
  }
  Statement& Blob(std::string_view bytes) {
    // A null pointer would be NULL and not an empty value.
    const char* data = bytes.empty() ? "" : bytes.data();
    return Note(statement_ == nullptr
                    ? SQLITE_ERROR
                    : sqlite3_bind_blob64(statement_, next_++, data, bytes.size(), SQLITE_STATIC));
  }

  absl::Status Run() {
    const absl::StatusOr<bool> row = Next();
    return row.status();
  }
  // Whether there is a further row.
  absl::StatusOr<bool> Next() {
    const int code = bound_ == SQLITE_OK ? sqlite3_step(statement_) : bound_;
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    return database_.Error();
  }
  int64_t Int(int column) const { return sqlite3_column_int64(statement_, column); }
  std::string Bytes(int column) const {
    const void* data = sqlite3_column_blob(statement_, column);
    const int size = sqlite3_column_bytes(statement_, column);
    return {static_cast<const char*>(data), static_cast<size_t>(data == nullptr ? 0 : size)};
  }
  // Of a value that was sealed.
  absl::StatusOr<std::string> Sealed(int column, const char* what, std::string_view of_row) const {
    auto bytes = Unseal(Bytes(column), of_row);
    if (!bytes.has_value()) return database_.Corrupt(std::string("the checksum of ") + what);
    return *std::move(bytes);
  }

 private:
  Statement& Note(int code) {
    if (bound_ == SQLITE_OK) bound_ = code;
    return *this;
  }

  Database& database_;
  sqlite3_stmt* const statement_;
  int next_ = 1;
  int bound_ = statement_ == nullptr ? SQLITE_ERROR : SQLITE_OK;
};

// Of "PRAGMA user_version" and such.
template <typename Database>
absl::StatusOr<int64_t> Number(Database& database, const char* text) {
  Statement statement(database, text);
  ESPALIER_ASSIGN_OR_RETURN(const bool found, statement.Next());
  if (!found) return database.Error();
  return statement.Int(0);
}

// Of the job of this name, if there is one.
template <typename Database>
absl::StatusOr<std::optional<int64_t>> NumberOf(Database& database, const std::string& job) {
  Statement find(database, "SELECT number FROM jobs WHERE name = ?");
  find.Text(job);
  ESPALIER_ASSIGN_OR_RETURN(const bool found, find.Next());
  if (!found) return std::nullopt;
  return find.Int(0);
}

// Also that indexes have what their tables have: a row that is not found would be lost in silence.
template <typename Database>
absl::Status CheckIntegrity(Database& database) {
  Statement statement(database, "PRAGMA integrity_check(1)");
  ESPALIER_ASSIGN_OR_RETURN(const bool found, statement.Next());
  if (found && statement.Bytes(0) == "ok") return absl::OkStatus();
  return database.Corrupt(found ? statement.Bytes(0) : "no answer of integrity_check");
}

template <typename Database>
absl::Status Migrate(Database& database, const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(const int64_t version, Number(database, "PRAGMA user_version"));
  if (version > kSchemaVersion) {
    return base::FailedPrecondition(
        "STORE_TOO_NEW",
        fmt::format("expected a store of version {} or older in {}, found version {}, which a "
                    "later release of this program wrote; start that one",
                    kSchemaVersion, path, version));
  }
  for (int64_t next = version; next < kSchemaVersion; ++next) {
    ESPALIER_RETURN_IF_ERROR(database.Run(fmt::format(
        "BEGIN IMMEDIATE; {} PRAGMA user_version = {}; COMMIT;", kMigrations[next], next + 1)));
  }
  return absl::OkStatus();
}

}  // namespace

SqliteStore::SqliteStore(std::unique_ptr<Database> database) : database_(std::move(database)) {}

SqliteStore::~SqliteStore() = default;

absl::StatusOr<std::unique_ptr<SqliteStore>> SqliteStore::Open(const std::string& path, Sync sync) {
  auto database = std::make_unique<Database>(path);
  ESPALIER_RETURN_IF_ERROR(database->Open());
  // Looked at before anything is written: a newer store stays as it is.
  ESPALIER_RETURN_IF_ERROR(CheckIntegrity(*database));
  ESPALIER_ASSIGN_OR_RETURN(const int64_t version, Number(*database, "PRAGMA user_version"));
  if (version <= kSchemaVersion) {
    ESPALIER_RETURN_IF_ERROR(database->Run("PRAGMA journal_mode = WAL"));
    ESPALIER_RETURN_IF_ERROR(database->Run(sync == Sync::kMachine ? "PRAGMA synchronous = FULL"
                                                                  : "PRAGMA synchronous = NORMAL"));
  }
  ESPALIER_RETURN_IF_ERROR(Migrate(*database, path));
  return std::unique_ptr<SqliteStore>(new SqliteStore(std::move(database)));
}

absl::Status SqliteStore::Copy(const std::string& path, const std::string& copy,
                               const std::function<absl::Status()>& meanwhile) {
  // One connection keeps writers out; it cannot be the one that is copied from.
  Database lock(path);
  ESPALIER_RETURN_IF_ERROR(lock.Open());
  ESPALIER_RETURN_IF_ERROR(lock.Run("BEGIN IMMEDIATE"));
  Database from(path);
  ESPALIER_RETURN_IF_ERROR(from.Open());
  Database to(copy);
  ESPALIER_RETURN_IF_ERROR(to.Open());
  ESPALIER_RETURN_IF_ERROR(to.CopyFrom(from));
  ESPALIER_RETURN_IF_ERROR(meanwhile());
  return lock.Run("ROLLBACK");
}

namespace {

template <typename Database>
absl::Status WriteIncarnation(Database& database, uint64_t incarnation) {
  const std::string sealed = Seal(std::to_string(incarnation), "life");
  return Statement(database, "INSERT OR REPLACE INTO life VALUES (0, ?)").Blob(sealed).Run();
}

// Absent in a new store.
template <typename Database>
absl::StatusOr<std::optional<uint64_t>> ReadIncarnation(Database& database) {
  Statement row(database, "SELECT incarnation FROM life");
  ESPALIER_ASSIGN_OR_RETURN(const bool found, row.Next());
  if (!found) return std::nullopt;
  ESPALIER_ASSIGN_OR_RETURN(const std::string digits, row.Sealed(0, "the incarnation", "life"));
  return std::stoull(digits);
}

}  // namespace

absl::Status SqliteStore::BeginAnew(const std::string& path, uint64_t incarnation) {
  Database database(path);
  ESPALIER_RETURN_IF_ERROR(database.Open());
  ESPALIER_RETURN_IF_ERROR(WriteIncarnation(database, incarnation >> 1));
  // Into the database file itself, which is to be moved alone.
  return database.Run("PRAGMA journal_mode = DELETE");
}

absl::StatusOr<uint64_t> SqliteStore::Begin(uint64_t first) {
  ESPALIER_ASSIGN_OR_RETURN(const std::optional<uint64_t> last, ReadIncarnation(*database_));
  // A first one leaves room for many more.
  const uint64_t incarnation = last.has_value() ? *last + 1 : first >> 1;
  ESPALIER_RETURN_IF_ERROR(WriteIncarnation(*database_, incarnation));
  return incarnation;
}

absl::Status SqliteStore::Commit(std::span<const JobWrite> writes) {
  ESPALIER_RETURN_IF_ERROR(database_->Run("BEGIN IMMEDIATE"));
  absl::Status written;
  for (const JobWrite& write : writes) {
    written = Write(write);
    if (!written.ok()) break;
  }
  if (written.ok()) written = database_->Run("COMMIT");
  // Fails where the error has ended the transaction already.
  if (!written.ok()) (void)database_->Run("ROLLBACK");
  return written;
}

absl::Status SqliteStore::WriteAccess(const AccessWrite& access) {
  if (!access.record.has_value()) {
    return Statement(*database_, "DELETE FROM access WHERE name = ?").Text(access.name).Run();
  }
  const std::string sealed = Seal(*access.record, AccessKey(access.name));
  return Statement(*database_, "INSERT OR REPLACE INTO access VALUES (?, ?)")
      .Text(access.name)
      .Blob(sealed)
      .Run();
}

absl::Status SqliteStore::Write(const JobWrite& write) {
  for (const AccessWrite& access : write.access) ESPALIER_RETURN_IF_ERROR(WriteAccess(access));
  if (write.job.empty()) return absl::OkStatus();
  if (write.accepted.has_value()) {
    const std::string accepted = Seal(*write.accepted, write.job);
    ESPALIER_RETURN_IF_ERROR(
        Statement(*database_, "INSERT INTO jobs (name, accepted) VALUES (?, ?)")
            .Text(write.job)
            .Blob(accepted)
            .Run());
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::optional<int64_t> number, NumberOf(*database_, write.job));
  if (!number.has_value()) return database_->Corrupt("no job of the name " + write.job);
  if (write.deleted) return Delete(*number);
  const std::optional<std::string>* contents[] = {&write.record, &write.progress, &write.state};
  const char* const statements[] = {"INSERT OR REPLACE INTO records VALUES (?, ?)",
                                    "INSERT OR REPLACE INTO progress VALUES (?, ?)",
                                    "INSERT OR REPLACE INTO states VALUES (?, ?)"};
  for (size_t i = 0; i < std::size(kParts); ++i) {
    // A new job has all of them, so that one that is missing is missed.
    if (!contents[i]->has_value() && !write.accepted.has_value()) continue;
    const std::string sealed = Seal(contents[i]->value_or(""), PartKey(kParts[i], *number));
    ESPALIER_RETURN_IF_ERROR(Statement(*database_, statements[i]).Bind(*number).Blob(sealed).Run());
  }
  for (const StoredEvent& event : write.events) {
    const std::string bytes = Seal(event.bytes, EventKey(*number, event.sequence));
    ESPALIER_RETURN_IF_ERROR(Statement(*database_, "INSERT INTO events VALUES (?, ?, ?)")
                                 .Bind(*number)
                                 .Bind(event.sequence)
                                 .Blob(bytes)
                                 .Run());
  }
  return WriteUpdates(write, *number);
}

absl::Status SqliteStore::WriteUpdates(const JobWrite& write, int64_t number) {
  if (write.new_step) {
    for (const char* text :
         {"INSERT INTO counted (job, id, fingerprint) SELECT job, id, fingerprint FROM updates "
          "WHERE job = ? ORDER BY number",
          "DELETE FROM updates WHERE job = ?"}) {
      ESPALIER_RETURN_IF_ERROR(Statement(*database_, text).Bind(number).Run());
    }
  }
  for (const auto& [id, fingerprint] : write.counted_before) {
    ESPALIER_RETURN_IF_ERROR(
        Statement(*database_, "INSERT INTO counted (job, id, fingerprint) VALUES (?, ?, ?)")
            .Bind(number)
            .Blob(id)
            .Blob(fingerprint)
            .Run());
  }
  for (const StoredUpdate& update : write.updates) {
    const std::string bytes = Seal(update.bytes, UpdateKey(number, update));
    ESPALIER_RETURN_IF_ERROR(
        Statement(*database_,
                  "INSERT INTO updates (job, id, fingerprint, contents) VALUES (?, ?, ?, ?)")
            .Bind(number)
            .Blob(update.id)
            .Blob(update.fingerprint)
            .Blob(bytes)
            .Run());
  }
  if (!write.new_step && write.counted_before.empty()) return absl::OkStatus();
  return Statement(*database_,
                   "DELETE FROM counted WHERE number <= (SELECT MAX(number) FROM counted) - ?")
      .Bind(kRememberedUpdates)
      .Run();
}

absl::Status SqliteStore::Delete(int64_t number) {
  for (const char* text : {"DELETE FROM events WHERE job = ?", "DELETE FROM updates WHERE job = ?",
                           "DELETE FROM counted WHERE job = ?", "DELETE FROM records WHERE job = ?",
                           "DELETE FROM progress WHERE job = ?", "DELETE FROM states WHERE job = ?",
                           "DELETE FROM jobs WHERE number = ?"}) {
    ESPALIER_RETURN_IF_ERROR(Statement(*database_, text).Bind(number).Run());
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::Jobs(const Visit& visit) {
  Statement rows(*database_,
                 "SELECT number, name, accepted, contents FROM jobs LEFT JOIN records ON job = "
                 "number ORDER BY number");
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, rows.Next());
    if (!found) return absl::OkStatus();
    StoredJob job;
    job.job = rows.Bytes(1);
    ESPALIER_ASSIGN_OR_RETURN(job.accepted, rows.Sealed(2, "a job", job.job));
    ESPALIER_ASSIGN_OR_RETURN(job.record, rows.Sealed(3, "a job", PartKey("record", rows.Int(0))));
    ESPALIER_RETURN_IF_ERROR(visit(std::move(job)));
  }
}

absl::StatusOr<std::string> SqliteStore::ReadRecord(const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(const std::optional<int64_t> number, NumberOf(*database_, name));
  if (!number.has_value()) return NoSuchJob(name);
  Statement row(*database_, "SELECT contents FROM records WHERE job = ?");
  row.Bind(*number);
  ESPALIER_ASSIGN_OR_RETURN(const bool found, row.Next());
  if (!found) return database_->Corrupt("no record of " + name);
  return row.Sealed(0, "a job", PartKey("record", *number));
}

absl::StatusOr<StoredJob> SqliteStore::Read(const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(const std::optional<int64_t> number, NumberOf(*database_, name));
  if (!number.has_value()) return NoSuchJob(name);
  StoredJob job;
  job.job = name;
  {
    Statement row(*database_,
                  "SELECT accepted, records.contents, progress.contents, states.contents FROM jobs "
                  "LEFT JOIN records ON records.job = number LEFT JOIN progress ON progress.job = "
                  "number LEFT JOIN states ON states.job = number WHERE number = ?");
    row.Bind(*number);
    ESPALIER_ASSIGN_OR_RETURN(const bool found, row.Next());
    if (!found) return database_->Error();
    ESPALIER_ASSIGN_OR_RETURN(job.accepted, row.Sealed(0, "a job", name));
    std::string* const parts[] = {&job.record, &job.progress, &job.state};
    for (size_t i = 0; i < std::size(kParts); ++i) {
      ESPALIER_ASSIGN_OR_RETURN(
          *parts[i], row.Sealed(static_cast<int>(i) + 1, kParts[i], PartKey(kParts[i], *number)));
    }
  }
  ESPALIER_RETURN_IF_ERROR(ReadRows(job, *number));
  return job;
}

absl::Status SqliteStore::ReadRows(StoredJob& job, int64_t number) {
  Statement events(*database_,
                   "SELECT sequence, event FROM events WHERE job = ? ORDER BY sequence");
  events.Bind(number);
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, events.Next());
    if (!found) break;
    StoredEvent& event = job.events.emplace_back();
    event.sequence = events.Int(0);
    ESPALIER_ASSIGN_OR_RETURN(event.bytes,
                              events.Sealed(1, "an event", EventKey(number, event.sequence)));
  }
  Statement updates(*database_,
                    "SELECT id, fingerprint, contents FROM updates WHERE job = ? ORDER BY number");
  updates.Bind(number);
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, updates.Next());
    if (!found) break;
    StoredUpdate& update = job.updates.emplace_back();
    update.id = updates.Bytes(0);
    update.fingerprint = updates.Bytes(1);
    ESPALIER_ASSIGN_OR_RETURN(update.bytes,
                              updates.Sealed(2, "an update", UpdateKey(number, update)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> SqliteStore::CountedUpdates() {
  std::vector<std::pair<std::string, std::string>> counted;
  ESPALIER_ASSIGN_OR_RETURN(const int64_t in_work,
                            Number(*database_, "SELECT COUNT(*) FROM updates"));
  Statement rows(*database_,
                 "SELECT id, fingerprint FROM (SELECT 0 AS newer, number, id, fingerprint FROM "
                 "counted WHERE number > (SELECT MAX(number) FROM counted) - ? UNION ALL SELECT 1, "
                 "number, id, fingerprint FROM updates) ORDER BY newer, number");
  rows.Bind(std::max<int64_t>(0, kRememberedUpdates - in_work));
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, rows.Next());
    if (!found) return counted;
    counted.emplace_back(rows.Bytes(0), rows.Bytes(1));
  }
}

absl::StatusOr<std::map<std::string, std::string>> SqliteStore::AccessRecords() {
  std::map<std::string, std::string> records;
  Statement rows(*database_, "SELECT name, contents FROM access ORDER BY name");
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, rows.Next());
    if (!found) return records;
    const std::string name = rows.Bytes(0);
    ESPALIER_ASSIGN_OR_RETURN(records[name], rows.Sealed(1, "a record of access", AccessKey(name)));
  }
}

}  // namespace espalier::server::store
