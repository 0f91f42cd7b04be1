// What is written together, who waits for it, and what becomes of errors.
#include "server/jobs/durable/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "server/store/memory_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/manual_executor.h"

namespace espalier::server::jobs {
namespace {

using test::FakeClock;
using test::ManualExecutor;
using testing::ElementsAre;
using testing::IsEmpty;

// A store that fails when it is told to.
class FailingStore : public store::MemoryStore {
 public:
  absl::Status Commit(std::span<const store::JobWrite> writes) override {
    ++commits;
    if (!error.ok()) return error;
    for (const auto& write : writes) written.push_back(write.job + " " + *write.record);
    return absl::OkStatus();
  }

  absl::Status error;
  int commits = 0;
  std::vector<std::string> written;
};

class Counter : public Journal::Source {
 public:
  explicit Counter(std::string name) : name_(std::move(name)) {}
  Journal::Change TakeChange() override {
    Journal::Change change;
    change.write.job = name_;
    change.complete = [value = value](store::JobWrite& write) {
      write.record = std::to_string(value);
      return absl::OkStatus();
    };
    return change;
  }

  int value = 0;

 private:
  const std::string name_;
};

class JournalTest : public testing::Test {
 protected:
  void Settle() {
    while (core_.RunAll() + writer_.RunAll() > 0) {
    }
  }
  Journal::Then Note(const std::string& what) {
    return [this, what](const absl::Status& status) {
      told_.push_back(what + (status.ok() ? "" : " " + base::ReasonOf(status)));
    };
  }

  FakeClock clock_;
  ManualExecutor core_;
  ManualExecutor writer_;
  FailingStore store_;
  pretrained::PartStore parts_{io::PosixFileSystem(), testing::TempDir()};
  std::vector<std::string> fatal_;
  std::vector<std::string> told_;
  Journal journal_{core_, clock_, {store_, parts_, writer_, [this](const absl::Status& status) {
                                     fatal_.push_back(base::ReasonOf(status));
                                   }}};
  std::shared_ptr<Counter> a_ = std::make_shared<Counter>("a");
  std::shared_ptr<Counter> b_ = std::make_shared<Counter>("b");
};

TEST_F(JournalTest, WhatOneTaskOfTheCoreChangesIsWrittenTogetherAndAsItIsAtItsEnd) {
  a_->value = 1;
  journal_.Touch(a_);
  journal_.WhenWritten(Note("first"));
  a_->value = 2;
  journal_.Touch(b_);
  journal_.Touch(a_);
  EXPECT_EQ(store_.commits, 0);
  Settle();
  EXPECT_EQ(store_.commits, 1);
  EXPECT_THAT(store_.written, ElementsAre("a 2", "b 0"));
  EXPECT_THAT(told_, ElementsAre("first"));
}

TEST_F(JournalTest, ChangesWhileSomethingIsWrittenComeWithTheNext) {
  journal_.Touch(a_);
  core_.RunAll();
  for (int i = 1; i <= 5; ++i) {
    a_->value = i;
    journal_.Touch(a_);
    core_.RunAll();
  }
  journal_.WhenWritten(Note("last"));
  EXPECT_EQ(writer_.RunAll(), 1);
  core_.RunAll();
  EXPECT_THAT(told_, IsEmpty());
  Settle();
  EXPECT_THAT(store_.written, ElementsAre("a 0", "a 5"));
  EXPECT_THAT(told_, ElementsAre("last"));
}

TEST_F(JournalTest, WhoeverWaitsForWhatIsBeingWrittenIsToldOnceItIs) {
  journal_.Touch(a_);
  core_.RunAll();
  journal_.WhenWritten(Note("waits"));
  EXPECT_THAT(told_, IsEmpty());
  Settle();
  EXPECT_THAT(told_, ElementsAre("waits"));
  journal_.WhenWritten(Note("at once"));
  EXPECT_THAT(told_, ElementsAre("waits", "at once"));
}

TEST_F(JournalTest, WhatCannotBeWrittenIsTriedAgainAndNobodyIsToldBefore) {
  store_.error = base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL", "full");
  journal_.Touch(a_);
  journal_.WhenWritten(Note("first"));
  Settle();
  ASSERT_TRUE(journal_.trouble().has_value());
  a_->value = 7;
  journal_.Touch(a_);
  journal_.WhenWritten(Note("second"));
  for (int i = 0; i < 10; ++i) journal_.Tick();
  Settle();
  EXPECT_EQ(store_.commits, 1) << "not again before a second has passed";
  clock_.Advance(absl::Seconds(1));
  journal_.Tick();
  Settle();
  EXPECT_EQ(store_.commits, 2);
  EXPECT_THAT(told_, IsEmpty());
  store_.error = absl::OkStatus();
  clock_.Advance(absl::Seconds(1));
  journal_.Tick();
  Settle();
  EXPECT_FALSE(journal_.trouble().has_value());
  EXPECT_THAT(store_.written, ElementsAre("a 0", "a 7"));
  EXPECT_THAT(told_, ElementsAre("first", "second"));
  EXPECT_THAT(fatal_, IsEmpty());
}

TEST_F(JournalTest, WhoeverCannotWaitIsToldOfTroubleAndWhatItTouchedIsWrittenLater) {
  journal_.Touch(a_);
  journal_.WhenWrittenOrInTrouble(Note("no trouble"));
  Settle();
  EXPECT_THAT(told_, ElementsAre("no trouble"));
  store_.error = base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL", "full");
  journal_.Touch(a_);
  journal_.WhenWrittenOrInTrouble(Note("meets it"));
  journal_.WhenWritten(Note("waits"));
  core_.RunAll();
  journal_.Touch(b_);
  journal_.WhenWrittenOrInTrouble(Note("comes with the next"));
  Settle();
  EXPECT_THAT(told_, ElementsAre("no trouble", "meets it STORAGE_FULL",
                                 "comes with the next STORAGE_FULL"));
  journal_.WhenWrittenOrInTrouble(Note("knows"));
  EXPECT_EQ(told_.back(), "knows STORAGE_FULL");
  store_.error = absl::OkStatus();
  clock_.Advance(absl::Seconds(1));
  journal_.Tick();
  Settle();
  EXPECT_THAT(store_.written, ElementsAre("a 0", "a 0", "b 0"));
  EXPECT_EQ(told_.back(), "waits");
}

TEST_F(JournalTest, FailedSyncEndsTheProcess) {
  store_.error = base::MakeError(absl::StatusCode::kDataLoss, "SYNC_FAILED", "");
  journal_.Touch(a_);
  Settle();
  EXPECT_THAT(fatal_, ElementsAre("SYNC_FAILED"));
}

TEST_F(JournalTest, TheLastIsWrittenAndNothingAfterIt) {
  journal_.Touch(a_);
  journal_.WhenWritten(Note("before"));
  bool ended = false;
  journal_.Close([&ended] { ended = true; });
  EXPECT_FALSE(ended);
  journal_.Touch(b_);
  journal_.WhenWritten(Note("after"));
  Settle();
  EXPECT_TRUE(ended);
  EXPECT_THAT(store_.written, ElementsAre("a 0"));
  EXPECT_THAT(told_, ElementsAre("after COORDINATOR_STOPS", "before"));
}

TEST_F(JournalTest, StopsWhenTheDiskIsFull) {
  store_.error = base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL", "full");
  journal_.Touch(a_);
  journal_.WhenWritten(Note("waits"));
  Settle();
  bool ended = false;
  journal_.Close([&ended] { ended = true; });
  EXPECT_TRUE(ended);
  EXPECT_THAT(told_, ElementsAre("waits COORDINATOR_STOPS"));
}

TEST_F(JournalTest, WithoutAStoreEverythingCountsAtOnce) {
  Journal none(core_, clock_);
  none.Touch(a_);
  none.WhenWritten(Note("at once"));
  EXPECT_THAT(told_, ElementsAre("at once"));
  EXPECT_EQ(core_.RunAll(), 0);
}

}  // namespace
}  // namespace espalier::server::jobs
