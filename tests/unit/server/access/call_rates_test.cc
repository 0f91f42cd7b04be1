#include "server/access/call_rates.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/status.h"

namespace espalier::server::access {
namespace {

constexpr CallRateLimits kLimits{.calls_per_second = 10,
                                 .call_burst = 20,
                                 .bytes_per_second = 1'000,
                                 .byte_burst = 5'000,
                                 .streams_per_caller = 2,
                                 .streams = 3,
                                 .callers = 4};

// How many calls in a row are let in at a time.
int Admitted(CallRates& rates, const std::string& caller, absl::Duration now) {
  int calls = 0;
  while (calls < 1'000 && rates.Take(caller, 0, now).ok()) ++calls;
  return calls;
}

TEST(CallRatesTest, ABurstIsLetInAndThenTheRate) {
  CallRates rates(kLimits);
  EXPECT_EQ(Admitted(rates, "anna", absl::ZeroDuration()), 20);
  EXPECT_EQ(Admitted(rates, "anna", absl::Milliseconds(50)), 0);
  EXPECT_EQ(Admitted(rates, "anna", absl::Milliseconds(1'050)), 10);
  // However long nothing came, no more than the burst is let in.
  EXPECT_EQ(Admitted(rates, "anna", absl::Hours(100)), 20);
}

TEST(CallRatesTest, RefusalSaysWhenToTryAgain) {
  CallRates rates(kLimits);
  Admitted(rates, "anna", absl::ZeroDuration());
  const absl::Status refused = rates.Take("anna", 0, absl::Milliseconds(40));
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_EQ(base::ReasonOf(refused), "CALL_RATE");
  EXPECT_NE(base::MessageOf(refused).find("try again in 0.06 s"), std::string::npos) << refused;
  EXPECT_TRUE(rates.Take("anna", 0, absl::Milliseconds(100)).ok());
}

TEST(CallRatesTest, OneCallerDoesNotTakeFromAnother) {
  CallRates rates(kLimits);
  Admitted(rates, "anna", absl::ZeroDuration());
  EXPECT_EQ(Admitted(rates, "bert", absl::ZeroDuration()), 20);
}

TEST(CallRatesTest, BytesAreLimitedAndACallLongerThanTheBurstIsLetIn) {
  CallRates rates(kLimits);
  EXPECT_TRUE(rates.Take("anna", 8'000, absl::ZeroDuration()).ok());
  const absl::Status refused = rates.Take("anna", 1, absl::ZeroDuration());
  EXPECT_EQ(base::ReasonOf(refused), "CALL_RATE");
  EXPECT_NE(base::MessageOf(refused).find("try again in 3.00 s"), std::string::npos) << refused;
  EXPECT_FALSE(rates.Take("anna", 0, absl::Milliseconds(2'900)).ok());
  EXPECT_TRUE(rates.Take("anna", 0, absl::Milliseconds(3'100)).ok());
}

TEST(CallRatesTest, TimeThatGoesBackGivesNothingTwice) {
  CallRates rates(kLimits);
  Admitted(rates, "anna", absl::Seconds(10));
  EXPECT_EQ(Admitted(rates, "anna", absl::Seconds(9)), 0);
  EXPECT_EQ(Admitted(rates, "anna", absl::Seconds(11)), 10);
}

TEST(CallRatesTest, StreamsOfACallerAndOfAllAreLimited) {
  CallRates rates(kLimits);
  const absl::Duration now;
  auto first = rates.Open("anna", now);
  const auto second = rates.Open("anna", now);
  ASSERT_TRUE(first.ok() && second.ok());
  const auto third = rates.Open("anna", now);
  EXPECT_EQ(base::ReasonOf(third.status()), "STREAMS_FULL");
  EXPECT_NE(base::MessageOf(third.status()).find("at most 2 open streams of one caller"),
            std::string::npos);
  const auto other = rates.Open("bert", now);
  ASSERT_TRUE(other.ok());
  const auto of_all = rates.Open("carl", now);
  EXPECT_NE(base::MessageOf(of_all.status()).find("at most 3 open streams of all callers"),
            std::string::npos);
  { const CallRates::Stream gone = *std::move(first); }
  EXPECT_TRUE(rates.Open("carl", now).ok());
}

TEST(CallRatesTest, AMovedStreamIsGivenBackOnce) {
  CallRates rates(kLimits);
  CallRates::Stream kept;
  {
    auto opened = rates.Open("anna", absl::ZeroDuration());
    ASSERT_TRUE(opened.ok());
    kept = *std::move(opened);
  }
  const auto second = rates.Open("anna", absl::ZeroDuration());
  ASSERT_TRUE(second.ok());
  EXPECT_FALSE(rates.Open("anna", absl::ZeroDuration()).ok());
}

TEST(CallRatesTest, TheCallerThatCalledLongestAgoIsForgotten) {
  CallRates rates(kLimits);
  for (const char* name : {"anna", "bert", "carl", "dora"}) {
    Admitted(rates, name, absl::ZeroDuration());
  }
  // Anna calls again, so that Bert is the one.
  EXPECT_FALSE(rates.Take("anna", 0, absl::ZeroDuration()).ok());
  EXPECT_TRUE(rates.Take("eric", 0, absl::ZeroDuration()).ok());
  EXPECT_EQ(rates.callers(), 4);
  EXPECT_FALSE(rates.Take("anna", 0, absl::ZeroDuration()).ok());
  EXPECT_TRUE(rates.Take("bert", 0, absl::ZeroDuration()).ok());
  EXPECT_EQ(rates.callers(), 4);
}

TEST(CallRatesTest, ACallerWithAStreamIsNotForgottenByAFloodOfOthers) {
  CallRates rates(kLimits);
  const auto stream = rates.Open("anna", absl::ZeroDuration());
  ASSERT_TRUE(stream.ok());
  Admitted(rates, "anna", absl::ZeroDuration());
  for (int i = 0; i < 1'000; ++i) {
    EXPECT_TRUE(rates.Take("stranger-" + std::to_string(i), 0, absl::ZeroDuration()).ok());
  }
  EXPECT_EQ(rates.callers(), 4);
  EXPECT_FALSE(rates.Take("anna", 0, absl::ZeroDuration()).ok());
}

TEST(CallRatesTest, ThreadsTogetherGetTheBurstAndNoMore) {
  CallRates rates({.call_burst = 500, .callers = 5'000});
  std::vector<int> admitted(4);
  std::vector<std::thread> threads;
  for (int& count : admitted) {
    threads.emplace_back([&rates, &count] {
      for (int i = 0; i < 500; ++i) {
        if (rates.Take("anna", 1, absl::ZeroDuration()).ok()) ++count;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted[0] + admitted[1] + admitted[2] + admitted[3], 500);
}

}  // namespace
}  // namespace espalier::server::access
