#include "server/store/sqlite_store.h"

#include <fmt/core.h>
#include <sqlite3.h>

#include <cstring>
#include <map>
#include <string_view>

#include "common/base/status.h"
#include "common/io/crc32c.h"

namespace espalier::server::store {
namespace {

constexpr int kSchemaVersion = 1;
constexpr int kBusyMilliseconds = 60'000;

// What leads from each version to the next one.
constexpr const char* kMigrations[kSchemaVersion] = {
    "CREATE TABLE life (id INTEGER PRIMARY KEY CHECK (id = 0), incarnation INTEGER NOT NULL);"
    // What changes at different times is in tables of its own, since a row is written whole.
    "CREATE TABLE jobs (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE,"
    "  accepted BLOB NOT NULL);"
    "CREATE TABLE records (job INTEGER PRIMARY KEY, contents BLOB NOT NULL);"
    "CREATE TABLE progress (job INTEGER PRIMARY KEY, contents BLOB NOT NULL);"
    "CREATE TABLE states (job INTEGER PRIMARY KEY, contents BLOB NOT NULL);"
    "CREATE TABLE events (job INTEGER NOT NULL, sequence INTEGER NOT NULL, event BLOB NOT NULL,"
    "  PRIMARY KEY (job, sequence)) WITHOUT ROWID;"
    // A null update is of an earlier step: it is known that it was counted, and no more.
    "CREATE TABLE updates (number INTEGER PRIMARY KEY, id BLOB NOT NULL,"
    "  fingerprint BLOB NOT NULL, job INTEGER NOT NULL, contents BLOB, UNIQUE (job, id));"
    "CREATE INDEX updates_of_steps ON updates (job) WHERE contents IS NOT NULL;",
};

// A value with its checksum.
std::string Seal(std::string_view bytes) {
  std::string sealed(bytes);
  const uint32_t crc = io::Crc32c(bytes);
  sealed.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
  return sealed;
}

std::optional<std::string> Unseal(std::string_view sealed) {
  uint32_t crc = 0;
  if (sealed.size() < sizeof(crc)) return std::nullopt;
  std::memcpy(&crc, sealed.data() + sealed.size() - sizeof(crc), sizeof(crc));
  sealed.remove_suffix(sizeof(crc));
  if (io::Crc32c(sealed) != crc) return std::nullopt;
  return std::string(sealed);
}

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
  absl::StatusOr<std::string> Sealed(int column, const char* what) const {
    auto bytes = Unseal(Bytes(column));
    if (!bytes.has_value()) return database_.Corrupt(std::string("the checksum of ") + what);
    return *std::move(bytes);
  }
  // Of a row that may be missing: "".
  absl::StatusOr<std::string> SealedOrNone(int column, const char* what) const {
    if (sqlite3_column_type(statement_, column) == SQLITE_NULL) return std::string();
    return Sealed(column, what);
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

template <typename Database>
absl::Status QuickCheck(Database& database) {
  Statement statement(database, "PRAGMA quick_check(1)");
  ESPALIER_ASSIGN_OR_RETURN(const bool found, statement.Next());
  if (found && statement.Bytes(0) == "ok") return absl::OkStatus();
  return database.Corrupt(found ? statement.Bytes(0) : "no answer of quick_check");
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
  ESPALIER_RETURN_IF_ERROR(QuickCheck(*database));
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
  ESPALIER_RETURN_IF_ERROR(QuickCheck(from));
  Database to(copy);
  ESPALIER_RETURN_IF_ERROR(to.Open());
  ESPALIER_RETURN_IF_ERROR(to.CopyFrom(from));
  ESPALIER_RETURN_IF_ERROR(meanwhile());
  return lock.Run("ROLLBACK");
}

absl::Status SqliteStore::BeginAnew(const std::string& path, uint64_t incarnation) {
  Database database(path);
  ESPALIER_RETURN_IF_ERROR(database.Open());
  ESPALIER_RETURN_IF_ERROR(Statement(database, "UPDATE life SET incarnation = ?")
                               .Bind(static_cast<int64_t>(incarnation >> 1))
                               .Run());
  // Into the database file itself, which is to be moved alone.
  return database.Run("PRAGMA journal_mode = DELETE");
}

absl::StatusOr<uint64_t> SqliteStore::Begin(uint64_t first) {
  // SQLite's integers are signed: the bits are what counts.
  Statement statement(*database_,
                      "INSERT INTO life VALUES (0, ?) ON CONFLICT (id) DO UPDATE SET incarnation = "
                      "incarnation + 1 RETURNING incarnation");
  statement.Bind(static_cast<int64_t>(first >> 1));
  ESPALIER_ASSIGN_OR_RETURN(const bool found, statement.Next());
  if (!found) return database_->Error();
  const auto incarnation = static_cast<uint64_t>(statement.Int(0));
  // The statement, and with it its transaction, is at its end only then.
  ESPALIER_RETURN_IF_ERROR(statement.Run());
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

absl::Status SqliteStore::Write(const JobWrite& write) {
  if (write.accepted.has_value()) {
    const std::string accepted = Seal(*write.accepted);
    ESPALIER_RETURN_IF_ERROR(
        Statement(*database_, "INSERT INTO jobs (name, accepted) VALUES (?, ?)")
            .Text(write.job)
            .Blob(accepted)
            .Run());
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::optional<int64_t> number, NumberOf(*database_, write.job));
  if (!number.has_value()) return database_->Corrupt("no job of the name " + write.job);
  if (write.deleted) return Delete(*number);
  const std::pair<const std::optional<std::string>&, const char*> contents[] = {
      {write.record, "INSERT OR REPLACE INTO records VALUES (?, ?)"},
      {write.progress, "INSERT OR REPLACE INTO progress VALUES (?, ?)"},
      {write.state, "INSERT OR REPLACE INTO states VALUES (?, ?)"}};
  for (const auto& [bytes, text] : contents) {
    if (!bytes.has_value()) continue;
    const std::string sealed = Seal(*bytes);
    ESPALIER_RETURN_IF_ERROR(Statement(*database_, text).Bind(*number).Blob(sealed).Run());
  }
  for (const StoredEvent& event : write.events) {
    const std::string bytes = Seal(event.bytes);
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
    ESPALIER_RETURN_IF_ERROR(
        Statement(*database_,
                  "UPDATE updates SET contents = NULL WHERE job = ? AND contents IS NOT NULL")
            .Bind(number)
            .Run());
  }
  for (const auto& [id, fingerprint] : write.counted_before) {
    ESPALIER_RETURN_IF_ERROR(
        Statement(*database_,
                  "INSERT OR IGNORE INTO updates (id, fingerprint, job) VALUES (?, ?, ?)")
            .Blob(id)
            .Blob(fingerprint)
            .Bind(number)
            .Run());
  }
  for (const StoredUpdate& update : write.updates) {
    const std::string bytes = Seal(update.bytes);
    ESPALIER_RETURN_IF_ERROR(
        Statement(
            *database_,
            // An id of which it was forgotten that it was counted may return.
            "INSERT OR REPLACE INTO updates (id, fingerprint, job, contents) VALUES (?, ?, ?, "
            "?)")
            .Blob(update.id)
            .Blob(update.fingerprint)
            .Bind(number)
            .Blob(bytes)
            .Run());
  }
  if (write.updates.empty() && write.counted_before.empty()) return absl::OkStatus();
  return Statement(*database_,
                   "DELETE FROM updates WHERE contents IS NULL AND number <= (SELECT MAX(number) "
                   "FROM updates) - ?")
      .Bind(kRememberedUpdates)
      .Run();
}

absl::Status SqliteStore::Delete(int64_t number) {
  for (const char* text :
       {"DELETE FROM events WHERE job = ?", "DELETE FROM updates WHERE job = ?",
        "DELETE FROM records WHERE job = ?", "DELETE FROM progress WHERE job = ?",
        "DELETE FROM states WHERE job = ?", "DELETE FROM jobs WHERE number = ?"}) {
    ESPALIER_RETURN_IF_ERROR(Statement(*database_, text).Bind(number).Run());
  }
  return absl::OkStatus();
}

absl::Status SqliteStore::Jobs(const Visit& visit) {
  Statement rows(
      *database_,
      "SELECT name, accepted, contents FROM jobs LEFT JOIN records ON job = number ORDER "
      "BY number");
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, rows.Next());
    if (!found) return absl::OkStatus();
    StoredJob job;
    job.job = rows.Bytes(0);
    ESPALIER_ASSIGN_OR_RETURN(job.accepted, rows.Sealed(1, "a job"));
    ESPALIER_ASSIGN_OR_RETURN(job.record, rows.SealedOrNone(2, "a job"));
    ESPALIER_RETURN_IF_ERROR(visit(std::move(job)));
  }
}

absl::StatusOr<std::string> SqliteStore::ReadRecord(const std::string& name) {
  Statement row(
      *database_,
      "SELECT contents FROM records WHERE job = (SELECT number FROM jobs WHERE name = ?)");
  row.Text(name);
  ESPALIER_ASSIGN_OR_RETURN(const bool found, row.Next());
  if (!found) return NoSuchJob(name);
  return row.Sealed(0, "a job");
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
    ESPALIER_ASSIGN_OR_RETURN(job.accepted, row.Sealed(0, "a job"));
    ESPALIER_ASSIGN_OR_RETURN(job.record, row.SealedOrNone(1, "a job"));
    ESPALIER_ASSIGN_OR_RETURN(job.progress, row.SealedOrNone(2, "a job's progress"));
    ESPALIER_ASSIGN_OR_RETURN(job.state, row.SealedOrNone(3, "a state"));
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
    ESPALIER_ASSIGN_OR_RETURN(event.bytes, events.Sealed(1, "an event"));
  }
  Statement updates(*database_,
                    "SELECT id, fingerprint, contents FROM updates WHERE job = ? AND contents IS "
                    "NOT NULL ORDER BY number");
  updates.Bind(number);
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, updates.Next());
    if (!found) break;
    StoredUpdate& update = job.updates.emplace_back();
    update.id = updates.Bytes(0);
    update.fingerprint = updates.Bytes(1);
    ESPALIER_ASSIGN_OR_RETURN(update.bytes, updates.Sealed(2, "an update"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> SqliteStore::CountedUpdates() {
  std::vector<std::pair<std::string, std::string>> counted;
  Statement rows(*database_,
                 "SELECT id, fingerprint FROM updates WHERE number > (SELECT MAX(number) FROM "
                 "updates) - ? ORDER BY number");
  rows.Bind(kRememberedUpdates);
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool found, rows.Next());
    if (!found) return counted;
    counted.emplace_back(rows.Bytes(0), rows.Bytes(1));
  }
}

}  // namespace espalier::server::store
