#include "server/api/transfer_slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/base/status.h"

namespace espalier::server::api {
namespace {

using testing::ElementsAre;

class TransferSlotsTest : public ::testing::Test {
 protected:
  uint64_t Ask(const std::string& owner) {
    const uint64_t id = slots_.NewId();
    last_ = slots_.Acquire(id, owner, [this, owner] { begun_.push_back(owner); });
    return id;
  }

  TransferSlots<std::string> slots_{
      SlotLimits{.slots = 2, .per_owner = 1, .waiting = 4, .waiting_per_owner = 2}};
  std::vector<std::string> begun_;
  absl::Status last_;
};

TEST_F(TransferSlotsTest, OthersWaitInOrder) {
  const uint64_t a = Ask("a");
  const uint64_t b = Ask("b");
  Ask("c");
  Ask("d");
  EXPECT_THAT(begun_, ElementsAre("a", "b"));
  slots_.Release(b);
  EXPECT_THAT(begun_, ElementsAre("a", "b", "c"));
  slots_.Release(a);
  EXPECT_THAT(begun_, ElementsAre("a", "b", "c", "d"));
}

TEST_F(TransferSlotsTest, OneOwnerCannotHoldAllAndDelaysNobodyBehindIt) {
  const uint64_t first = Ask("greedy");
  Ask("greedy");
  Ask("greedy");
  Ask("b");
  EXPECT_THAT(begun_, ElementsAre("greedy", "b"));
  slots_.Release(first);
  EXPECT_THAT(begun_, ElementsAre("greedy", "b", "greedy"));
}

TEST_F(TransferSlotsTest, WhoGivesUpWaitingLeavesTheQueue) {
  const uint64_t a = Ask("a");
  Ask("b");
  const uint64_t c = Ask("c");
  Ask("d");
  slots_.Release(c);
  slots_.Release(c);
  slots_.Release(a);
  slots_.Release(a);
  EXPECT_THAT(begun_, ElementsAre("a", "b", "d"));
  // Twice released is not two free slots.
  Ask("e");
  EXPECT_THAT(begun_, ElementsAre("a", "b", "d"));
}

TEST_F(TransferSlotsTest, QueueIsLimitedForOneAndForAll) {
  const uint64_t a = Ask("a");
  Ask("b");
  Ask("a");
  Ask("a");
  EXPECT_TRUE(last_.ok());
  Ask("a");
  EXPECT_EQ(last_.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(base::ReasonOf(last_), "TRANSFERS_FULL");
  Ask("c");
  Ask("d");
  EXPECT_TRUE(last_.ok());
  Ask("e");
  EXPECT_EQ(base::ReasonOf(last_), "TRANSFERS_FULL");
  slots_.Release(a);
  Ask("f");
  EXPECT_TRUE(last_.ok());
}

}  // namespace
}  // namespace espalier::server::api
