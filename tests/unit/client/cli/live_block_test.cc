#include "client/cli/live_block.h"

#include <gtest/gtest.h>

#include <sstream>

namespace espalier::cli {
namespace {

// What was written since the last call.
std::string Taken(std::ostringstream& out) {
  std::string text = out.str();
  out.str("");
  return text;
}

TEST(LiveBlockTest, BlockIsDrawnOverItself) {
  std::ostringstream out;
  LiveBlock block(out, 80);
  block.Show({"a", "b", "c"});
  EXPECT_EQ(Taken(out), "\r\x1b[Ka\n\r\x1b[Kb\n\r\x1b[Kc");
  block.Show({"d", "e", "f"});
  EXPECT_EQ(Taken(out), "\x1b[2A\r\x1b[Kd\n\r\x1b[Ke\n\r\x1b[Kf");
}

TEST(LiveBlockTest, ShorterBlockLeavesNothingBehind) {
  std::ostringstream out;
  LiveBlock block(out, 80);
  block.Show({"a", "b"});
  Taken(out);
  block.Show({"c"});
  EXPECT_EQ(Taken(out), "\x1b[1A\r\x1b[J\r\x1b[Kc");
}

TEST(LiveBlockTest, PrintedLineStaysAboveTheBlock) {
  std::ostringstream out;
  LiveBlock block(out, 80);
  block.Print("first");
  EXPECT_EQ(Taken(out), "first\n");
  block.Show({"a", "b"});
  Taken(out);
  block.Print("second");
  EXPECT_EQ(Taken(out), "\x1b[1A\r\x1b[Jsecond\na\nb");
}

TEST(LiveBlockTest, LinesAreCutBeforeTheLastColumn) {
  std::ostringstream out;
  LiveBlock block(out, 5);
  block.Show({"1234", "12345"});
  EXPECT_EQ(Taken(out), "\r\x1b[K1234\n\r\x1b[K123…");
}

TEST(LiveBlockTest, EndedBlockStaysAndClearedBlockGoes) {
  std::ostringstream out;
  {
    LiveBlock block(out, 80);
    block.Show({"a", "b"});
    Taken(out);
    block.Clear();
    EXPECT_EQ(Taken(out), "\x1b[1A\r\x1b[J");
    block.Show({"c"});
    Taken(out);
  }
  EXPECT_EQ(Taken(out), "\n");
}

}  // namespace
}  // namespace espalier::cli
