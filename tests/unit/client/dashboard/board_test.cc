#include "client/dashboard/streams/board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace espalier::dashboard {
namespace {

using ::testing::ElementsAre;

Frame Text(const std::string& text) { return std::make_shared<const std::string>(text); }

// The frames that are there, and "END" behind them when no more will come. Events of the board's own
// are shown by their first line that names them.
std::vector<std::string> All(FrameSource& source) {
  std::vector<std::string> texts;
  for (;;) {
    Frame frame;
    const FrameSource::Next next = source.Take(frame);
    if (next == FrameSource::Next::kEnd) texts.emplace_back("END");
    if (next != FrameSource::Next::kFrame) return texts;
    texts.push_back(*frame);
  }
}

const char kCaughtUp[] = "event: caught-up\ndata: {}\n\n";
const char kReset[] = "event: reset\ndata: {}\n\n";

class BoardTest : public ::testing::Test {
 protected:
  std::shared_ptr<Board> board_ = std::make_shared<Board>();
};

TEST_F(BoardTest, NewReadersGetThingsAsTheyAreAndThenChanges) {
  board_->Put("a", Text("a1"), "1");
  board_->Put("b", Text("b1"), "2");
  board_->Put("a", Text("a2"), "3");
  board_->Happened(Text("happened"), "4");
  board_->CaughtUp("4");
  const auto source = board_->Subscribe("");
  EXPECT_THAT(All(*source),
              ElementsAre("a2", "b1", "happened", std::string("id: 4\n") + kCaughtUp));
  board_->Remove("b", Text("b gone"), "5");
  EXPECT_THAT(All(*source), ElementsAre("b gone"));
  EXPECT_THAT(board_->names(), ElementsAre("a"));
}

TEST_F(BoardTest, ReadersThatComeBeforeTheEndOfThePastAreToldOnce) {
  const auto source = board_->Subscribe("");
  board_->Put("a", Text("a1"), "");
  EXPECT_THAT(All(*source), ElementsAre("a1"));
  board_->CaughtUp("");
  board_->Put("a", Text("a2"), "");
  EXPECT_THAT(All(*source), ElementsAre(kCaughtUp, "a2"));
}

TEST_F(BoardTest, ReadersThatComeBackGetWhatTheyMissed) {
  board_->Put("a", Text("a1"), "1");
  board_->CaughtUp("1");
  board_->Put("b", Text("b1"), "2");
  board_->Put("b", Text("b2"), "3");
  EXPECT_THAT(All(*board_->Subscribe("2")), ElementsAre("b2", std::string("id: 3\n") + kCaughtUp));
  EXPECT_THAT(All(*board_->Subscribe("3")), ElementsAre(std::string("id: 3\n") + kCaughtUp));
}

TEST_F(BoardTest, ReadersThatWereAwayForTooLongBeginAnew) {
  board_->Put("a", Text("a1"), "7");
  EXPECT_THAT(All(*board_->Subscribe("6")), ElementsAre(kReset, "a1"));
}

TEST_F(BoardTest, AResetForgetsThings) {
  board_->Put("a", Text("a1"), "1");
  const auto source = board_->Subscribe("");
  board_->Reset();
  board_->Put("b", Text("b1"), "1'");
  EXPECT_THAT(All(*source), ElementsAre("a1", kReset, "b1"));
  EXPECT_THAT(All(*board_->Subscribe("")), ElementsAre("b1"));
}

TEST_F(BoardTest, ReadersThatFallBehindAreEnded) {
  const auto slow = board_->Subscribe("");
  const Frame large = Text(std::string(1 << 20, 'x'));
  for (size_t i = 0; i < Board::kKeptBytes / large->size() + 2; ++i) board_->Put("a", large, "");
  EXPECT_THAT(All(*slow), ElementsAre("END"));
  // A new one gets the thing once.
  EXPECT_EQ(All(*board_->Subscribe("")).size(), 1U);
}

TEST_F(BoardTest, ListenersAreToldUntilTheirReaderIsGone) {
  int told = 0;
  {
    const auto source = board_->Subscribe("");
    source->Listen([&told] { ++told; });
    EXPECT_EQ(board_->subscribers(), 1);
    board_->Put("a", Text("a1"), "");
    EXPECT_EQ(told, 1);
  }
  board_->Put("a", Text("a2"), "");
  EXPECT_EQ(told, 1);
  EXPECT_EQ(board_->subscribers(), 0);
}

TEST(FrameTest, AnIdThatCouldBreakTheStreamIsLeftOut) {
  EXPECT_EQ(*MakeFrame("job", "{}\n", "t-1"), "id: t-1\nevent: job\ndata: {}\n\n");
  EXPECT_EQ(*MakeFrame("job", "{}", "a\nevent: evil"), "event: job\ndata: {}\n\n");
  EXPECT_EQ(*MakeFrame("job", "{}", ""), "event: job\ndata: {}\n\n");
}

}  // namespace
}  // namespace espalier::dashboard
