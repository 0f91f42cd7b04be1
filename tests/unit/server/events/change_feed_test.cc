// What readers of a feed are told, from the beginning, after a change, and when they are too late.
#include "server/events/change_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace espalier::server::events {
namespace {

using Kind = ChangeFeed::Change::Kind;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Optional;

v1::JobEvent Event(int64_t sequence) {
  v1::JobEvent event;
  event.set_sequence(sequence);
  return event;
}

// "a", "-a" when it is gone, "a#3" for its event 3.
std::optional<std::vector<std::string>> Read(const ChangeFeed& feed, uint64_t number,
                                             uint64_t begin) {
  const auto changes = feed.After(number, begin, 1000);
  if (!changes.has_value()) return std::nullopt;
  std::vector<std::string> words;
  for (const auto& change : *changes) {
    const char* const before = change.kind == Kind::kGone ? "-" : "";
    const std::string after =
        change.kind == Kind::kEvent ? "#" + std::to_string(change.event->event().sequence()) : "";
    words.push_back(before + change.name + after);
  }
  return words;
}

TEST(ChangeFeedTest, WhoeverReadsFromTheBeginningIsToldOfAllThingsOnceInTheOrderOfTheirChanges) {
  ChangeFeed feed;
  for (const char* name : {"a", "b", "c", "a"}) feed.Changed(name, "");
  EXPECT_THAT(Read(feed, 0, feed.last()), Optional(ElementsAre("b", "c", "a")));
}

TEST(ChangeFeedTest, WhoeverReadsOnIsToldOfWhatChangedSinceAndOfAllEvents) {
  ChangeFeed feed;
  feed.Changed("a", "");
  feed.Changed("b", "");
  const uint64_t read = feed.last();
  feed.Happened("a", "", Event(1));
  feed.Changed("a", "");
  feed.Happened("a", "", Event(2));
  feed.Changed("a", "");
  feed.Gone("b");
  EXPECT_THAT(Read(feed, read, read), Optional(ElementsAre("a#1", "a#2", "a", "-b")));
  EXPECT_THAT(Read(feed, feed.last(), read), Optional(IsEmpty()));
}

TEST(ChangeFeedTest, WhatIsGoneAndWasNeverThereIsNotTold) {
  ChangeFeed feed;
  feed.Gone("a");
  EXPECT_EQ(feed.last(), 0);
}

TEST(ChangeFeedTest, AChangeHasTheOwnerAlsoWhenTheThingIsGone) {
  ChangeFeed feed;
  feed.Changed("a", "ada");
  feed.Gone("a");
  EXPECT_EQ(feed.After(0, feed.last(), 10)->front().owner, "ada");
}

TEST(ChangeFeedTest, OldEventsGoAndWhoeverHasNotReadThemBeginsAnew) {
  ChangeFeed feed(/*most_passing=*/3);
  feed.Changed("a", "");
  const uint64_t early = feed.last();
  for (int i = 1; i <= 3; ++i) feed.Happened("a", "", Event(i));
  EXPECT_THAT(Read(feed, early, early), Optional(ElementsAre("a#1", "a#2", "a#3")));
  feed.Happened("a", "", Event(4));
  EXPECT_EQ(Read(feed, early, early), std::nullopt);
  EXPECT_THAT(Read(feed, early + 1, early + 1), Optional(ElementsAre("a#2", "a#3", "a#4")));
  EXPECT_THAT(Read(feed, 0, feed.last()), Optional(ElementsAre("a", "a#2", "a#3", "a#4")))
      << "things stay, and whoever begins now misses nothing";
}

TEST(ChangeFeedTest, EventsTakeNoMoreThanTheirBytes) {
  ChangeFeed feed(/*most_passing=*/1000, /*most_bytes=*/4000);
  for (int i = 1; i <= 1000; ++i) feed.Happened("a", "", Event(i));
  const auto kept = Read(feed, 0, feed.last());
  ASSERT_TRUE(kept.has_value());
  EXPECT_GE(kept->size(), 1);
  EXPECT_LT(kept->size(), 40);
  EXPECT_EQ(kept->back(), "a#1000");
}

TEST(ChangeFeedTest, AReaderOfAnotherLifeIsTooLate) {
  const ChangeFeed feed;
  EXPECT_EQ(Read(feed, 7, 7), std::nullopt);
}

TEST(ChangeFeedTest, FindsWhereTheNewestEventsBegin) {
  ChangeFeed feed;
  feed.Happened("a", "", Event(1));
  feed.Changed("a", "");
  feed.Happened("a", "", Event(2));
  feed.Gone("a");
  feed.Happened("b", "", Event(1));
  const auto all = [](const ChangeFeed::Change&) { return true; };
  const auto of_a = [](const ChangeFeed::Change& change) { return change.name == "a"; };
  EXPECT_THAT(Read(feed, feed.BeforeNewestEvents(1, of_a), feed.last()),
              Optional(ElementsAre("a#2", "-a", "b#1")));
  EXPECT_THAT(Read(feed, feed.BeforeNewestEvents(1, all), feed.last()),
              Optional(ElementsAre("b#1")));
  EXPECT_THAT(Read(feed, feed.BeforeNewestEvents(2, all), feed.last()),
              Optional(ElementsAre("a#2", "-a", "b#1")));
  EXPECT_EQ(feed.BeforeNewestEvents(9, all), 0);
  EXPECT_EQ(feed.BeforeNewestEvents(0, all), feed.last());
}

TEST(ChangeFeedTest, ListenersAreCalledOnceForWhatIsNew) {
  ChangeFeed feed;
  int calls = 0;
  const uint64_t id = feed.Listen([&calls] { ++calls; });
  feed.Tell();
  EXPECT_EQ(calls, 0);
  feed.Changed("a", "");
  feed.Changed("b", "");
  feed.Tell();
  feed.Tell();
  EXPECT_EQ(calls, 1);
  feed.Unlisten(id);
  feed.Changed("a", "");
  feed.Tell();
  EXPECT_EQ(calls, 1);
}

}  // namespace
}  // namespace espalier::server::events
