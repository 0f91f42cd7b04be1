// What real files of interactions look like: quotes, headers of other programs, times, encodings,
// and users without items.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/worker/data/interaction_files.h"
#include "worker/data/interactions/times.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

v1::DataSpec Spec() { return InteractionSpec(v1::Interactions::SPLIT_RATIO); }

v1::DataSpec ByTime() {
  v1::DataSpec spec = InteractionSpec(v1::Interactions::SPLIT_LEAVE_ONE_OUT);
  spec.mutable_interactions()->set_order_by_time(true);
  return spec;
}

Loaded MustLoad(const DataFolder& folder) { return MustLoad(folder, Spec()); }

std::string Refusal(const DataFolder& folder, const v1::DataSpec& spec = Spec()) {
  const absl::Status status = LoadInteractions(folder.path(), spec, 1).status();
  EXPECT_EQ(base::ReasonOf(status), "DATASET_INVALID") << status;
  return base::MessageOf(status);
}

std::vector<std::string> Names(const IdMap& ids) {
  std::vector<std::string> names;
  for (int32_t i = 0; i < ids.size(); ++i) names.push_back(ids.Name(i));
  return names;
}

// The names of the items of one row.
std::vector<std::string> Items(const InteractionData& data, const ItemLists& lists, int32_t user) {
  std::vector<std::string> names;
  for (const int32_t item : lists.row(user)) names.push_back(data.item_ids.Name(item));
  return names;
}

TEST(InteractionTablesTest, QuotedCellsHoldCommasQuotesAndLineEnds) {
  const DataFolder folder;
  folder.Write("set/data.csv",
               "user,item,rating\r\nann,\"Toys, a story\",3\r\nann,\"The \"\"Heat\"\"\",4\r\n"
               "bob,\"Two\nlines\",5\r\nbob,plain,5\r\n");
  const Loaded data = MustLoad(folder);
  EXPECT_EQ(data->users, 2);
  EXPECT_THAT(Names(data->item_ids),
              ElementsAre("The \"Heat\"", "Toys, a story", "Two\nlines", "plain"));
}

TEST(InteractionTablesTest, FractionsOfSecondsDecideOnTheOrder) {
  const DataFolder folder;
  folder.Write("set/data.csv",
               "user,item,rating,timestamp\nu,c,1,1700000000.700\nu,a,1,1700000000.100\n"
               "u,b,1,1700000000.400\n");
  const Loaded data = MustLoad(folder, ByTime());
  EXPECT_THAT(Items(*data, data->train, 0), ElementsAre("a"));
  EXPECT_THAT(Items(*data, data->known, 0), ElementsAre("b"));
  EXPECT_THAT(Items(*data, data->asked, 0), ElementsAre("c"));
}

struct TimesCase {
  const char* what;
  const char* early;
  const char* late;
};

class TimesTest : public ::testing::TestWithParam<TimesCase> {};

// The later one comes first in the file.
TEST_P(TimesTest, TheLaterOneIsHeldOut) {
  const DataFolder folder;
  folder.Write("set/data.csv", fmt::format("user,item,timestamp\nu,late,{}\nu,early,{}\n",
                                           GetParam().late, GetParam().early));
  const Loaded data = MustLoad(folder, ByTime());
  EXPECT_THAT(Items(*data, data->train, 0), ElementsAre("early"));
  EXPECT_THAT(Items(*data, data->asked, 0), ElementsAre("late"));
}

INSTANTIATE_TEST_SUITE_P(
    All, TimesTest,
    ::testing::Values(
        TimesCase{"scaled to [0, 1]", "0.2010", "0.2011"},
        TimesCase{"nanoseconds beyond 2^53", "1700000000123456788", "1700000000123456789"},
        TimesCase{"seconds with nanoseconds", "1700000000.123456788", "1700000000.123456789"},
        TimesCase{"exponents", "8.8e-05", "1.2E-4"},
        TimesCase{"large exponents", "1.5e9", "1.6e+9"},
        TimesCase{"exponent and none", "9e2", "1000"}, TimesCase{"before 1970", "-1.75", "-1.5"},
        TimesCase{"zero and below", "-0.5", "0"}, TimesCase{"days", "2014-07-01", "2014-10-01"},
        TimesCase{"hours", "2014-07-01 09:30:00", "2014-07-01 12:00:00"},
        TimesCase{"with fractions", "2014-07-01T12:30:00.250Z", "2014-07-01T12:30:00.3Z"},
        TimesCase{"zones", "2014-07-01T12:30:00+02:00", "2014-07-01T11:30:00Z"}));

TEST(InteractionTablesTest, WhatIsNoTimeIsNotParsed) {
  for (const char* text :
       {"", "nan", "NaN", "inf", "-", ".", "1e", "e5", "1.2.3", "1,5", "now", "2014-13-01",
        "2014-02-30", "2014-07-01 25:00", "2014-07-01x", "12:30", "0x10", "10000000000000000000"}) {
    EXPECT_FALSE(ParseTime(text).has_value()) << text;
  }
  EXPECT_EQ(ParseTime("1970-01-02 00:00:01")->time.whole, 86401);
  EXPECT_EQ(ParseTime("-0.25")->time.whole, -1);
}

TEST(InteractionTablesTest, EqualTimesKeepTheOrderOfTheFile) {
  const DataFolder folder;
  folder.Write("set/data.csv", "user,item,time\nu,c,1.5\nu,a,1.5\nu,b,1.5\nu,z,0.5\n");
  const Loaded data = MustLoad(folder, ByTime());
  EXPECT_THAT(Items(*data, data->asked, 0), ElementsAre("b"));
  EXPECT_THAT(Items(*data, data->known, 0), ElementsAre("a"));
}

TEST(InteractionTablesTest, TwoFilesWithAnotherSplitAreOrderedAsOne) {
  const DataFolder folder;
  folder.Write("set/train.csv", "user,item,time\nu,a,1\nu,late,9\n");
  folder.Write("set/test.csv", "time,item,user\n5,b,u\n");
  const Loaded data = MustLoad(folder, ByTime());
  EXPECT_THAT(Items(*data, data->asked, 0), ElementsAre("late"));
}

TEST(InteractionTablesTest, MissingAndMixedTimesAreRefusedWithTheirLine) {
  const DataFolder folder;
  for (const char* time : {"", "NaN", "2014-07-01"}) {
    folder.Write("set/data.csv", fmt::format("user,item,timestamp\nu,a,1\nu,b,{}\n", time));
    EXPECT_THAT(Refusal(folder, ByTime()),
                AllOf(HasSubstr("line 3, column 3"), HasSubstr("a time")));
  }
}

TEST(InteractionTablesTest, WhatTheJobAsksOfColumnsThatAreNotThereIsRefused) {
  const DataFolder folder;
  folder.Write("set/data.csv", "user,item\nu,a\nu,b\n");
  EXPECT_THAT(Refusal(folder, ByTime()),
              AllOf(HasSubstr("order_by_time"), HasSubstr("'user', 'item'")));
  v1::DataSpec rated = Spec();
  rated.mutable_interactions()->set_min_rating(3);
  EXPECT_THAT(Refusal(folder, rated), AllOf(HasSubstr("min_rating"), HasSubstr("'user', 'item'")));
  folder.Write("set/data.csv", "u,1,5\nu,2,4\n");
  EXPECT_THAT(Refusal(folder, ByTime()),
              HasSubstr("3 columns without a header: user, item, rating"));
  const DataFolder graph;
  graph.Write("set/train.txt", "0 1 2\n");
  EXPECT_THAT(Refusal(graph, ByTime()), HasSubstr("order_by_time"));
  EXPECT_THAT(Refusal(graph, rated), HasSubstr("min_rating"));
}

struct HeaderCase {
  const char* file;
  const char* header;
  const char* separator;
};

class HeaderTest : public ::testing::TestWithParam<HeaderCase> {};

// The time is in the third column of four, the rating in the last.
TEST_P(HeaderTest, NamesItsColumns) {
  const std::string separator = GetParam().separator;
  std::string text = std::string(GetParam().header) + "\n";
  for (const std::vector<std::string>& row : {std::vector<std::string>{"tea", "ann", "9", "5"},
                                              {"milk", "ann", "1", "5"},
                                              {"rye", "ann", "2", "1"}}) {
    text += fmt::format("{}\n", fmt::join(row, separator));
  }
  const DataFolder folder;
  folder.Write(std::string("set/") + GetParam().file, text);
  v1::DataSpec spec = ByTime();
  spec.mutable_interactions()->set_min_rating(4);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_THAT(Names(data->user_ids), ElementsAre("ann"));
  EXPECT_THAT(Names(data->item_ids), ElementsAre("milk", "tea"));
  EXPECT_THAT(Items(*data, data->asked, 0), ElementsAre("tea"));
}

INSTANTIATE_TEST_SUITE_P(
    All, HeaderTest,
    ::testing::Values(
        HeaderCase{"data.csv", "item_id:token,user_id:token,timestamp:float,rating:float", ","},
        HeaderCase{"ml.inter", "item_id:token\tuser_id:token\ttimestamp:float\trating:float", "\t"},
        HeaderCase{"data.csv", "movieId,userId,timestamp,rating", ","},
        HeaderCase{"data.csv", "asin,reviewerID,unixReviewTime,overall", ","},
        HeaderCase{"data.tsv", "ISBN\tUser-ID\tDate\tBook-Rating", "\t"},
        HeaderCase{"data.csv", "\"business_id\";\"user_id\";\"date\";\"stars\"", ";"}));

TEST(InteractionTablesTest, ATestFileHasItsColumnsByItsOwnHeader) {
  const DataFolder folder;
  folder.Write("set/train.csv", "user,item\nann,tea\nann,rye\n");
  folder.Write("set/test.csv", "item,user\nmilk,ann\n");
  const Loaded data = MustLoad(folder, InteractionSpec(v1::Interactions::SPLIT_GIVEN));
  EXPECT_THAT(Names(data->user_ids), ElementsAre("ann"));
  EXPECT_THAT(Items(*data, data->asked, 0), ElementsAre("milk"));
}

TEST(InteractionTablesTest, HeadersThatAreNoneOrMeanTwoThingsAreRefused) {
  const DataFolder folder;
  folder.Write("set/data.csv", "user_id,userId,item\nu,v,a\n");
  EXPECT_THAT(Refusal(folder), AllOf(HasSubstr("'user_id'"), HasSubstr("'userId'")));
  folder.Write("set/data.csv", "user,item\nu,a\nuser,item\nv,b\n");
  EXPECT_THAT(Refusal(folder), AllOf(HasSubstr("line 3"), HasSubstr("the header again")));
}

struct NoHeader {
  const char* what;
  const char* text;
  std::vector<std::string> users;
  std::vector<std::string> items;
};

class WithoutHeaderTest : public ::testing::TestWithParam<NoHeader> {};

TEST_P(WithoutHeaderTest, TheFirstLineIsWhatItLooksLike) {
  const DataFolder folder;
  folder.Write("set/data.csv", GetParam().text);
  v1::DataSpec spec = Spec();
  spec.mutable_interactions()->set_format(v1::Interactions::FORMAT_CSV);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_EQ(Names(data->user_ids), GetParam().users) << GetParam().what;
  EXPECT_EQ(Names(data->item_ids), GetParam().items) << GetParam().what;
}

INSTANTIATE_TEST_SUITE_P(
    All, WithoutHeaderTest,
    ::testing::Values(
        NoHeader{
            "words that come again", "ann,tea\nann,rye\nbob,tea\n", {"ann", "bob"}, {"rye", "tea"}},
        NoHeader{"words with digits", "u1,i1\nu2,i2\n", {"u1", "u2"}, {"i1", "i2"}},
        NoHeader{
            "uuid", "5f-aa,B01,5.0,160\n6e-bb,B02,4.0,161\n", {"5f-aa", "6e-bb"}, {"B01", "B02"}},
        NoHeader{"unknown names", "client,thing\nu1,i1\nu2,i2\n", {"u1", "u2"}, {"i1", "i2"}},
        NoHeader{"unknown names over numbers", "client,thing\n1,2\n3,4\n", {"1", "3"}, {"2", "4"}},
        NoHeader{"unknown names and a rating",
                 "client,thing,liking\nann,tea,3\nbob,rye,4\n",
                 {"ann", "bob"},
                 {"rye", "tea"}}));

TEST(InteractionTablesTest, AFirstLineThatMayBeEitherNeedsTheJobsWord) {
  const DataFolder folder;
  folder.Write("set/data.csv", "client,thing\nann,tea\nbob,rye\n");
  EXPECT_THAT(Refusal(folder), AllOf(HasSubstr("line 1"), HasSubstr("data.header: present")));
  v1::DataSpec spec = Spec();
  spec.set_header(v1::DataSpec::HEADER_PRESENT);
  EXPECT_EQ(MustLoad(folder, spec)->users, 2);
  spec.set_header(v1::DataSpec::HEADER_ABSENT);
  EXPECT_EQ(MustLoad(folder, spec)->users, 3);
}

TEST(InteractionTablesTest, Latin1BecomesUtf8InEveryFormat) {
  const DataFolder csv;
  csv.Write("set/data.csv", "user;item\nus\xE9r;Caf\xE9\nus\xC3\xA9r;Z\xFCrich\n");
  const Loaded data = MustLoad(csv);
  EXPECT_THAT(Names(data->user_ids), ElementsAre("us\xC3\xA9r"));
  EXPECT_THAT(Names(data->item_ids), ElementsAre("Caf\xC3\xA9", "Z\xC3\xBCrich"));
  const DataFolder movielens;
  movielens.Write("set/ratings.dat", "us\xE9r::Caf\xE9::5::1\nus\xE9r::b::5::2\n");
  EXPECT_THAT(Names(MustLoad(movielens)->item_ids), ElementsAre("Caf\xC3\xA9", "b"));
}

TEST(InteractionTablesTest, LightGcnUsersWithoutItemsAreUsers) {
  const DataFolder folder;
  folder.Write("set/train.txt", "0 0 1 2\n1 1 2 3 \n2\n3 \n4 0 4\r\n5 2 4 5\n\n");
  folder.Write("set/test.txt", "0 3\n1 \n2 4\n4\n5 6 \n6 0\n");
  v1::DataSpec spec = InteractionSpec(v1::Interactions::SPLIT_UNSPECIFIED);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_EQ(data->users, 7);
  EXPECT_EQ(data->items, 7);
  EXPECT_EQ(data->asked.size(), 4);
  EXPECT_EQ(data->notes.users_without_training, 3);
  std::vector<std::string> problems;
  const auto scanned = ScanDataRoot(folder.path(), problems);
  ASSERT_THAT(scanned, SizeIs(1));
  EXPECT_EQ(scanned[0].users(), 7) << "the scan counts like the job";
  EXPECT_EQ(scanned[0].items(), 7);
  spec.mutable_interactions()->set_user_core(1);
  EXPECT_EQ(MustLoad(folder, spec)->users, 4) << "asked for, users without training items go";
}

TEST(InteractionTablesTest, LightGcnWithTabsAndLeadingZeros) {
  const DataFolder folder;
  folder.Write("set/train.txt", "0\t0\t1\n1\t01\t2\n");
  const Loaded data = MustLoad(folder);
  EXPECT_EQ(data->users, 2);
  EXPECT_EQ(data->items, 3);
}

// Users 0 and 1 share items; every other one has an item of its own.
TEST(InteractionTablesTest, HeldOutUsersAreNotAskedForItemsThatNobodyTrained) {
  const DataFolder folder;
  std::string text;
  for (int user = 0; user < 30; ++user) text += fmt::format("{0} 1 2 3 4 1{0:02}\n", user);
  folder.Write("set/train.txt", text);
  v1::DataSpec spec = InteractionSpec(v1::Interactions::SPLIT_HELD_OUT_USERS);
  spec.mutable_interactions()->set_held_out_users(10);
  spec.mutable_interactions()->set_fold_in(0.5);
  const Loaded data = MustLoad(folder, spec);
  EXPECT_EQ(data->items, 34) << "the model's items do not depend on the seed";
  EXPECT_EQ(data->notes.untrained_items, 10);
  for (int32_t user = 0; user < 30; ++user) {
    if (data->asked.row(user).empty()) continue;
    EXPECT_THAT(data->asked.row(user), SizeIs(2));
    for (const auto* lists : {&data->asked, &data->known}) {
      for (const int32_t item : lists->row(user)) EXPECT_LT(item, 4);
    }
  }
}

TEST(InteractionTablesTest, AJobsViewCountsWhatTheJobWillHave) {
  const DataFolder folder;
  folder.Write("set/u.data", "1\t1\t5\t0\n1\t2\t3\t0\n2\t2\t4\t0\n2\t2\t4\t9\n3\t1\t1\t0\n");
  v1::DataSpec view = Spec();
  view.mutable_interactions()->set_min_rating(4);
  const auto root = DataRoot::Open(folder.path());
  const auto info = DescribeInteractions(*root, view, {});
  ASSERT_TRUE(info.ok()) << info.status();
  EXPECT_EQ(info->format(), "movielens");
  EXPECT_EQ(info->users(), 2);
  EXPECT_EQ(info->items(), 2);
  EXPECT_EQ(info->interactions(), 2) << "repetitions count once";
  EXPECT_EQ(MustLoad(folder, view)->users, 2);
  view.mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  EXPECT_EQ(DescribeInteractions(*root, view, {})->items(), 3) << "local: the largest id + 1";
}

TEST(InteractionTablesTest, ScanTakesTablesOfWordsAndNumbersForWhatTheyMayBe) {
  const DataFolder folder;
  folder.Write("both/data.csv", "0,0\n0,6\n1,0\n1,6\n");
  folder.Write("measures/data.csv", "0.5,1.25,0\n0.25,0.5,1\n");
  folder.Write("words/data.csv", "ann,tea\nann,rye\nbob,tea\n");
  std::vector<std::string> problems;
  const auto found = ScanDataRoot(folder.path(), problems);
  EXPECT_THAT(problems, IsEmpty());
  ASSERT_THAT(found, SizeIs(3));
  EXPECT_EQ(found[0].format(), "csv");
  EXPECT_EQ(found[0].features(), 1);
  EXPECT_EQ(found[0].users(), 2);
  EXPECT_EQ(found[0].items(), 2);
  EXPECT_EQ(found[1].users(), 0) << "fractions are no ids";
  EXPECT_EQ(found[2].format(), "interactions_csv");
  EXPECT_EQ(found[2].users(), 2);
}

}  // namespace
}  // namespace espalier::worker::data
