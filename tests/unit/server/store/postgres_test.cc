// What a store does that several coordinators share: one has it at a time, and the others can write nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "common/base/status.h"
#include "server/store/postgres/connection.h"
#include "server/store/postgres/lease_keeper.h"
#include "server/store/postgres/postgres_store.h"

namespace espalier::server::store {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr absl::Duration kLease = absl::Seconds(2);

class PostgresTest : public testing::Test {
 protected:
  PostgresTest() : admin_(Url(), "test", ""), watcher_(Url(), "watcher", "") {
    Do("DROP SCHEMA IF EXISTS espalier CASCADE");
  }
  static std::string Url() {
    const char* url = std::getenv("ESPALIER_POSTGRES_URL");
    EXPECT_NE(url, nullptr) << "run it by tests/support/postgres.py";
    return url == nullptr ? "" : url;
  }
  static std::unique_ptr<PostgresStore> Coordinator(const std::string& id,
                                                    absl::Duration lease = kLease) {
    return std::make_unique<PostgresStore>(PostgresStore::Options{
        .url = Url(), .id = id, .holder = "coordinator " + id, .lease = lease});
  }
  PgRows Do(const std::string& text) {
    auto rows = admin_.Run({text, {}});
    EXPECT_TRUE(rows.ok()) << rows.status();
    return *std::move(rows);
  }
  // How many connections there are that are like this. Not asked by `admin_`: within a transaction the
  // server gives the same answer again and again.
  int Seen(const std::string& condition) {
    return watcher_.Run({"SELECT 1 FROM pg_stat_activity WHERE " + condition, {}})->size();
  }
  // Ends all connections of a coordinator, as a network or a restart of the server would.
  void Cut(const std::string& id) {
    const std::string of_it = "application_name = 'espalier-" + id + "'";
    ASSERT_TRUE(
        watcher_.Run({"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE " + of_it, {}})
            .ok());
    while (Seen(of_it) > 0) absl::SleepFor(absl::Milliseconds(5));
  }
  // Until a connection of this coordinator waits for a lock.
  void AwaitLock(const std::string& id) {
    const std::string name = id == "unheard" ? id : "espalier-" + id;
    while (Seen("application_name = '" + name + "' AND wait_event_type = 'Lock'") == 0) {
      absl::SleepFor(absl::Milliseconds(5));
    }
  }
  static JobWrite NewJob(const std::string& name) {
    JobWrite write;
    write.job = name;
    write.accepted = "accepted";
    write.record = "record";
    write.events = {{1, "first"}};
    return write;
  }
  static JobWrite Event(const std::string& name, int64_t sequence) {
    JobWrite write;
    write.job = name;
    write.events = {{sequence, "event"}};
    return write;
  }

  Connection admin_;
  Connection watcher_;
};

TEST_F(PostgresTest, OneHasTheLeaseAndOthersLearnWho) {
  const auto first = Coordinator("a", absl::Hours(1));
  const auto second = Coordinator("b", absl::Hours(1));
  const uint64_t incarnation = first->Begin(100).value();
  EXPECT_TRUE(first->HoldsLease());
  const absl::Status refused = second->Begin(100).status();
  EXPECT_EQ(base::ReasonOf(refused), "STORE_LEASE_HELD");
  EXPECT_THAT(base::MessageOf(refused), HasSubstr("coordinator a works"));
  EXPECT_FALSE(second->HoldsLease());
  // Given back, it need not be waited for.
  first->Release();
  EXPECT_FALSE(first->HoldsLease());
  EXPECT_EQ(second->Begin(100).value(), incarnation + 1);
  EXPECT_EQ(base::ReasonOf(first->RenewLease()), "STORE_LEASE_LOST");
}

TEST_F(PostgresTest, LeaseThatIsRenewedStays) {
  const auto first = Coordinator("a");
  const auto second = Coordinator("b");
  ASSERT_TRUE(first->Begin(100).ok());
  for (int i = 0; i < 10; ++i) {
    absl::SleepFor(kLease / 4);
    ASSERT_TRUE(first->RenewLease().ok());
    EXPECT_EQ(base::ReasonOf(second->Begin(100).status()), "STORE_LEASE_HELD");
  }
  absl::SleepFor(kLease);
  EXPECT_FALSE(first->HoldsLease());
  EXPECT_TRUE(second->Begin(100).ok());
}

TEST_F(PostgresTest, CoordinatorThatComesBackFromAPauseCanWriteNothing) {
  const auto first = Coordinator("a");
  ASSERT_TRUE(first->Begin(100).ok());
  ASSERT_TRUE(first->Commit(std::vector{NewJob("jobs/a")}).ok());
  absl::SleepFor(kLease);
  const auto second = Coordinator("b");
  ASSERT_TRUE(second->Begin(100).ok());
  // Its connections were ended: it notices that first, and then why.
  absl::Status written = first->Commit(std::vector{Event("jobs/a", 2)});
  for (int i = 0; i < 3 && base::ReasonOf(written) == "STORAGE_ERROR"; ++i) {
    written = first->Commit(std::vector{Event("jobs/a", 2)});
  }
  EXPECT_EQ(base::ReasonOf(written), "STORE_LEASE_LOST");
  EXPECT_EQ(second->Read("jobs/a")->events.size(), 1U);
  EXPECT_TRUE(second->Commit(std::vector{Event("jobs/a", 2)}).ok());
}

TEST_F(PostgresTest, TransactionThatAPausedCoordinatorHasOpenHoldsNobodyUp) {
  const auto first = Coordinator("a");
  ASSERT_TRUE(first->Begin(100).ok());
  Connection paused(Url(), "espalier-a", "-c search_path=espalier");
  ASSERT_TRUE(paused.Run({"BEGIN", {}}).ok());
  ASSERT_TRUE(paused.Run({"UPDATE life SET commits = 7", {}}).ok());
  absl::SleepFor(kLease);
  const auto second = Coordinator("b");
  const absl::Time before = absl::Now();
  EXPECT_TRUE(second->Begin(100).ok());
  EXPECT_LT(absl::Now() - before, absl::Seconds(5));
  EXPECT_FALSE(paused.Run({"COMMIT", {}}).ok());
}

TEST_F(PostgresTest, CommitWhoseAnswerIsLostIsWrittenOnce) {
  const auto store = Coordinator("a", absl::Hours(1));
  ASSERT_TRUE(store->Begin(100).ok());
  ASSERT_TRUE(store->Commit(std::vector{NewJob("jobs/a")}).ok());
  const std::vector writes{Event("jobs/a", 2)};
  // Its connection ends while it is under way: not written.
  Do("BEGIN");
  Do("LOCK TABLE espalier.events IN EXCLUSIVE MODE");
  absl::Status status;
  std::thread commit([&] { status = store->Commit(writes); });
  AwaitLock("a");
  Cut("a");
  commit.join();
  Do("ROLLBACK");
  EXPECT_EQ(base::ReasonOf(status), "STORAGE_ERROR");
  EXPECT_TRUE(store->Commit(writes).ok());
  EXPECT_EQ(store->Read("jobs/a")->events.size(), 2U);
  // It is under way for a connection of which the server has not noticed yet that nobody hears it, and
  // is tried again beside that.
  Connection unheard(Url(), "unheard", "-c search_path=espalier");
  const std::vector<PgStatement> first = {
      {"SELECT begin_commit((SELECT incarnation FROM life), 3)", {}},
      {"INSERT INTO events SELECT job, 3, event FROM events WHERE sequence = 2", {}}};
  Do("BEGIN");
  Do("LOCK TABLE espalier.events IN EXCLUSIVE MODE");
  std::thread under_way([&] { EXPECT_TRUE(unheard.RunTransaction(first).ok()); });
  AwaitLock("unheard");
  const std::vector third{Event("jobs/a", 3)};
  std::thread again([&] { status = store->Commit(third); });
  while (Seen("wait_event_type = 'Lock'") < 2) absl::SleepFor(absl::Milliseconds(5));
  Do("ROLLBACK");
  under_way.join();
  again.join();
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(Do("SELECT 1 FROM espalier.events").size(), 3);
  EXPECT_TRUE(store->Commit(std::vector{Event("jobs/a", 4)}).ok());
}

TEST_F(PostgresTest, CommitsThatTheServerHasLostAreMissed) {
  const auto store = Coordinator("a", absl::Hours(1));
  ASSERT_TRUE(store->Begin(100).ok());
  for (const char* job : {"jobs/a", "jobs/b"}) {
    ASSERT_TRUE(store->Commit(std::vector{NewJob(job)}).ok());
  }
  // As after a crash with synchronous_commit off, or on a replica that was behind.
  Do("DELETE FROM espalier.jobs WHERE name = 'jobs/b'");
  Do("UPDATE espalier.life SET commits = commits - 1");
  const absl::Status status = store->Commit(std::vector{Event("jobs/a", 2)});
  EXPECT_EQ(base::ReasonOf(status), "STORE_FELL_BACK") << status;
  EXPECT_EQ(store->Read("jobs/a")->events.size(), 1U);
}

TEST_F(PostgresTest, AfterTheServerWasAwayReadingGoesOn) {
  const auto store = Coordinator("a", absl::Hours(1));
  ASSERT_TRUE(store->Begin(100).ok());
  ASSERT_TRUE(store->Commit(std::vector{NewJob("jobs/a")}).ok());
  Cut("a");
  EXPECT_TRUE(store->Read("jobs/a").ok());
  Cut("a");
  EXPECT_TRUE(store->RenewLease().ok() || store->RenewLease().ok());
}

TEST_F(PostgresTest, KeeperRenewsUntilTheLeaseIsLostAndThenSaysSo) {
  const auto first = Coordinator("a");
  ASSERT_TRUE(first->Begin(100).ok());
  absl::Notification lost;
  absl::Status why;
  const LeaseKeeper keeper(*first, [&](const absl::Status& status) {
    why = status;
    lost.Notify();
  });
  const auto second = Coordinator("b");
  absl::SleepFor(2 * kLease);
  EXPECT_EQ(base::ReasonOf(second->Begin(100).status()), "STORE_LEASE_HELD");
  // The keeper may renew the lease between the two statements; then the next attempt takes it.
  bool taken = false;
  for (int attempt = 0; attempt < 100 && !taken; ++attempt) {
    Do("UPDATE espalier.lease SET renewed = 'epoch'");
    taken = second->Begin(100).ok();
  }
  ASSERT_TRUE(taken);
  ASSERT_TRUE(lost.WaitForNotificationWithTimeout(absl::Seconds(10)));
  EXPECT_EQ(base::ReasonOf(why), "STORE_LEASE_LOST");
}

TEST_F(PostgresTest, KeeperSaysSoWhenItCannotRenew) {
  const auto first = Coordinator("a");
  ASSERT_TRUE(first->Begin(100).ok());
  Do("ALTER TABLE espalier.lease RENAME TO gone");
  absl::Notification lost;
  absl::Status why;
  const LeaseKeeper keeper(*first, [&](const absl::Status& status) {
    why = status;
    lost.Notify();
  });
  ASSERT_TRUE(lost.WaitForNotificationWithTimeout(absl::Seconds(10)));
  EXPECT_EQ(base::ReasonOf(why), "STORE_LEASE_EXPIRED");
  EXPECT_FALSE(first->HoldsLease());
}

TEST_F(PostgresTest, SchemaOfALaterVersionIsRefusedAndStaysAsItIs) {
  ASSERT_TRUE(Coordinator("a")->Begin(100).ok());
  Do("UPDATE espalier.lease SET version = 99");
  // Also one that would only stand by is told so.
  for (const char* renewed : {"clock_timestamp()", "'epoch'"}) {
    Do(std::string("UPDATE espalier.lease SET renewed = ") + renewed);
    const absl::Status refused = Coordinator("b")->Begin(100).status();
    EXPECT_EQ(base::ReasonOf(refused), "STORE_TOO_NEW");
  }
  EXPECT_EQ(Do("SELECT 1 FROM espalier.lease WHERE owner = 'a' AND version = 99").size(), 1);
}

TEST_F(PostgresTest, ValueThatChangedIsFound) {
  const auto store = Coordinator("a", absl::Hours(1));
  ASSERT_TRUE(store->Begin(100).ok());
  ASSERT_TRUE(store->Commit(std::vector{NewJob("jobs/a"), NewJob("jobs/b")}).ok());
  for (const char* damage :
       {"UPDATE espalier.records SET contents = set_byte(contents, 0, 7) WHERE job = 1",
        // What belongs to another job is not this one's.
        "UPDATE espalier.records SET contents = (SELECT contents FROM espalier.records WHERE job = "
        "2) "
        "WHERE job = 1",
        "DELETE FROM espalier.records WHERE job = 1", "DROP TABLE espalier.records"}) {
    Do(damage);
    const absl::Status found = store->Read("jobs/a").status();
    EXPECT_EQ(base::ReasonOf(found), "STORE_CORRUPT") << damage << ": " << found;
    EXPECT_THAT(base::MessageOf(found), HasSubstr("database espalier at 127.0.0.1")) << damage;
  }
}

TEST_F(PostgresTest, WhatCoordinatorsShareIsAgreedUponOnce) {
  const auto store = Coordinator("a", absl::Hours(1));
  ASSERT_TRUE(store->Begin(100).ok());
  EXPECT_EQ(store->Agreed("folder").value(), "");
  EXPECT_EQ(store->Agree("folder", "mine").value(), "mine");
  EXPECT_EQ(store->Agree("folder", "other").value(), "mine");
  EXPECT_EQ(store->Agreed("folder").value(), "mine");
}

TEST_F(PostgresTest, ServerThatIsNotThereIsNamedWithoutThePassword) {
  PostgresStore store({.url = "postgresql://u:canary@127.0.0.1:1/db", .id = "a", .holder = "a"});
  const absl::Status status = store.Begin(1).status();
  EXPECT_EQ(base::ReasonOf(status), "STORAGE_ERROR");
  EXPECT_THAT(base::MessageOf(status), HasSubstr("port 1"));
  EXPECT_THAT(base::MessageOf(status), Not(HasSubstr("canary")));
  for (const char* url : {"postgresql://u:canary@[::1", "postgresql://u:canary@h/db?canary=1"}) {
    PostgresStore wrong({.url = url, .id = "a", .holder = "a"});
    const absl::Status refused = wrong.Begin(1).status();
    EXPECT_EQ(base::ReasonOf(refused), "STORE_URL_INVALID") << url << refused;
    EXPECT_THAT(base::MessageOf(refused), Not(HasSubstr("canary"))) << url;
  }
}

TEST_F(PostgresTest, LargeValuesAndManyRowsAreOneTransaction) {
  const auto store = Coordinator("a", absl::Hours(1));
  ASSERT_TRUE(store->Begin(100).ok());
  std::vector<JobWrite> writes;
  JobWrite& write = writes.emplace_back(NewJob("jobs/a"));
  write.state = std::string(20'000'000, '\x01');
  for (int i = 2; i <= 5'000; ++i) write.events.push_back({i, std::string(100, 'e')});
  ASSERT_TRUE(store->Commit(writes).ok());
  const StoredJob job = store->Read("jobs/a").value();
  EXPECT_EQ(job.state, *write.state);
  EXPECT_EQ(job.events.size(), 5'000U);
  // Nothing of what fails in the middle is there.
  std::vector<JobWrite> half{Event("jobs/a", 5'001), Event("jobs/a", 5'001)};
  EXPECT_FALSE(store->Commit(half).ok());
  EXPECT_EQ(store->Read("jobs/a")->events.size(), 5'000U);
  half.pop_back();
  EXPECT_TRUE(store->Commit(half).ok());
}

}  // namespace
}  // namespace espalier::server::store
