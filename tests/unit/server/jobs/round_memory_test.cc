// Which rounds are remembered, and which go.
#include "server/jobs/listing/round_memory.h"

#include <gtest/gtest.h>

#include <string>

namespace espalier::server::jobs {
namespace {

v1::RoundProgress Round(const std::string& job, int number, const std::string& run = "") {
  v1::RoundProgress round;
  round.set_job(job);
  round.set_round(number);
  round.set_run(run);
  return round;
}

TEST(RoundMemoryTest, FindsTheNewestOrThatOfANumberAndRun) {
  RoundMemory memory;
  for (int round = 1; round <= 3; ++round) {
    memory.Keep(Round("jobs/a", round, "one"));
    memory.Keep(Round("jobs/a", round, "two"));
  }
  EXPECT_EQ(memory.Find("jobs/a", 0, "")->run(), "two");
  EXPECT_EQ(memory.Find("jobs/a", 0, "one")->round(), 3);
  EXPECT_EQ(memory.Find("jobs/a", 2, "one")->run(), "one");
  EXPECT_EQ(memory.Find("jobs/a", 4, ""), nullptr);
  EXPECT_EQ(memory.Find("jobs/a", 1, "three"), nullptr);
  EXPECT_EQ(memory.Find("jobs/b", 0, ""), nullptr);
  EXPECT_EQ(memory.Oldest("jobs/a", "two"), 1);
  EXPECT_EQ(memory.Oldest("jobs/b", ""), 0);
}

TEST(RoundMemoryTest, OfAJobTheNewestStay) {
  RoundMemory memory;
  memory.Keep(Round("jobs/b", 1));
  for (int round = 1; round <= 120; ++round) memory.Keep(Round("jobs/a", round));
  EXPECT_EQ(memory.Oldest("jobs/a", ""), 120 - static_cast<int>(RoundMemory::kRoundsOfJob) + 1);
  EXPECT_NE(memory.Find("jobs/b", 1, ""), nullptr)
      << "another job's rounds are no matter of this one";
}

TEST(RoundMemoryTest, AllTogetherTakeNoMoreThanTheirBytesAndTheOldestGoFirst) {
  RoundMemory memory(/*most_bytes=*/100'000);
  for (int job = 1; job <= 100; ++job) {
    v1::RoundProgress round = Round("jobs/" + std::to_string(job), 1);
    for (int i = 0; i < 50; ++i) round.add_participants()->set_message(std::string(100, 'x'));
    memory.Keep(std::move(round));
  }
  EXPECT_EQ(memory.Find("jobs/1", 0, ""), nullptr);
  EXPECT_NE(memory.Find("jobs/100", 0, ""), nullptr);
}

TEST(RoundMemoryTest, ADeletedJobIsForgotten) {
  RoundMemory memory;
  for (int round = 1; round <= 3; ++round) memory.Keep(Round("jobs/a", round));
  memory.Keep(Round("jobs/b", 1));
  memory.Forget("jobs/a");
  EXPECT_EQ(memory.Find("jobs/a", 0, ""), nullptr);
  EXPECT_NE(memory.Find("jobs/b", 0, ""), nullptr);
}

}  // namespace
}  // namespace espalier::server::jobs
