// Connection: one connection to a PostgreSQL server, with a bound on every wait.
//
// Threading: one thread at a time.
// Errors:    Unavailable STORAGE_ERROR when the server cannot be reached, does not answer in time or
//            ends the connection: whether what was asked for last was done is not known then, and
//            the connection is closed (connected()). ResourceExhausted STORAGE_FULL. Aborted
//            STORE_LEASE_LOST for statements that the schema refuses to a coordinator whose lease is over.
//            DataLoss STORE_CORRUPT where rows or tables are not as they were written.
// Secrets:   messages name host, port and database, and never the URL, which may have a password.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

struct pg_conn;
struct pg_result;

namespace espalier::server::store {

// What a statement is given, or what stands in a row, in PostgreSQL's binary form.
class PgValue {
 public:
  static PgValue Int(int64_t value);
  static PgValue Text(std::string_view text);
  static PgValue Bytes(std::string_view bytes);

  uint32_t type() const { return type_; }
  const std::string& bytes() const { return bytes_; }

 private:
  PgValue(uint32_t type, std::string bytes) : type_(type), bytes_(std::move(bytes)) {}
  uint32_t type_;
  std::string bytes_;
};

struct PgStatement {
  std::string text;  // with $1, $2 …
  std::vector<PgValue> values;
};

// The rows that a statement gave.
class PgRows {
 public:
  explicit PgRows(std::shared_ptr<pg_result> result) : result_(std::move(result)) {}
  int size() const;
  bool IsNull(int row, int column) const;
  // Of bigint.
  int64_t Int(int row, int column) const;
  // Of text and bytea.
  std::string Bytes(int row, int column) const;

 private:
  std::shared_ptr<pg_result> result_;
};

// Nanoseconds since this machine was started, also those in which it was suspended; a clock that nobody
// sets.
int64_t ElapsedNanoseconds();

class Connection {
 public:
  // The reason of a transaction's error (Aborted) when it is in the database already.
  static constexpr std::string_view kIsThere = "IS_THERE";
  // How long the server may say and take nothing, and how long it may take to be connected to.
  static constexpr absl::Duration kAnswer = absl::Seconds(30);
  static constexpr int kConnectSeconds = 3;

  // `url`: "postgresql://user@host:port/database?…", as libpq has it. `name` is how the server lists
  // the connection, `settings` are the server's for it: "-c synchronous_commit=off". Connects with
  // the first call.
  Connection(std::string url, std::string name, std::string settings);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // Whether there is a password in the URL.
  static bool HasPassword(const std::string& url);
  // For people: "database espalier at db.example:5432".
  const std::string& where() const { return where_; }
  bool connected() const { return connection_ != nullptr; }
  // Connects, if it is not connected. Errors: also InvalidArgument STORE_URL_INVALID.
  absl::Status Connect();
  // One statement; outside of a transaction it is one of its own.
  absl::StatusOr<PgRows> Run(const PgStatement& statement, absl::Duration answer = kAnswer);
  // All of them in one transaction, which is sent as a whole: it takes one round trip, however many
  // they are. Their rows are dropped.
  absl::Status RunTransaction(const std::vector<PgStatement>& statements);
  absl::Status Corrupt(std::string_view what) const;
  void Close();

 private:
  absl::StatusOr<std::shared_ptr<pg_result>> Result(int64_t deadline);
  absl::Status Flush(absl::Duration answer);
  absl::Status WaitFor(bool write, int64_t deadline);
  absl::Status Send(const PgStatement& statement);
  absl::Status Broken(std::string_view what);
  absl::Status ErrorOf(const pg_result* result) const;

  const std::string url_;
  const std::string name_;
  const std::string settings_;
  std::string where_;
  pg_conn* connection_ = nullptr;
};

}  // namespace espalier::server::store
