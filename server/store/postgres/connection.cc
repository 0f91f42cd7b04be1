#include "server/store/postgres/connection.h"

#include <endian.h>
#include <fmt/core.h>
#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "common/base/status.h"

namespace espalier::server::store {
namespace {

// Types as PostgreSQL numbers them in pg_type, which never changes.
constexpr uint32_t kByteaType = 17;
constexpr uint32_t kInt8Type = 20;
constexpr uint32_t kTextType = 25;
constexpr int kBinary = 1;
// What the schema's function raises (schema.h).
constexpr std::string_view kLeaseLost = "ESL01";
constexpr std::string_view kCommitIsThere = "ESL02";
constexpr std::string_view kCommitsAreGone = "ESL03";
constexpr std::string_view kDiskFull = "53100";

// A server that is gone without a word is noticed by the kernel after this time.
constexpr const char* kSilenceMilliseconds = "8000";

// libpq ends its messages with a line feed, and has several lines and tabs where there are several
// addresses.
std::string OneLine(std::string_view message) {
  std::string line;
  for (const char c : message) {
    if (c != '\n' && c != '\t') {
      line += c;
    } else if (!line.ends_with(' ')) {
      line += ' ';
    }
  }
  while (line.ends_with(' ')) line.pop_back();
  return line.empty() ? "no message" : line;
}

int64_t After(absl::Duration wait) { return ElapsedNanoseconds() + absl::ToInt64Nanoseconds(wait); }

absl::Status StorageError(const std::string& where, std::string_view what) {
  return base::MakeError(absl::StatusCode::kUnavailable, "STORAGE_ERROR",
                         fmt::format("{} could not be used: {}", where, what));
}

}  // namespace

int64_t ElapsedNanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

PgValue PgValue::Int(int64_t value) {
  const uint64_t big = htobe64(static_cast<uint64_t>(value));
  return {kInt8Type, std::string(reinterpret_cast<const char*>(&big), sizeof(big))};
}
PgValue PgValue::Text(std::string_view text) { return {kTextType, std::string(text)}; }
PgValue PgValue::Bytes(std::string_view bytes) { return {kByteaType, std::string(bytes)}; }

int PgRows::size() const { return PQntuples(result_.get()); }
bool PgRows::IsNull(int row, int column) const {
  return PQgetisnull(result_.get(), row, column) != 0;
}
int64_t PgRows::Int(int row, int column) const {
  uint64_t big = 0;
  if (PQgetlength(result_.get(), row, column) != sizeof(big)) return 0;
  std::memcpy(&big, PQgetvalue(result_.get(), row, column), sizeof(big));
  return static_cast<int64_t>(be64toh(big));
}
std::string PgRows::Bytes(int row, int column) const {
  return {PQgetvalue(result_.get(), row, column),
          static_cast<size_t>(PQgetlength(result_.get(), row, column))};
}

Connection::Connection(std::string url, std::string name, std::string settings)
    : url_(std::move(url)),
      name_(std::move(name)),
      settings_(std::move(settings)),
      where_("the database of --store") {}

Connection::~Connection() { Close(); }

bool Connection::HasPassword(const std::string& url) {
  PQconninfoOption* const options = PQconninfoParse(url.c_str(), nullptr);
  bool found = false;
  for (const PQconninfoOption* option = options; option != nullptr && option->keyword != nullptr;
       ++option) {
    found |= std::string_view(option->keyword) == "password" && option->val != nullptr;
  }
  PQconninfoFree(options);
  return found;
}

void Connection::Close() {
  PQfinish(connection_);
  connection_ = nullptr;
}

absl::Status Connection::Connect() {
  if (connection_ != nullptr) return absl::OkStatus();
  PQconninfoOption* const understood = PQconninfoParse(url_.c_str(), nullptr);
  if (understood == nullptr) {
    // What libpq says of it repeats it.
    return base::InvalidArgument("STORE_URL_INVALID",
                                 "expected --store postgresql://user@host:port/database, found a "
                                 "URL that libpq does not understand");
  }
  PQconninfoFree(understood);
  const std::string seconds = std::to_string(kConnectSeconds);
  // The URL stands where libpq takes the name of the database; what follows it wins.
  const std::array keywords = {"dbname",
                               "application_name",
                               "connect_timeout",
                               "keepalives_idle",
                               "keepalives_interval",
                               "keepalives_count",
                               "tcp_user_timeout",
                               "client_encoding",
                               "options",
                               static_cast<const char*>(nullptr)};
  const std::array values = {url_.c_str(),
                             name_.c_str(),
                             seconds.c_str(),
                             "4",
                             "2",
                             "2",
                             kSilenceMilliseconds,
                             "UTF8",
                             settings_.c_str(),
                             static_cast<const char*>(nullptr)};
  connection_ = PQconnectdbParams(keywords.data(), values.data(), /*expand_dbname=*/1);
  if (PQstatus(connection_) != CONNECTION_OK) {
    const std::string what = OneLine(PQerrorMessage(connection_));
    Close();
    return StorageError(where_, what);
  }
  where_ = fmt::format("database {} at {}:{}", PQdb(connection_), PQhost(connection_),
                       PQport(connection_));
  PQsetnonblocking(connection_, 1);
  // Notices go to the log of the server alone.
  PQsetNoticeReceiver(
      connection_, [](void*, const PGresult*) {}, nullptr);
  return absl::OkStatus();
}

absl::Status Connection::Corrupt(std::string_view what) const {
  return base::MakeError(
      absl::StatusCode::kDataLoss, "STORE_CORRUPT",
      fmt::format("expected the coordinator's store in {} as it was written, found it damaged "
                  "({}); put a copy of the database in its place, or drop the schema espalier to "
                  "begin without jobs (checkpoints stay)",
                  where_, what));
}

absl::Status Connection::Broken(std::string_view what) {
  absl::Status error = StorageError(where_, what);
  Close();
  return error;
}

absl::Status Connection::ErrorOf(const pg_result* result) const {
  const char* field = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const std::string_view code = field == nullptr ? "" : field;
  const std::string what = OneLine(PQresultErrorMessage(result));
  if (code == kLeaseLost) {
    return base::MakeError(
        absl::StatusCode::kAborted, "STORE_LEASE_LOST",
        fmt::format("another coordinator has taken over the jobs in {}", where_));
  }
  if (code == kCommitIsThere) {
    return base::MakeError(absl::StatusCode::kAborted, kIsThere, "it was written before");
  }
  if (code == kCommitsAreGone) {
    return base::MakeError(
        absl::StatusCode::kAborted, "STORE_FELL_BACK",
        fmt::format(
            "expected what was committed to be in {}, found that the server has lost some of "
            "it; is synchronous_commit off, or the server a replica that was not up to date?",
            where_));
  }
  if (code == kDiskFull) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
                           fmt::format("there is no space left for {}; free some", where_));
  }
  // 22 and 23: values and rows do not fit the tables; 42: these are not ours any more, except for
  // missing privileges, which somebody may give; XX: the server found its own files damaged.
  const std::string_view kind = code.substr(0, 2);
  const bool privilege = code == "42501";
  if (kind == "22" || kind == "23" || (kind == "42" && !privilege) || kind == "XX") {
    return Corrupt(what);
  }
  return StorageError(where_, what);
}

absl::Status Connection::WaitFor(bool write, int64_t deadline) {
  const int64_t left = deadline - ElapsedNanoseconds();
  if (left <= 0) return Broken("it did not answer in time");
  pollfd wanted{PQsocket(connection_), static_cast<short>(write ? POLLIN | POLLOUT : POLLIN), 0};
  const int64_t wait = std::max<int64_t>(1, left / 1'000'000);
  if (poll(&wanted, 1, static_cast<int>(wait)) < 0 && errno != EINTR) {
    return Broken("its connection cannot be waited for");
  }
  // What the server says is read also while there is something to be sent: it would stop to read if
  // nobody heard its answers.
  if ((wanted.revents & ~POLLOUT) != 0 && PQconsumeInput(connection_) == 0) {
    return Broken(OneLine(PQerrorMessage(connection_)));
  }
  return absl::OkStatus();
}

absl::Status Connection::Flush(absl::Duration answer) {
  for (;;) {
    const int left = PQflush(connection_);
    if (left == 0) return absl::OkStatus();
    if (left < 0) return Broken(OneLine(PQerrorMessage(connection_)));
    // As long as it takes something, a slow connection is none that is broken.
    ESPALIER_RETURN_IF_ERROR(WaitFor(/*write=*/true, After(answer)));
  }
}

absl::StatusOr<std::shared_ptr<pg_result>> Connection::Result(int64_t deadline) {
  while (PQisBusy(connection_) != 0) {
    ESPALIER_RETURN_IF_ERROR(WaitFor(/*write=*/false, deadline));
  }
  return std::shared_ptr<pg_result>(PQgetResult(connection_), PQclear);
}

absl::Status Connection::Send(const PgStatement& statement) {
  std::vector<Oid> types;
  std::vector<const char*> values;
  std::vector<int> lengths;
  for (const PgValue& value : statement.values) {
    types.push_back(value.type());
    values.push_back(value.bytes().data());
    lengths.push_back(static_cast<int>(value.bytes().size()));
  }
  const std::vector<int> formats(statement.values.size(), kBinary);
  if (PQsendQueryParams(connection_, statement.text.c_str(), static_cast<int>(values.size()),
                        types.data(), values.data(), lengths.data(), formats.data(),
                        kBinary) == 0) {
    return Broken(OneLine(PQerrorMessage(connection_)));
  }
  return absl::OkStatus();
}

absl::StatusOr<PgRows> Connection::Run(const PgStatement& statement, absl::Duration answer) {
  ESPALIER_RETURN_IF_ERROR(Connect());
  ESPALIER_RETURN_IF_ERROR(Send(statement));
  ESPALIER_RETURN_IF_ERROR(Flush(answer));
  const int64_t deadline = After(answer);
  ESPALIER_ASSIGN_OR_RETURN(const std::shared_ptr<pg_result> result, Result(deadline));
  if (result == nullptr) return Broken(OneLine(PQerrorMessage(connection_)));
  // The end of the answer.
  ESPALIER_RETURN_IF_ERROR(Result(deadline).status());
  const ExecStatusType status = PQresultStatus(result.get());
  if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK) return PgRows(result);
  absl::Status error = ErrorOf(result.get());
  if (PQstatus(connection_) != CONNECTION_OK) Close();
  return error;
}

absl::Status Connection::RunTransaction(const std::vector<PgStatement>& statements) {
  ESPALIER_RETURN_IF_ERROR(Connect());
  // In a pipeline everything up to the next synchronisation is one transaction, and nothing that
  // follows an error is done.
  if (PQenterPipelineMode(connection_) == 0) return Broken("no pipeline is possible");
  for (const PgStatement& statement : statements) ESPALIER_RETURN_IF_ERROR(Send(statement));
  if (PQpipelineSync(connection_) == 0) return Broken(OneLine(PQerrorMessage(connection_)));
  ESPALIER_RETURN_IF_ERROR(Flush(kAnswer));
  const int64_t deadline = After(kAnswer);
  absl::Status outcome;
  for (size_t i = 0; i < statements.size(); ++i) {
    ESPALIER_ASSIGN_OR_RETURN(const std::shared_ptr<pg_result> result, Result(deadline));
    if (result == nullptr) return Broken(OneLine(PQerrorMessage(connection_)));
    const ExecStatusType status = PQresultStatus(result.get());
    if (outcome.ok() && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK) {
      outcome = ErrorOf(result.get());
    }
    ESPALIER_RETURN_IF_ERROR(Result(deadline).status());
    if (PQstatus(connection_) != CONNECTION_OK) return Broken(OneLine(PQerrorMessage(connection_)));
  }
  // The transaction is over when the server says that it has come to the synchronisation; an error of the
  // commit itself stands in its place.
  ESPALIER_ASSIGN_OR_RETURN(const std::shared_ptr<pg_result> synced, Result(deadline));
  if (synced == nullptr) return Broken(OneLine(PQerrorMessage(connection_)));
  if (PQresultStatus(synced.get()) != PGRES_PIPELINE_SYNC) {
    absl::Status error = ErrorOf(synced.get());
    Close();
    return outcome.ok() ? error : outcome;
  }
  if (PQexitPipelineMode(connection_) == 0) Close();
  return outcome;
}

}  // namespace espalier::server::store
