#include "server/audit/audit_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): kill is POSIX
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "common/audit/verify.h"
#include "common/base/status.h"
#include "tests/support/failing_file_system.h"

namespace espalier::server::audit {
namespace {

using ::espalier::audit::Findings;
using ::espalier::audit::Record;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr absl::Duration kLong = absl::Seconds(60);

Entry Call(const std::string& caller) {
  return {absl::FromUnixSeconds(1'764'581'400),
          caller,
          "submitter",
          "certificate:1",
          "127.0.0.1:1",
          "CreateJob",
          "jobs/a",
          "ok"};
}

class AuditLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/espalier_audit_log_" + std::to_string(getpid()) + "_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    limits_.retry = absl::Milliseconds(1);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<AuditLog> Open() {
    auto log = AuditLog::Open(files_, folder_, clock_, metrics_, limits_);
    EXPECT_TRUE(log.ok()) << log.status();
    return *std::move(log);
  }

  // What is on disk: callers of calls, and "Begin:OUTCOME" and the like of the log's own entries.
  std::vector<std::string> Words(const std::vector<Head>& heads = {}) {
    std::vector<std::string> words;
    const auto paths = ::espalier::audit::FilesOf(io::PosixFileSystem(), {folder_});
    EXPECT_TRUE(paths.ok()) << paths.status();
    const auto findings =
        ::espalier::audit::Verify(io::PosixFileSystem(), *paths, heads, [&](const Record& record) {
          const Entry& entry = record.entry;
          words.push_back(entry.role == ::espalier::audit::kLogRole
                              ? entry.call.substr(6) + ":" + entry.outcome
                              : entry.caller);
        });
    EXPECT_TRUE(findings.ok()) << findings.status();
    findings_ = *findings;
    return words;
  }
  std::vector<std::string> Files() const { return *io::PosixFileSystem().List(folder_); }

  // Waits for `condition`, which becomes true by what another thread does.
  template <typename Condition>
  static void Until(Condition condition) {
    const absl::Time end = absl::Now() + kLong;
    while (!condition() && absl::Now() < end) std::this_thread::yield();
    ASSERT_TRUE(condition());
  }

  std::string folder_;
  test::FailingFileSystem files_;
  base::RealClock clock_;
  metrics::Metrics metrics_{metrics::Role::kCoordinator};
  Limits limits_;
  Findings findings_;
};

TEST_F(AuditLogTest, EntriesAreOnDiskInOrderAndTheHeadIsTheirs) {
  const auto log = Open();
  for (int i = 0; i < 3; ++i) log->Append(Call("user-" + std::to_string(i)));
  ASSERT_TRUE(log->Flush(kLong).ok());
  EXPECT_THAT(Words({log->head()}), ElementsAre("Begin:ok", "user-0", "user-1", "user-2"));
  EXPECT_EQ(findings_.problems_in_all, 0u);
  EXPECT_EQ(findings_.head.hash, log->head().hash);
  EXPECT_TRUE(log->healthy().ok());
}

TEST_F(AuditLogTest, TheNextLifeGoesOnWithTheChain) {
  std::vector<Head> heads;
  for (int life = 0; life < 3; ++life) {
    const auto log = Open();
    log->Append(Call("life-" + std::to_string(life)));
    ASSERT_TRUE(log->Flush(kLong).ok());
    heads.push_back(log->head());
  }
  EXPECT_THAT(Words(heads),
              ElementsAre("Begin:ok", "life-0", "Begin:ok", "life-1", "Begin:ok", "life-2"));
  EXPECT_EQ(findings_.problems_in_all, 0u);
}

TEST_F(AuditLogTest, WhatTheDestructorFindsIsWritten) {
  Open()->Append(Call("last"));
  EXPECT_THAT(Words(), ElementsAre("Begin:ok", "last"));
}

TEST_F(AuditLogTest, ALineThatWasTornStaysAndTheNextEntrySaysSo) {
  Open()->Append(Call("before"));
  std::ofstream(folder_ + "/" + Files().back(), std::ios::app) << R"({"seq":3,"time":"20)";
  const auto log = Open();
  EXPECT_THAT(Words(), ElementsAre("Begin:ok", "before", "Begin:TORN"));
  EXPECT_EQ(findings_.problems_in_all, 0u);
  EXPECT_THAT(findings_.notes, ElementsAre(HasSubstr("19 bytes")));
}

TEST_F(AuditLogTest, AChainThatWasChangedIsNeverContinuedSilently) {
  Open()->Append(Call("before"));
  const std::string path = folder_ + "/" + Files().back();
  std::string bytes = *io::ReadFile(io::PosixFileSystem(), path, 1 << 20);
  bytes.replace(bytes.find("before"), 6, "Before");
  std::ofstream(path, std::ios::binary) << bytes;
  Open()->Append(Call("after"));
  EXPECT_THAT(Words(), ElementsAre("Begin:ok", "Begin:CHAIN_BROKEN", "after"));
  EXPECT_EQ(findings_.problems_in_all, 2u);
  // A later life goes on with the new chain, which by itself is as it was written.
  Open()->Append(Call("later"));
  std::filesystem::remove(path);
  EXPECT_THAT(Words(), ElementsAre("Begin:CHAIN_BROKEN", "after", "Begin:ok", "later"));
}

TEST_F(AuditLogTest, AnEmptiedFileIsAChainThatWasChanged) {
  Open()->Append(Call("before"));
  std::ofstream(folder_ + "/" + Files().back(), std::ios::trunc).flush();
  Open();
  EXPECT_THAT(Words(), ElementsAre("Begin:CHAIN_BROKEN"));
}

TEST_F(AuditLogTest, FilesEndAtTheirSizeAndNextToEachOther) {
  limits_.max_file_bytes = 2000;
  {
    const auto log = Open();
    for (int i = 0; i < 40; ++i) {
      log->Append(Call("user"));
      ASSERT_TRUE(log->Flush(kLong).ok());
    }
  }
  EXPECT_EQ(Words().size(), 41u);
  EXPECT_EQ(findings_.problems_in_all, 0u);
  EXPECT_GT(Files().size(), 4u);
  for (const std::string& name : Files()) {
    EXPECT_LT(std::filesystem::file_size(folder_ + "/" + name), 2500u);
  }
}

TEST_F(AuditLogTest, AFullDiskIsSaidAndLosesNothing) {
  files_.leaves_half = true;
  const auto log = Open();
  log->Append(Call("before"));
  ASSERT_TRUE(log->Flush(kLong).ok());
  files_.operations_left = 0;
  log->Append(Call("meanwhile"));
  Until([&] { return !log->healthy().ok(); });
  EXPECT_EQ(base::ReasonOf(log->healthy()), "AUDIT_LOG_UNWRITABLE");
  EXPECT_EQ(base::ReasonOf(log->Flush(absl::Milliseconds(5))), "AUDIT_LOG_LATE");
  files_.operations_left = 1 << 30;
  log->Append(Call("after"));
  ASSERT_TRUE(log->Flush(kLong).ok());
  EXPECT_TRUE(log->healthy().ok());
  EXPECT_THAT(Words({log->head()}),
              ElementsAre("Begin:ok", "before", "Begin:TORN", "meanwhile", "after"));
  EXPECT_EQ(findings_.problems_in_all, 0u);
}

TEST_F(AuditLogTest, WhereverTheDiskIsFullTheChainIsWhole) {
  for (const bool leaves_half : {false, true}) {
    for (int operations = 0; operations < 12; ++operations) {
      std::filesystem::remove_all(folder_);
      limits_.max_file_bytes = 400;
      files_.leaves_half = leaves_half;
      const auto log = Open();
      files_.operations_left = operations;
      int appended = 0;
      while (log->healthy().ok()) {
        log->Append(Call(std::to_string(appended++)));
        Until([&] { return log->Flush(absl::Milliseconds(1)).ok() || !log->healthy().ok(); });
      }
      files_.operations_left = 1 << 30;
      ASSERT_TRUE(log->Flush(kLong).ok());
      std::vector<std::string> callers = Words({log->head()});
      std::erase_if(callers, [](const std::string& word) { return word.starts_with("Begin"); });
      EXPECT_EQ(callers.size(), static_cast<size_t>(appended)) << operations;
      ASSERT_EQ(findings_.problems_in_all, 0u) << operations << findings_.problems[0].text;
    }
  }
}

TEST_F(AuditLogTest, BeyondTheLimitTheNumberOfLostEntriesIsAnEntry) {
  limits_.max_waiting = 4;
  const auto log = Open();
  files_.operations_left = 0;
  for (int i = 0; i < 10; ++i) log->Append(Call(std::to_string(i)));
  EXPECT_EQ(base::ReasonOf(log->healthy()), "AUDIT_LOG_UNWRITABLE");
  Until([&] { return files_.failed.load(); });
  files_.operations_left = 1 << 30;
  Until([&] { return log->healthy().ok() && Words().back() == "Lost:ENTRIES_LOST"; });
  log->Append(Call("after"));
  ASSERT_TRUE(log->Flush(kLong).ok());
  EXPECT_THAT(Words({log->head()}), ElementsAre("Begin:ok", "Begin:ok", "0", "1", "2", "3",
                                                "Lost:ENTRIES_LOST", "after"));
  EXPECT_EQ(findings_.problems_in_all, 0u);
}

TEST_F(AuditLogTest, AFolderThatCannotBeWrittenIsAnErrorOfOpen) {
  files_.operations_left = 0;
  const auto log = AuditLog::Open(files_, folder_, clock_, metrics_, limits_);
  EXPECT_EQ(base::ReasonOf(log.status()), "STORAGE_FULL");
}

TEST_F(AuditLogTest, ThreadsAppendAtOnce) {
  {
    const auto log = Open();
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&log, i] {
        for (int k = 0; k < 200; ++k) log->Append(Call(std::to_string(i)));
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT_EQ(Words().size(), 801u);
  EXPECT_EQ(findings_.problems_in_all, 0u);
}

// A process that appends and tells of heads that are on disk, until it is killed.
TEST_F(AuditLogTest, AfterKillEveryHeadThatWasToldIsInTheChain) {
  std::vector<Head> heads;
  for (int life = 0; life < 5; ++life) {
    int ends[2];
    ASSERT_EQ(pipe(ends), 0);
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      close(ends[0]);
      const auto log = AuditLog::Open(files_, folder_, clock_, metrics_, limits_);
      if (!log.ok()) _exit(1);
      for (;;) {
        for (int i = 0; i < 20; ++i) (*log)->Append(Call("user"));
        if (!(*log)->Flush(kLong).ok()) _exit(1);
        const std::string head = ::espalier::audit::ToText((*log)->head()) + "\n";
        if (write(ends[1], head.data(), head.size()) < 0) _exit(1);
      }
    }
    close(ends[1]);
    FILE* told = fdopen(ends[0], "r");
    char line[200];
    for (int i = 0; i < 3 + life && fgets(line, sizeof(line), told) != nullptr; ++i) {
      const std::string text(line);
      heads.push_back(*::espalier::audit::ParseHead(text.substr(0, text.size() - 1)));
    }
    kill(child, SIGKILL);
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    fclose(told);
  }
  Open();
  ASSERT_EQ(heads.size(), 3u + 4 + 5 + 6 + 7);
  Words(heads);
  EXPECT_EQ(findings_.problems_in_all, 0u) << findings_.problems[0].text;
  EXPECT_GE(findings_.entries, 5u * 60);
}

}  // namespace
}  // namespace espalier::server::audit
