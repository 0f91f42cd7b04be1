// A worker with a coordinator that holds acknowledgements and models back, and ends connections.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/unit/worker/session/session_fixture.h"

namespace espalier::worker::session {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

TEST_F(SessionTest, NextTaskBeginsWhileTheAcknowledgementIsHeldBack) {
  HandInWithoutAnAnswer();
  coordinator_.AwaitHeartbeatOf("a");
  const v1::Task next = Fetched("b", "q", 2);
  coordinator_.Give(next);
  coordinator_.AwaitEvent("fetch " + Digest(next));
  // It is done, and waits for its turn.
  coordinator_.AwaitHeartbeatOf("a");
  EXPECT_THAT(coordinator_.events(), Not(Contains("result b")));
  coordinator_.Release("a");
  coordinator_.AwaitEvent("acknowledged b");
  EXPECT_TRUE(coordinator_.InOrder("acknowledged a", "result b"));
}

TEST_F(SessionTest, NextTaskButOneWaitsForTheAcknowledgement) {
  HandInWithoutAnAnswer();
  const v1::Task second = Fetched("b", "q", 2);
  coordinator_.Give(second);
  coordinator_.AwaitEvent("fetch " + Digest(second));
  const v1::Task third = Fetched("c", "r", 3);
  coordinator_.Give(third);
  coordinator_.AwaitHeartbeatOf("a");
  EXPECT_THAT(coordinator_.events(), Not(Contains("fetch " + Digest(third))));
  coordinator_.Release("a");
  coordinator_.AwaitEvent("acknowledged c");
  EXPECT_TRUE(coordinator_.InOrder("acknowledged a", "fetch " + Digest(third)));
}

TEST_F(SessionTest, LargeResultIsHandedInBeforeTheNextTaskBegins) {
  coordinator_.Hold("a");
  coordinator_.Give(Quick("a", "p", 1, 40'000));
  coordinator_.AwaitEvent("result a");
  const v1::Task next = Fetched("b", "q", 2);
  coordinator_.Give(next);
  coordinator_.AwaitAnswer();
  EXPECT_THAT(coordinator_.events(), Not(Contains("fetch " + Digest(next))));
  coordinator_.Release("a");
  coordinator_.AwaitEvent("acknowledged b");
  EXPECT_TRUE(coordinator_.InOrder("acknowledged a", "fetch " + Digest(next)));
}

TEST_F(SessionTest, ConnectionEndsWhileOneIsHandedInAndAnotherComputed) {
  testing::internal::CaptureStderr();
  coordinator_.Hold("a");
  const v1::Task first = Quick("a", "p");
  const v1::Task second = Slow("b", "q");
  coordinator_.Give(first);
  coordinator_.AwaitEvent("result a");
  coordinator_.Give(second);
  coordinator_.AwaitHeartbeatOf("b");
  const v1::Register registration = coordinator_.Reconnect();
  EXPECT_EQ(registration.last_job(), "jobs/a");
  EXPECT_EQ(registration.last_participant(), "q");
  coordinator_.Give(As("a2", first));
  coordinator_.AwaitEvent("acknowledged a2");
  coordinator_.Give(As("b2", second));
  coordinator_.AwaitEvent("acknowledged b2");
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("result_is_there task=a2"));
  EXPECT_THAT(
      log, testing::AnyOf(HasSubstr("result_is_there task=b2"), HasSubstr("task_goes_on task=b2")));
  EXPECT_THAT(coordinator_.events(), Not(Contains("acknowledged a")));
}

TEST_F(SessionTest, ConnectionEndsWhileTwoResultsAreThere) {
  testing::internal::CaptureStderr();
  coordinator_.Hold("a");
  const v1::Task first = Quick("a", "p");
  const v1::Task second = Fetched("b", "q", 2);
  coordinator_.Give(first);
  coordinator_.AwaitEvent("result a");
  coordinator_.Give(second);
  coordinator_.AwaitEvent("fetch " + Digest(second));
  coordinator_.AwaitHeartbeatOf("a");
  EXPECT_EQ(coordinator_.Reconnect().last_participant(), "q");
  coordinator_.Give(As("b2", second));
  coordinator_.AwaitEvent("acknowledged b2");
  coordinator_.AwaitHeartbeatOf("");
  // They outlive another connection, too.
  EXPECT_EQ(coordinator_.Reconnect().last_participant(), "p");
  coordinator_.Give(As("a3", first));
  coordinator_.AwaitEvent("acknowledged a3");
  coordinator_.AwaitHeartbeatOf("");
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("result_is_there task=b2"));
  EXPECT_THAT(log, HasSubstr("result_is_there task=a3"));
  EXPECT_EQ(coordinator_.Reconnect().last_participant(), "");
}

TEST_F(SessionTest, WhatIsNotAskedForIsForgotten) {
  testing::internal::CaptureStderr();
  coordinator_.Hold("a");
  const v1::Task first = Quick("a", "p");
  coordinator_.Give(first);
  coordinator_.AwaitEvent("result a");
  // It would take hours.
  coordinator_.Give(Slow("b", "q", 1'000'000'000));
  coordinator_.AwaitHeartbeatOf("b");
  coordinator_.Reconnect();
  coordinator_.Give(Quick("c", "r", 3));
  coordinator_.AwaitEvent("acknowledged c");
  coordinator_.Give(As("a2", first));
  coordinator_.AwaitEvent("acknowledged a2");
  EXPECT_THAT(testing::internal::GetCapturedStderr(), Not(HasSubstr("result_is_there")));
}

TEST_F(SessionTest, CancellingWhatIsHandedInLeavesTheComputationAlone) {
  HandInWithoutAnAnswer();
  const v1::Task next = BeginBWithoutItsModel();
  coordinator_.Cancel("a");
  coordinator_.AwaitEvent("gone a");
  coordinator_.Release(Digest(next));
  coordinator_.AwaitEvent("acknowledged b");
}

TEST_F(SessionTest, CancellingTheComputationLeavesWhatIsHandedInAlone) {
  HandInWithoutAnAnswer();
  coordinator_.Give(Slow("b", "q", 1'000'000'000));
  coordinator_.AwaitHeartbeatOf("b");
  coordinator_.Cancel("b");
  coordinator_.AwaitHeartbeatOf("a");
  coordinator_.Give(Quick("c", "r", 3));
  coordinator_.Release("a");
  coordinator_.AwaitEvent("acknowledged a");
  coordinator_.AwaitEvent("acknowledged c");
  EXPECT_THAT(coordinator_.events(), Not(Contains("result b")));
}

TEST_F(SessionTest, ResultThatWaitsForItsTurnMayBeCancelled) {
  HandInWithoutAnAnswer();
  const v1::Task next = Fetched("b", "q", 2);
  coordinator_.Give(next);
  coordinator_.AwaitEvent("fetch " + Digest(next));
  coordinator_.AwaitHeartbeatOf("a");
  coordinator_.Cancel("b");
  coordinator_.Give(Quick("c", "r", 3));
  coordinator_.AwaitAnswer();
  coordinator_.Release("a");
  coordinator_.AwaitEvent("acknowledged c");
  EXPECT_THAT(coordinator_.events(), Not(Contains("result b")));
}

TEST_F(SessionTest, RefusalIsReportedOfItsOwnTask) {
  coordinator_.Hold("a");
  coordinator_.Answer("a", base::InvalidArgument("NON_FINITE", "expected numbers"));
  coordinator_.Give(Quick("a", "p"));
  coordinator_.AwaitEvent("result a");
  const v1::Task next = BeginBWithoutItsModel();
  coordinator_.Release("a");
  coordinator_.AwaitEvent("failed a NON_FINITE");
  coordinator_.Release(Digest(next));
  coordinator_.AwaitEvent("acknowledged b");
}

TEST_F(SessionTest, LeavingWaitsForTheAcknowledgement) {
  HandInWithoutAnAnswer();
  session_->Leave();
  coordinator_.AwaitEvent("drain");
  coordinator_.SetDraining();
  coordinator_.AwaitAnswer();
  coordinator_.AwaitHeartbeatOf("a");
  EXPECT_THAT(coordinator_.events(), Not(Contains("end of a session")));
  coordinator_.Release("a");
  AwaitEndOfRun();
  EXPECT_TRUE(coordinator_.InOrder("acknowledged a", "end of a session"));
}

TEST_F(SessionTest, StopsWhileAResultAndATaskWaitForTheirTurn) {
  HandInWithoutAnAnswer();
  const v1::Task next = Fetched("b", "q", 2);
  coordinator_.Give(next);
  coordinator_.AwaitEvent("fetch " + Digest(next));
  coordinator_.AwaitHeartbeatOf("a");
  coordinator_.Give(Quick("c", "r", 3));
  coordinator_.AwaitAnswer();
  session_->Stop();
  AwaitEndOfRun();
  session_.reset();
  EXPECT_THAT(coordinator_.events(), Not(Contains("result b")));
}

}  // namespace
}  // namespace espalier::worker::session
