#include "worker/session/results.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

namespace espalier::worker::session {
namespace {

TaskPtr TaskFor(const std::string& id, const std::string& participant, uint64_t epoch = 1) {
  auto task = std::make_shared<v1::Task>();
  task->set_task_id(id);
  task->set_job("jobs/a");
  task->set_participant(participant);
  task->mutable_epoch()->set_counter(epoch);
  return task;
}

tasks::Partial Body(const std::string& body) { return {.header = {}, .body = body}; }

class ResultsTest : public ::testing::Test {
 protected:
  void Keep(const std::string& id, const std::string& participant) {
    results_.Add(TaskFor(id, participant), Body(participant), /*wanted=*/false);
  }
  bool Claim(const std::string& id, const std::string& participant) {
    return results_.Claim(TaskFor(id, participant, 2));
  }

  Results results_;
};

TEST_F(ResultsTest, TaskIsTheSameUnderAnotherLease) {
  EXPECT_EQ(KeyOf(*TaskFor("1", "p", 1)), KeyOf(*TaskFor("2", "p", 9)));
  EXPECT_NE(KeyOf(*TaskFor("1", "p")), KeyOf(*TaskFor("1", "q")));
}

TEST_F(ResultsTest, OneSmallResultLeavesRoomForATask) {
  EXPECT_TRUE(results_.HasRoom());
  results_.Add(TaskFor("1", "p"), Body(std::string(Results::kSmallBytes, 'x')), true);
  EXPECT_TRUE(results_.HasRoom());
  results_.Add(TaskFor("2", "q"), Body("y"), true);
  EXPECT_FALSE(results_.HasRoom());
  results_.Begin();
  EXPECT_FALSE(results_.HasRoom());
  EXPECT_EQ(results_.End(true), Results::Fate::kOver);
  EXPECT_TRUE(results_.HasRoom());
}

TEST_F(ResultsTest, LargeResultLeavesNone) {
  results_.Add(TaskFor("1", "p"), Body(std::string(Results::kSmallBytes + 1, 'x')), true);
  EXPECT_FALSE(results_.HasRoom());
}

TEST_F(ResultsTest, ResultsAreHandedInInTheirOrder) {
  results_.Add(TaskFor("1", "p"), Body("p"), true);
  results_.Add(TaskFor("2", "q"), Body("q"), true);
  for (const std::string id : {"1", "2"}) {
    EXPECT_EQ(results_.wanted()->task->task_id(), id);
    EXPECT_EQ(results_.Begin().partial.header.task_id(), id);
    EXPECT_EQ(results_.End(true), Results::Fate::kOver);
  }
  EXPECT_EQ(results_.wanted(), nullptr);
  EXPECT_EQ(results_.newest(), nullptr);
}

TEST_F(ResultsTest, ClaimOfOneLeavesTheOther) {
  Keep("1", "p");
  Keep("2", "q");
  EXPECT_EQ(results_.wanted(), nullptr);
  EXPECT_EQ(results_.newest()->task->participant(), "q");
  EXPECT_TRUE(Claim("7", "p"));
  EXPECT_FALSE(Claim("8", "p")) << "it is wanted under another lease already";
  const Results::Result& result = results_.Begin();
  EXPECT_EQ(result.partial.header.task_id(), "7");
  EXPECT_EQ(result.partial.header.epoch().counter(), 2);
  EXPECT_EQ(result.partial.body, "p");
  EXPECT_EQ(results_.End(true), Results::Fate::kOver);
  EXPECT_TRUE(Claim("9", "q"));
  EXPECT_EQ(results_.wanted()->partial.body, "q");
}

TEST_F(ResultsTest, WhatNobodyWantsIsForgotten) {
  Keep("1", "p");
  Keep("2", "q");
  EXPECT_TRUE(Claim("7", "p"));
  results_.Forget();
  EXPECT_EQ(results_.newest()->task->task_id(), "7");
  EXPECT_FALSE(Claim("8", "q"));
}

TEST_F(ResultsTest, ResultOfAnAttemptThatLostItsConnectionIsKept) {
  results_.Add(TaskFor("1", "p"), Body("p"), true);
  results_.Begin();
  results_.Disown();
  EXPECT_EQ(results_.End(false), Results::Fate::kKept);
  EXPECT_TRUE(Claim("7", "p"));
}

TEST_F(ResultsTest, AcknowledgementThatCameInTimeCounts) {
  results_.Add(TaskFor("1", "p"), Body("p"), true);
  results_.Begin();
  results_.Disown();
  EXPECT_EQ(results_.End(true), Results::Fate::kOver);
  EXPECT_FALSE(Claim("7", "p"));
}

TEST_F(ResultsTest, ResultMayBeAskedForBeforeItsAttemptHasEnded) {
  for (const bool taken : {false, true}) {
    results_.Add(TaskFor("1", "p"), Body("p"), true);
    results_.Begin();
    results_.Disown();
    EXPECT_TRUE(Claim("7", "p"));
    EXPECT_EQ(results_.End(taken), Results::Fate::kAgain);
    EXPECT_EQ(results_.Begin().partial.header.task_id(), "7");
    EXPECT_EQ(results_.End(true), Results::Fate::kOver);
  }
}

TEST_F(ResultsTest, ResultMayBeForgottenBeforeItsAttemptHasEnded) {
  results_.Add(TaskFor("1", "p"), Body("p"), true);
  results_.Begin();
  results_.Disown();
  results_.Forget();
  EXPECT_FALSE(Claim("7", "p"));
  EXPECT_EQ(results_.End(false), Results::Fate::kOver);
  EXPECT_EQ(results_.newest(), nullptr);
}

TEST_F(ResultsTest, CancelHitsTheOneWithThatId) {
  results_.Add(TaskFor("1", "p"), Body("p"), true);
  results_.Add(TaskFor("2", "q"), Body("q"), true);
  results_.Begin();
  EXPECT_FALSE(results_.Cancel("2")) << "it waits for its turn";
  EXPECT_FALSE(results_.Cancel("3"));
  EXPECT_FALSE(results_.wanted()->cancelled);
  EXPECT_EQ(results_.End(true), Results::Fate::kOver);
  EXPECT_TRUE(results_.Begin().cancelled);
  EXPECT_EQ(results_.End(false), Results::Fate::kOver);
  results_.Add(TaskFor("3", "p"), Body("p"), true);
  results_.Begin();
  EXPECT_TRUE(results_.Cancel("3"));
}

TEST_F(ResultsTest, WhatWasCancelledIsNotKept) {
  results_.Add(TaskFor("1", "p"), Body("p"), true);
  results_.Add(TaskFor("2", "q"), Body("q"), true);
  results_.Begin();
  results_.Cancel("1");
  results_.Cancel("2");
  results_.Disown();
  EXPECT_FALSE(Claim("7", "p"));
  EXPECT_FALSE(Claim("8", "q"));
  EXPECT_EQ(results_.End(false), Results::Fate::kOver);
  EXPECT_TRUE(results_.HasRoom());
  EXPECT_EQ(results_.newest(), nullptr);
}

}  // namespace
}  // namespace espalier::worker::session
