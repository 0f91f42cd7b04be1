#include "worker/data/interactions/interactions.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "common/base/status.h"
#include "tests/unit/worker/data/interaction_files.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::DataSpec Spec(v1::Interactions::Split split = v1::Interactions::SPLIT_UNSPECIFIED) {
  return InteractionSpec(split);
}

std::vector<int32_t> Row(const ItemLists& lists, int32_t user) {
  const auto row = lists.row(user);
  return {row.begin(), row.end()};
}

// The same three users in every format: 7 had 10, 20, 30; 8 had 20, 40; 9 had 10.
struct SameData {
  const char* file;
  const char* text;
  const char* format;
};

class FormatTest : public ::testing::TestWithParam<SameData> {};

TEST_P(FormatTest, ReadsTheSameInteractions) {
  const DataFolder folder;
  folder.Write(std::string("set/") + GetParam().file, GetParam().text);
  const Loaded data = MustLoad(folder, Spec(v1::Interactions::SPLIT_LEAVE_ONE_OUT));
  ASSERT_NE(data, nullptr);
  EXPECT_EQ(data->format, GetParam().format);
  ASSERT_EQ(data->users, 3);
  ASSERT_EQ(data->items, 4);
  EXPECT_EQ(data->user_ids.Name(0), "7");
  EXPECT_EQ(data->item_ids.Name(3), "40");
  EXPECT_EQ(data->item_ids.Find("20"), 1);
  EXPECT_EQ(data->item_ids.Find("25"), std::nullopt);
  // Of 10, 20, 30 the last is asked for, the one before is known.
  EXPECT_THAT(Row(data->train, 0), ElementsAre(0));
  EXPECT_THAT(Row(data->known, 0), ElementsAre(1));
  EXPECT_THAT(Row(data->asked, 0), ElementsAre(2));
  EXPECT_THAT(data->Had(0), ElementsAre(0, 1));
  // Two: one for training, one for testing. One: for training.
  EXPECT_THAT(Row(data->train, 1), ElementsAre(1));
  EXPECT_THAT(Row(data->asked, 1), ElementsAre(3));
  EXPECT_THAT(Row(data->train, 2), ElementsAre(0));
  EXPECT_THAT(Row(data->asked, 2), IsEmpty());
}

INSTANTIATE_TEST_SUITE_P(
    All, FormatTest,
    ::testing::Values(
        SameData{"u.data",
                 "7\t10\t5\t1\n8\t20\t3\t1\n7\t20\t4\t2\n7\t30\t1\t3\n8\t40\t2\t9\n9\t10\t5\t0\n",
                 "movielens"},
        SameData{"ratings.dat",
                 "7::10::5::1\n7::20::4::2\n7::30::1::3\r\n8::20::3::1\n8::40::2::9\n9::10::5::0",
                 "movielens"},
        SameData{"train.txt", "7 10 20 30\n8 20 40\n\n9 10 \n", "lightgcn"},
        SameData{"data.csv", "7,10\n7,20\n7,30\n8,20\n8,40\n9,10\n", "interactions_csv"},
        SameData{"likes.csv",
                 "itemId,time,userId\n10,1,7\n20,2,7\n30,3,7\n20,4,8\n40,5,8\n10,6,9\n",
                 "interactions_csv"},
        SameData{"likes.csv",
                 "user;item;rating\n7;10;1\n7;20;1\n\"7\";\"30\";1\n8;20;1\n8;40;1\n9;10;1\n",
                 "interactions_csv"}));

TEST(InteractionsTest, TestFileIsTheSplitAndCompressedFilesAreRead) {
  const DataFolder folder;
  folder.Write("set/train.txt.gz", Gzip("0 0 1 2\n1 1\n2\n"));
  folder.Write("set/test.txt", "0 3\n1\n2 0\n");
  const Loaded data = MustLoad(folder, Spec());
  ASSERT_EQ(data->users, 3);
  ASSERT_EQ(data->items, 4);
  EXPECT_THAT(Row(data->train, 0), ElementsAre(0, 1, 2));
  EXPECT_THAT(Row(data->asked, 0), ElementsAre(3));
  EXPECT_THAT(Row(data->asked, 1), IsEmpty());
  EXPECT_THAT(Row(data->asked, 2), ElementsAre(0));
  EXPECT_EQ(data->notes.users_without_training, 1);
}

TEST(InteractionsTest, IdsThatAreWordsAreSortedAsText) {
  const DataFolder folder;
  folder.Write("set/data.csv", "user,item\nzoe,tea\nann,007\nann,7\n");
  const Loaded data = MustLoad(folder, Spec());
  EXPECT_EQ(data->user_ids.Name(0), "ann");
  EXPECT_EQ(data->items, 3);
  EXPECT_EQ(data->item_ids.Find("7"), 1);
  EXPECT_EQ(data->item_ids.Find("tea"), 2);
}

TEST(InteractionsTest, RepeatedInteractionsCountOnceAndAreCounted) {
  const DataFolder folder;
  folder.Write("set/train.txt", "0 5 6 5 5\n0 6 7\n");
  folder.Write("set/test.txt", "0 7 8 8\n");
  const Loaded data = MustLoad(folder, Spec());
  EXPECT_EQ(data->train.size(), 3);
  EXPECT_THAT(Row(data->asked, 0), ElementsAre(3));
  EXPECT_EQ(data->notes.duplicates, 4);
  EXPECT_EQ(data->notes.tested_in_training, 1);
}

TEST(InteractionsTest, TheLastItemOfASortedFileIsNotHeldOut) {
  std::string lines;
  for (int user = 0; user < 200; ++user) {
    for (int item = 0; item < 9; ++item) lines += fmt::format("{}::{}::5::0\n", user, user + item);
  }
  const DataFolder folder;
  folder.Write("set/ratings.dat", lines);
  const v1::DataSpec spec = Spec(v1::Interactions::SPLIT_LEAVE_ONE_OUT);
  const absl::Status refused = LoadInteractions(folder.path(), spec, 1).status();
  EXPECT_EQ(base::ReasonOf(refused), "DATASET_INVALID");
  EXPECT_THAT(base::MessageOf(refused),
              AllOf(HasSubstr("sorted by item"), HasSubstr("split: ratio")));
  EXPECT_NE(MustLoad(folder, Spec(v1::Interactions::SPLIT_RATIO)), nullptr);
  v1::DataSpec by_time = spec;
  by_time.mutable_interactions()->set_order_by_time(true);
  EXPECT_THAT(base::MessageOf(LoadInteractions(folder.path(), by_time, 1).status()),
              HasSubstr("found 0 in all 1800 lines"));
  folder.Write("set/ratings.dat", lines + "1::0::5::1\n");  // one that is not in that order
  EXPECT_NE(MustLoad(folder, spec), nullptr);
  EXPECT_NE(MustLoad(folder, by_time), nullptr);
}

TEST(InteractionsTest, OrderIsThatOfTimeWhereAskedElseOfTheFile) {
  const DataFolder folder;
  folder.Write("set/data.csv", "1,10,5,30\n1,20,5,10\n1,30,5,20\n");
  v1::DataSpec spec = Spec();
  EXPECT_THAT(Row(MustLoad(folder, spec)->asked, 0), ElementsAre(2));
  spec.mutable_interactions()->set_order_by_time(true);
  EXPECT_THAT(Row(MustLoad(folder, spec)->asked, 0), ElementsAre(0));
}

TEST(InteractionsTest, ValidationAsksForTheOneBeforeTheLastAndHidesTheLast) {
  const DataFolder folder;
  folder.Write("set/data.csv", "1,10\n1,20\n1,30\n1,40\n");
  v1::DataSpec spec = Spec();
  spec.mutable_interactions()->set_validate(true);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_THAT(Row(data->train, 0), ElementsAre(0, 1));
  EXPECT_THAT(Row(data->known, 0), IsEmpty());
  EXPECT_THAT(Row(data->asked, 0), ElementsAre(2));
}

TEST(InteractionsTest, CoresAreFilteredUntilNothingMoreGoes) {
  const DataFolder folder;
  // Item 4 has one user; without it user 3 has one item, and without that one item 3 has one user.
  folder.Write("set/data.csv", "1,1\n1,2\n2,1\n2,2\n1,3\n3,3\n3,4\n");
  v1::DataSpec spec = Spec(v1::Interactions::SPLIT_RATIO);
  spec.mutable_interactions()->set_user_core(2);
  spec.mutable_interactions()->set_item_core(2);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_EQ(data->users, 2);
  EXPECT_EQ(data->items, 2);
  EXPECT_EQ(data->train.size() + data->asked.size(), 4);
  EXPECT_EQ(data->notes.below_core, 3);
}

TEST(InteractionsTest, LowRatingsAreLeftOut) {
  const DataFolder folder;
  folder.Write("set/u.data", "1\t1\t5\t0\n1\t2\t3\t0\n2\t2\t4\t0\n");
  v1::DataSpec spec = Spec();
  spec.mutable_interactions()->set_min_rating(4);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_EQ(data->train.size() + data->asked.size(), 2);
  EXPECT_EQ(data->notes.low_ratings, 1);
}

TEST(InteractionsTest, RatioTakesThatShareOfEachUserAndFollowsTheSeed) {
  const DataFolder folder;
  std::string text;
  for (int user = 0; user < 4; ++user) {
    text += std::to_string(user);
    for (int item = 0; item < 10; ++item) text += " " + std::to_string(item);
    text += "\n";
  }
  folder.Write("set/train.txt", text);
  v1::DataSpec spec = Spec(v1::Interactions::SPLIT_RATIO);
  spec.mutable_interactions()->set_test_ratio(0.3);
  const Loaded data = MustLoad(folder, spec);
  std::set<std::vector<int32_t>> asked;
  for (int user = 0; user < 4; ++user) {
    EXPECT_EQ(data->train.row(user).size(), 7);
    EXPECT_EQ(data->asked.row(user).size(), 3);
    asked.insert(Row(data->asked, user));
  }
  EXPECT_GT(asked.size(), 1);
  EXPECT_EQ(MustLoad(folder, spec)->asked.items, data->asked.items);
  EXPECT_NE(MustLoad(folder, spec, 2)->asked.items, data->asked.items);
}

TEST(InteractionsTest, HeldOutUsersAreNotTrainedOn) {
  const DataFolder folder;
  std::string text;
  for (int user = 0; user < 10; ++user) text += std::to_string(user) + " 0 1 2 3 4 5 6 7 8 9\n";
  folder.Write("set/train.txt", text);
  v1::DataSpec spec = Spec(v1::Interactions::SPLIT_HELD_OUT_USERS);
  spec.mutable_interactions()->set_held_out_users(3);
  const auto asked_users = [&](const InteractionData& data) {
    std::set<int> users;
    for (int user = 0; user < 10; ++user) {
      if (data.asked.row(user).empty()) continue;
      users.insert(user);
      EXPECT_THAT(Row(data.train, user), IsEmpty());
      EXPECT_EQ(data.known.row(user).size(), 8);
      EXPECT_EQ(data.asked.row(user).size(), 2);
    }
    return users;
  };
  const Loaded test = MustLoad(folder, spec);
  EXPECT_EQ(test->train.size(), 40);
  const std::set<int> tested = asked_users(*test);
  EXPECT_EQ(tested.size(), 3);
  spec.mutable_interactions()->set_validate(true);
  const std::set<int> validated = asked_users(*MustLoad(folder, spec));
  EXPECT_EQ(validated.size(), 3);
  for (const int user : validated) EXPECT_FALSE(tested.contains(user));
}

TEST(InteractionsTest, WithLocalDataItemIdsAreTheNumbers) {
  const DataFolder folder;
  folder.Write("set/data.csv", "ann,3\nbob,17\n");
  v1::DataSpec spec = Spec();
  spec.mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_EQ(data->items, 18);
  EXPECT_THAT(Row(data->train, 1), ElementsAre(17));
  EXPECT_EQ(data->item_ids.Name(17), "17");
  folder.Write("set/data.csv", "ann,tea\n");
  EXPECT_THAT(base::MessageOf(LoadInteractions(folder.path(), spec, 1).status()),
              HasSubstr("items numbered from 0"));
}

struct BadFile {
  const char* what;
  const char* file;
  const char* text;
  const char* where;
  const char* fix;
};

class BadInteractionsTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadInteractionsTest, NamesTheLineAndTheFix) {
  const DataFolder folder;
  folder.Write(std::string("set/") + GetParam().file, GetParam().text);
  const auto data = LoadInteractions(folder.path(), Spec(), 1);
  ASSERT_FALSE(data.ok()) << GetParam().what;
  EXPECT_EQ(base::ReasonOf(data.status()), "DATASET_INVALID");
  const std::string message = base::MessageOf(data.status());
  EXPECT_THAT(message, HasSubstr("set"));
  EXPECT_THAT(message, HasSubstr(GetParam().where));
  EXPECT_THAT(message, HasSubstr(GetParam().fix));
  EXPECT_THAT(message, ::testing::Not(HasSubstr(folder.path())));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadInteractionsTest,
    ::testing::Values(
        BadFile{"empty", "u.data", "", "at least one interaction", "write users and items"},
        BadFile{"only blank lines", "train.txt", "\n \n", "at least one", "write users"},
        BadFile{"wrong separator", "u.data", "1,2,3,4\n", "line 1", "use one separator"},
        BadFile{"separator changes", "u.data", "1\t2\t3\t4\n1::2::3::4\n", "line 2",
                "use one separator"},
        BadFile{"tabs in LightGCN text", "train.txt", "0 1 2\n1\t2\t3\n", "line 2, number 1",
                "with blanks between"},
        BadFile{"words in LightGCN text", "train.txt", "0 1 x\n", "line 1, number 3", "'x'"},
        BadFile{"negative id", "train.txt", "0 -1\n", "line 1, number 2", "ids from 0"},
        BadFile{"id out of range", "train.txt", "0 1\n1 4294967296\n", "line 2, number 2",
                "ids from 0"},
        BadFile{"one column", "data.csv", "1 2\n", "line 1", "separated by ','"},
        BadFile{"rating is no number", "data.csv", "1,2,5\n1,3,x\n", "line 2, column 3",
                "correct the line"},
        BadFile{"time is no number", "u.data", "1\t2\t5\tnow\n", "line 1, column 4", "a time"},
        BadFile{"no user", "data.csv", "1,2\n,3\n", "line 2, column 1", "an empty cell"},
        BadFile{"too many columns", "data.csv", "1,2,3,4,5\n", "line 1", "add one"},
        BadFile{"unknown files", "notes.md", "hello", "u.data", "data.interactions.format"}));

TEST(InteractionsTest, FiltersThatLeaveNothingAreAnError) {
  const DataFolder folder;
  folder.Write("set/data.csv", "1,1\n2,2\n");
  v1::DataSpec spec = Spec();
  spec.mutable_interactions()->set_item_core(2);
  EXPECT_THAT(base::MessageOf(LoadInteractions(folder.path(), spec, 1).status()),
              HasSubstr("lower data.interactions"));
  spec = Spec(v1::Interactions::SPLIT_GIVEN);
  EXPECT_THAT(base::MessageOf(LoadInteractions(folder.path(), spec, 1).status()),
              HasSubstr("add test.txt or test.csv"));
  spec = Spec(v1::Interactions::SPLIT_HELD_OUT_USERS);
  EXPECT_THAT(base::MessageOf(LoadInteractions(folder.path(), spec, 1).status()),
              HasSubstr("held_out_users"));
}

TEST(InteractionsTest, EveryUserIsOnExactlyOneShard) {
  v1::Partition partition;
  partition.set_kind(v1::Partition::KIND_USERS);
  partition.set_shards(7);
  std::vector<int32_t> all;
  for (int shard = 0; shard < 7; ++shard) {
    const auto users = UsersOfShard(100, partition, 3, shard);
    ASSERT_TRUE(users.ok());
    EXPECT_GE(users->size(), 14);
    EXPECT_TRUE(std::is_sorted(users->begin(), users->end()));
    for (const int32_t user : *users) {
      EXPECT_EQ(ShardOfUser(100, partition, 3, user).value(), shard);
    }
    all.insert(all.end(), users->begin(), users->end());
  }
  std::sort(all.begin(), all.end());
  EXPECT_EQ(all.size(), 100);
  EXPECT_EQ(std::unique(all.begin(), all.end()), all.end());
  EXPECT_EQ(base::ReasonOf(UsersOfShard(6, partition, 3, 0).status()), "PARTITION_IMPOSSIBLE");
  EXPECT_EQ(base::ReasonOf(UsersOfShard(100, partition, 3, 7).status()), "DATA_SPEC_INVALID");
}

TEST(InteractionsTest, ScanReportsUsersItemsAndInteractions) {
  const DataFolder folder;
  folder.Write("likes/data.csv", "user,item\nann,tea\nbob,tea\nbob,milk\n");
  folder.Write("numbers/data.csv", "1,2,0\n3,4,1\n");
  folder.Write("graph/train.txt", "0 1 2\n1 2\n");
  std::vector<std::string> problems;
  const auto found = ScanDataRoot(folder.path(), problems);
  EXPECT_THAT(problems, IsEmpty());
  ASSERT_EQ(found.size(), 3);
  EXPECT_EQ(found[0].format(), "lightgcn");
  EXPECT_EQ(found[0].users(), 2);
  EXPECT_EQ(found[1].format(), "interactions_csv");
  EXPECT_EQ(found[1].items(), 2);
  EXPECT_EQ(found[1].interactions(), 3);
  EXPECT_EQ(found[2].format(), "csv");
  EXPECT_EQ(found[2].features(), 2);
  EXPECT_EQ(found[2].users(), 2) << "they may be users, items and ratings, too";
}

TEST(InteractionsTest, LinesEndWithACarriageReturnAloneAsWell) {
  // Longer than what is read at once, so that line ends fall on its borders.
  std::string lines;
  for (int user = 0; user < 60'000; ++user) lines += fmt::format("{} {}\n", user, user % 7);
  for (const char* end : {"\n", "\r", "\r\n"}) {
    const DataFolder folder;
    std::string text;
    for (const char c : lines) text += c == '\n' ? std::string(end) : std::string(1, c);
    folder.Write("x/train.txt", text);
    std::vector<std::string> problems;
    const auto found = ScanDataRoot(folder.path(), problems);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_THAT(problems, IsEmpty());
    EXPECT_EQ(found[0].users(), 60'000);
    EXPECT_EQ(found[0].items(), 7);
    EXPECT_EQ(found[0].interactions(), 60'000);
  }
}

}  // namespace
}  // namespace espalier::worker::data
