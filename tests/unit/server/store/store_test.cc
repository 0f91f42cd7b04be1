// What every store does, and what a database on a disk does beside that.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "server/store/memory_store.h"
#include "server/store/postgres/connection.h"
#include "server/store/postgres/postgres_store.h"
#include "server/store/sqlite_store.h"

namespace espalier::server::store {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

class Folder {
 public:
  Folder() {
    static int next = 0;
    path_ = testing::TempDir() + "espalier-store-" + std::to_string(getpid()) + "-" +
            std::to_string(next++);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string File() const { return path_ + "/jobs.sqlite"; }

 private:
  std::string path_;
};

JobWrite NewJob(const std::string& name) {
  JobWrite write;
  write.job = name;
  write.accepted = "accepted " + name;
  write.record = "record " + name;
  write.events = {{1, "first"}};
  return write;
}

JobWrite Change(const std::string& name) {
  JobWrite write;
  write.job = name;
  return write;
}

std::vector<std::string> Ids(const StoredJob& job) {
  std::vector<std::string> ids;
  for (const StoredUpdate& update : job.updates) ids.push_back(update.id);
  return ids;
}

// The database of the server that tests/support/postgres.py has started, without the tables of an
// earlier test.
std::string EmptyDatabase() {
  const char* url = std::getenv("ESPALIER_POSTGRES_URL");
  EXPECT_NE(url, nullptr) << "run tests/support/postgres.py -- "
                          << "server_store_test";
  Connection admin(url == nullptr ? "" : url, "test", "");
  EXPECT_TRUE(admin.Run({"DROP SCHEMA IF EXISTS espalier CASCADE", {}}).ok());
  return url == nullptr ? "" : url;
}

PostgresStore::Options By(const std::string& url, const std::string& id) {
  return {.url = url, .id = id, .holder = "coordinator " + id, .lease = absl::Milliseconds(300)};
}

// A store that ends and begins again between two calls of Again(), if it outlives its process.
class StoreTest : public testing::TestWithParam<std::string> {
 protected:
  StoreTest() {
    if (GetParam() == "postgres") url_ = EmptyDatabase();
    Again();
  }

  void Again() {
    if (GetParam() == "memory" && store_ != nullptr) return;
    store_.reset();
    if (GetParam() == "memory") {
      store_ = std::make_unique<MemoryStore>();
    } else if (GetParam() == "postgres") {
      store_ = std::make_unique<PostgresStore>(By(url_, "a"));
      // A coordinator begins before it does anything else.
      ASSERT_TRUE(store_->Begin(0).ok());
    } else {
      auto opened = SqliteStore::Open(folder_.File());
      ASSERT_TRUE(opened.ok()) << opened.status();
      store_ = *std::move(opened);
    }
  }
  void Commit(const std::vector<JobWrite>& writes) {
    const absl::Status status = store_->Commit(writes);
    ASSERT_TRUE(status.ok()) << status;
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const absl::Status status = store_->Jobs([&names](const StoredJob& job) {
      names.push_back(job.job);
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return names;
  }
  StoredJob Read(const std::string& job) { return store_->Read(job).value(); }

  Folder folder_;
  std::string url_;
  std::unique_ptr<Store> store_;
};

TEST_P(StoreTest, IncarnationRisesWithEachLife) {
  EXPECT_THAT(Names(), ElementsAre());
  uint64_t last = store_->Begin(uint64_t{1} << 40).value();
  for (int life = 0; life < 2; ++life) {
    Again();
    const uint64_t next = store_->Begin(7).value();
    EXPECT_GT(next, last);
    EXPECT_LE(next, last + 2);
    last = next;
  }
}

TEST_P(StoreTest, JobsComeBackAsTheyWereWrittenLast) {
  Commit({NewJob("jobs/b"), NewJob("jobs/a")});
  JobWrite change = Change("jobs/a");
  change.record = "";
  change.progress = "half";
  change.state = std::string("a\0b", 3);
  change.events = {{2, "second"}, {3, ""}};
  Commit({change});
  Again();
  EXPECT_THAT(Names(), ElementsAre("jobs/b", "jobs/a"));
  const StoredJob jobs[] = {Read("jobs/b"), Read("jobs/a")};
  EXPECT_EQ(jobs[0].job, "jobs/b");
  EXPECT_EQ(jobs[0].accepted, "accepted jobs/b");
  EXPECT_EQ(jobs[0].record, "record jobs/b");
  EXPECT_EQ(store_->ReadRecord("jobs/b").value(), "record jobs/b");
  EXPECT_EQ(jobs[0].progress, "");
  EXPECT_EQ(jobs[0].state, "");
  EXPECT_EQ(jobs[1].accepted, "accepted jobs/a");
  EXPECT_EQ(jobs[1].record, "");
  EXPECT_EQ(jobs[1].progress, "half");
  EXPECT_EQ(jobs[1].state, std::string("a\0b", 3));
  ASSERT_EQ(jobs[1].events.size(), 3U);
  EXPECT_EQ(jobs[1].events[1].sequence, 2);
  EXPECT_EQ(jobs[1].events[1].bytes, "second");
  EXPECT_EQ(jobs[1].events[2].bytes, "");
}

TEST_P(StoreTest, UpdatesAreOfTheStepInWork) {
  Commit({NewJob("jobs/a"), NewJob("jobs/b")});
  JobWrite change = Change("jobs/a");
  change.updates = {{"u1", "f1", "one"}, {"u2", "f2", "two"}};
  JobWrite other = Change("jobs/b");
  other.updates = {{"u3", "f3", "three"}};
  Commit({change, other});
  change.updates = {{"u4", "f4", "four"}};
  Commit({change});
  Again();
  EXPECT_THAT(Ids(Read("jobs/a")), ElementsAre("u1", "u2", "u4"));
  EXPECT_EQ(Read("jobs/a").updates[1].fingerprint, "f2");
  EXPECT_EQ(Read("jobs/a").updates[1].bytes, "two");
  change.new_step = true;
  change.updates = {{"u5", "f5", "five"}};
  Commit({change});
  Again();
  EXPECT_THAT(Ids(Read("jobs/a")), ElementsAre("u5"));
  EXPECT_THAT(Ids(Read("jobs/b")), ElementsAre("u3"));
  // Those of earlier steps are still known.
  using Counted = std::pair<std::string, std::string>;
  EXPECT_THAT(store_->CountedUpdates().value(),
              UnorderedElementsAre(Counted("u1", "f1"), Counted("u2", "f2"), Counted("u3", "f3"),
                                   Counted("u4", "f4"), Counted("u5", "f5")));
  EXPECT_EQ(store_->CountedUpdates().value().back().first, "u5");
}

TEST_P(StoreTest, VisitOfJobsShowsRecordsAndEndsWithItsFirstError) {
  Commit({NewJob("jobs/a"), NewJob("jobs/b")});
  std::vector<std::string> seen;
  const absl::Status status = store_->Jobs([&seen](const StoredJob& job) {
    seen.push_back(job.accepted + ", " + job.record);
    return job.job == "jobs/a" ? absl::OkStatus() : absl::AbortedError("enough");
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(seen,
              ElementsAre("accepted jobs/a, record jobs/a", "accepted jobs/b, record jobs/b"));
}

TEST_P(StoreTest, NothingIsLeftOfAJobThatIsDeleted) {
  Commit({NewJob("jobs/a"), NewJob("jobs/b")});
  JobWrite change = Change("jobs/a");
  change.state = "state";
  change.progress = "half";
  change.updates = {{"u1", "f1", "one"}};
  Commit({change});
  JobWrite gone = Change("jobs/a");
  gone.deleted = true;
  // Another one may have the name at once.
  JobWrite next = NewJob("jobs/a");
  next.record = "another";
  Commit({gone, next});
  Again();
  EXPECT_THAT(Names(), ElementsAre("jobs/b", "jobs/a"));
  const StoredJob job = Read("jobs/a");
  EXPECT_EQ(job.record, "another");
  EXPECT_EQ(job.state + job.progress, "");
  EXPECT_EQ(job.events.size(), 1U);
  EXPECT_THAT(Ids(job), ElementsAre());
  Commit({gone});
  EXPECT_EQ(base::ReasonOf(store_->Read("jobs/a").status()), "JOB_NOT_FOUND");
  EXPECT_EQ(base::ReasonOf(store_->ReadRecord("jobs/a").status()), "JOB_NOT_FOUND");
  EXPECT_EQ(Read("jobs/b").record, "record jobs/b");
}

TEST_P(StoreTest, RecordsOfAccessComeBackAsTheyWereWrittenLast) {
  EXPECT_THAT(store_->AccessRecords().value(), IsEmpty());
  JobWrite first = NewJob("jobs/a");
  first.access = {{"tokens/a", "one"}, {"workers/w", std::string("\0 two", 5)}, {"tokens/b", ""}};
  Commit({first});
  JobWrite second;
  second.access = {
      {"tokens/a", "three"}, {"workers/w", std::nullopt}, {"tokens/none", std::nullopt}};
  Commit({second});
  Again();
  EXPECT_THAT(store_->AccessRecords().value(),
              UnorderedElementsAre(Pair("tokens/a", "three"), Pair("tokens/b", "")));
  EXPECT_THAT(Names(), ElementsAre("jobs/a"));
}

TEST_P(StoreTest, OldUpdatesAreForgotten) {
  Commit({NewJob("jobs/a")});
  constexpr int64_t kMore = 100;
  JobWrite change = Change("jobs/a");
  change.new_step = true;
  for (int64_t i = 0; i < Store::kRememberedUpdates + kMore; ++i) {
    change.updates.push_back({"u" + std::to_string(i), "f", "x"});
  }
  Commit({change});
  change.updates = {{"last", "f", "x"}};
  Commit({change});
  Again();
  const auto counted = store_->CountedUpdates().value();
  ASSERT_EQ(static_cast<int64_t>(counted.size()), Store::kRememberedUpdates);
  EXPECT_EQ(counted.back().first, "last");
}

INSTANTIATE_TEST_SUITE_P(Stores, StoreTest, testing::Values("memory", "sqlite", "postgres"),
                         [](const auto& param) { return param.param; });

class SqliteStoreTest : public testing::Test {
 protected:
  // What another program does to the database.
  void Do(const std::string& statement) {
    sqlite3* connection = nullptr;
    ASSERT_EQ(sqlite3_open(folder_.File().c_str(), &connection), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(connection, statement.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(connection);
    sqlite3_close(connection);
  }
  std::string Bytes() const {
    std::ifstream file(folder_.File(), std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  std::string OpenReason() const {
    return base::ReasonOf(SqliteStore::Open(folder_.File()).status());
  }
  void Fill() {
    const auto store = SqliteStore::Open(folder_.File()).value();
    ASSERT_TRUE(store->Commit(std::vector<JobWrite>{NewJob("jobs/a")}).ok());
    JobWrite more = Change("jobs/a");
    for (int64_t i = 0; i < 1000; ++i) more.events.push_back({i + 2, std::string(100, 'e')});
    ASSERT_TRUE(store->Commit(std::vector<JobWrite>{more}).ok());
  }

  Folder folder_;
};

TEST_F(SqliteStoreTest, ACommitIsWrittenWhollyOrNotAtAll) {
  const auto store = SqliteStore::Open(folder_.File()).value();
  ASSERT_TRUE(store->Commit(std::vector<JobWrite>{NewJob("jobs/a")}).ok());
  JobWrite bad = Change("jobs/a");
  bad.events = {{1, "there is one of this number"}};
  EXPECT_FALSE(store->Commit(std::vector<JobWrite>{NewJob("jobs/b"), bad}).ok());
  EXPECT_EQ(base::ReasonOf(store->Read("jobs/b").status()), "JOB_NOT_FOUND");
  // Nothing is left of the attempt that would hinder the next one.
  EXPECT_TRUE(store->Commit(std::vector<JobWrite>{NewJob("jobs/b")}).ok());
}

TEST_F(SqliteStoreTest, StoreOfALaterVersionIsRefusedAndStaysAsItIs) {
  Fill();
  Do("PRAGMA user_version = 99");
  const std::string before = Bytes();
  EXPECT_EQ(OpenReason(), "STORE_TOO_NEW");
  EXPECT_EQ(Bytes(), before);
}

TEST_F(SqliteStoreTest, DamagedFileIsNamedAndStaysAsItIs) {
  Fill();
  {
    std::fstream file(folder_.File(), std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(4096 * 5);
    file << std::string(4096, '\xa5');
  }
  const std::string before = Bytes();
  const absl::Status status = SqliteStore::Open(folder_.File()).status();
  EXPECT_EQ(base::ReasonOf(status), "STORE_CORRUPT");
  EXPECT_NE(status.message().find(folder_.File()), std::string::npos) << status;
  EXPECT_EQ(Bytes(), before);
}

// All that a store says, or the reason of its first error.
std::string Told(const std::string& path) {
  const auto store = SqliteStore::Open(path);
  if (!store.ok()) return base::ReasonOf(store.status());
  std::string text;
  absl::Status status = (*store)->Jobs([&text](const StoredJob& job) {
    text += job.job + job.accepted + job.record;
    return absl::OkStatus();
  });
  for (const char* name : {"jobs/a", "jobs/b"}) {
    const auto job = (*store)->Read(name);
    if (!job.ok()) return base::ReasonOf(job.status());
    text += job->progress + job->state;
    for (const StoredEvent& event : job->events) {
      text += std::to_string(event.sequence) + event.bytes;
    }
    for (const StoredUpdate& update : job->updates) {
      text += update.id + update.fingerprint + update.bytes;
    }
  }
  const auto incarnation = (*store)->Begin(1);
  if (!incarnation.ok()) status = incarnation.status();
  return status.ok() ? text + std::to_string(*incarnation) : base::ReasonOf(status);
}

TEST_F(SqliteStoreTest, FlippedBitsAndTornFilesAreFoundOrChangeNothing) {
  {
    const auto store = SqliteStore::Open(folder_.File()).value();
    ASSERT_TRUE(store->Begin(12'345).ok());
    ASSERT_TRUE(store->Commit(std::vector<JobWrite>{NewJob("jobs/a"), NewJob("jobs/b")}).ok());
    JobWrite more = Change("jobs/a");
    more.state = std::string(20'000, 's');
    more.progress = "half";
    for (int64_t i = 0; i < 50; ++i) more.events.push_back({i + 2, std::string(100, 'e')});
    for (int i = 0; i < 5; ++i) {
      more.updates.push_back({"u" + std::to_string(i), "fingerprint", std::string(5000, 'u')});
    }
    ASSERT_TRUE(store->Commit(std::vector<JobWrite>{more}).ok());
  }
  const std::string whole = Bytes();
  const std::string expected = Told(folder_.File());
  ASSERT_GT(expected.size(), 40'000U);
  const auto look = [&](const std::string& bytes) {
    for (const char* beside : {"-wal", "-shm"}) std::filesystem::remove(folder_.File() + beside);
    std::ofstream(folder_.File(), std::ios::binary | std::ios::trunc) << bytes;
    return Told(folder_.File());
  };
  int found = 0;
  // Places that no page, cell or word is a multiple of.
  for (size_t at = 0; at < whole.size(); at += 97) {
    std::string damaged = whole;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (at % 8)));
    const std::string told = look(damaged);
    if (told == expected) continue;
    EXPECT_TRUE(told == "STORE_CORRUPT" || told == "STORE_TOO_NEW")
        << "byte " << at << ": " << told.substr(0, 100);
    ++found;
  }
  EXPECT_GT(found, static_cast<int>(whole.size() / 97 / 2)) << "most of it is in use";
  for (size_t size = 0; size < whole.size(); size += 1024) {
    const std::string told = look(whole.substr(0, size));
    if (size == 0) continue;  // a new store
    EXPECT_EQ(told.substr(0, 100), "STORE_CORRUPT") << "of " << size << " bytes";
  }
}

TEST_F(SqliteStoreTest, FileThatIsNoDatabaseIsRefused) {
  std::ofstream(folder_.File()) << std::string(10'000, 'x');
  EXPECT_EQ(OpenReason(), "STORE_CORRUPT");
}

TEST_F(SqliteStoreTest, ValueThatChangedIsFound) {
  for (const char* change : {"UPDATE records SET contents = CAST('other' AS BLOB)",
                             "UPDATE jobs SET accepted = x'00'", "UPDATE events SET event = x''"}) {
    SCOPED_TRACE(change);
    std::filesystem::remove(folder_.File());
    Fill();
    Do(change);
    const auto store = SqliteStore::Open(folder_.File()).value();
    EXPECT_EQ(base::ReasonOf(store->Read("jobs/a").status()), "STORE_CORRUPT");
  }
}

}  // namespace
}  // namespace espalier::server::store
