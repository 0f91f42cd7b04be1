#include "server/api/download_tickets.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/support/fake_clock.h"
#include "tests/support/seeded_entropy.h"

namespace espalier::server::api {
namespace {

class DownloadTicketsTest : public ::testing::Test {
 protected:
  test::FakeClock clock_;
  test::SeededEntropy entropy_{1};
  DownloadTickets tickets_{clock_, entropy_, absl::Minutes(10), 3};
};

TEST_F(DownloadTicketsTest, TicketOpensOneCheckpointToOneCallerManyTimes) {
  const std::string ticket = tickets_.Issue("checkpoints/a-1", "ann");
  EXPECT_EQ(ticket.size(), 16u);
  EXPECT_TRUE(tickets_.Check(ticket, "checkpoints/a-1", "ann").ok());
  EXPECT_TRUE(tickets_.Check(ticket, "checkpoints/a-1", "ann").ok());
  EXPECT_EQ(base::ReasonOf(tickets_.Check(ticket, "checkpoints/a-2", "ann")), "TICKET_INVALID");
  EXPECT_EQ(base::ReasonOf(tickets_.Check(ticket, "checkpoints/a-1", "bob")), "TICKET_INVALID");
  EXPECT_EQ(base::ReasonOf(tickets_.Check("", "checkpoints/a-1", "ann")), "TICKET_INVALID");
}

TEST_F(DownloadTicketsTest, TicketExpires) {
  const std::string ticket = tickets_.Issue("checkpoints/a-1", "ann");
  clock_.Advance(absl::Minutes(10) - absl::Seconds(1));
  EXPECT_TRUE(tickets_.Check(ticket, "checkpoints/a-1", "ann").ok());
  clock_.Advance(absl::Seconds(1));
  EXPECT_FALSE(tickets_.Check(ticket, "checkpoints/a-1", "ann").ok());
}

TEST_F(DownloadTicketsTest, AskingOftenPushesOutNoOther) {
  const std::string bobs = tickets_.Issue("checkpoints/a-1", "bob");
  const std::string first = tickets_.Issue("checkpoints/a-1", "ann");
  for (int i = 0; i < 100; ++i) EXPECT_EQ(tickets_.Issue("checkpoints/a-1", "ann"), first);
  EXPECT_TRUE(tickets_.Check(bobs, "checkpoints/a-1", "bob").ok());
  // A ticket that is handed out has half of its time left at least.
  clock_.Advance(absl::Minutes(5));
  const std::string second = tickets_.Issue("checkpoints/a-1", "ann");
  EXPECT_NE(second, first);
  EXPECT_TRUE(tickets_.Check(first, "checkpoints/a-1", "ann").ok());
  EXPECT_TRUE(tickets_.Check(second, "checkpoints/a-1", "ann").ok());
}

TEST_F(DownloadTicketsTest, BeyondTheLimitTheOneThatExpiresFirstGoes) {
  std::vector<std::string> tickets;
  for (int round = 0; round < 4; ++round) {
    tickets.push_back(tickets_.Issue("checkpoints/a-" + std::to_string(round), "ann"));
    clock_.Advance(absl::Seconds(1));
  }
  EXPECT_FALSE(tickets_.Check(tickets[0], "checkpoints/a-0", "ann").ok());
  for (int round = 1; round < 4; ++round) {
    EXPECT_TRUE(
        tickets_.Check(tickets[round], "checkpoints/a-" + std::to_string(round), "ann").ok());
  }
}

}  // namespace
}  // namespace espalier::server::api
