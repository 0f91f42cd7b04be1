#include "worker/data/interactions/fields.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::worker::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Users 7, 8 and 9 with items 10, 20 and 30.
class FieldsTest : public ::testing::Test {
 protected:
  FieldsTest() {
    folder_.Write("set/ratings.dat",
                  "7::10::5::1\n7::20::4::2\n8::20::3::1\n8::30::3::1\n9::10::5::0\n9::30::5::0\n");
    v1::DataSpec spec;
    spec.set_dataset("set");
    data_ = *LoadInteractions(folder_.path(), spec, 1).value();
  }

  absl::StatusOr<std::vector<ItemLists>> Load(const std::string& fields, bool local = false) const {
    v1::AutoIntModel model;
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(fields, &model));
    return LoadFields(folder_.path(), data_, model, local);
  }
  std::string Error(const std::string& fields, bool local = false) const {
    const auto lists = Load(fields, local);
    EXPECT_EQ(base::ReasonOf(lists.status()), "DATASET_INVALID");
    return base::MessageOf(lists.status());
  }
  static std::vector<int32_t> Row(const ItemLists& lists, int32_t row) {
    const auto values = lists.row(row);
    return {values.begin(), values.end()};
  }

  DataFolder folder_;
  InteractionData data_;
};

TEST_F(FieldsTest, MovieLensOneMillion) {
  // User 6 is unknown, but the numbers of values are those of the file.
  folder_.Write("set/users.dat",
                "6::F::1::0::111\n7::M::56::2::222\n8::F::25::1::333\n9::M::25::0::222\n");
  folder_.Write("set/movies.dat",
                "10::A (1995)::Comedy|Action\n20::B::Drama\n40::C::Action|Horror\n");
  const auto lists = Load(
      "fields { name: 'gender' values: 2 } fields { name: 'genres' values: 4 of_items: true } "
      "fields { name: 'age' values: 3 } fields { name: 'occupation' values: 21 }");
  ASSERT_TRUE(lists.ok()) << lists.status();
  EXPECT_THAT(Row((*lists)[0], 0), ElementsAre(1));
  EXPECT_THAT(Row((*lists)[0], 1), ElementsAre(0));
  // Action, Comedy, Drama, Horror; nothing is said of item 30.
  EXPECT_THAT(Row((*lists)[1], 0), ElementsAre(0, 1));
  EXPECT_THAT(Row((*lists)[1], 1), ElementsAre(2));
  EXPECT_THAT(Row((*lists)[1], 2), IsEmpty());
  EXPECT_THAT(Row((*lists)[2], 0), ElementsAre(2)) << "1, 25, 56 are three different ones";
  EXPECT_THAT(Row((*lists)[2], 1), ElementsAre(1));
  EXPECT_THAT(Row((*lists)[3], 0), ElementsAre(2)) << "whole numbers below 21 are themselves";
}

TEST_F(FieldsTest, MovieLensOneHundredThousand) {
  folder_.Write("set/u.user", "7|24|M|writer|1\n8|53|F|other|2\n9|23|M|writer|T8H1N\n");
  folder_.Write("set/u.item", "10|A|d||u|0|1|1\n20|B|d||u|1|0|0\n30|C|d||u|0|0|0\n");
  const auto lists = Load(
      "fields { name: 'occupation' values: 2 } fields { name: 'genres' values: 3 of_items: true }");
  ASSERT_TRUE(lists.ok()) << lists.status();
  EXPECT_THAT((*lists)[0].items, ElementsAre(1, 0, 1));
  EXPECT_THAT(Row((*lists)[1], 0), ElementsAre(1, 2));
  EXPECT_THAT(Row((*lists)[1], 1), ElementsAre(0));
  EXPECT_THAT(Row((*lists)[1], 2), IsEmpty());
}

TEST_F(FieldsTest, CsvFilesNameTheirColumns) {
  folder_.Write("set/users.csv", "\xEF\xBB\xBFteam;user_id;tags\nred;9;a|b|a\nblue;7;\n");
  const auto lists = Load("fields { name: 'tags' values: 2 } fields { name: 'team' values: 2 }");
  ASSERT_TRUE(lists.ok()) << lists.status();
  EXPECT_THAT(Row((*lists)[0], 2), ElementsAre(0, 1));
  EXPECT_THAT(Row((*lists)[0], 0), IsEmpty());
  EXPECT_THAT(Row((*lists)[1], 0), ElementsAre(0));
  EXPECT_THAT(Row((*lists)[1], 1), IsEmpty());
}

TEST_F(FieldsTest, LocalFilesMustNumberTheirValues) {
  folder_.Write("set/users.csv", "user,level\n7,3\n8,5\n9,3\n");
  const std::string fields = "fields { name: 'level' values: 6 }";
  const auto lists = Load(fields, /*local=*/true);
  ASSERT_TRUE(lists.ok()) << lists.status();
  EXPECT_THAT((*lists)[0].items, ElementsAre(3, 5, 3));
  EXPECT_THAT(Error("fields { name: 'level' values: 2 }", /*local=*/true),
              HasSubstr("number them alike on all workers"));
  EXPECT_TRUE(Load("fields { name: 'level' values: 2 }").ok());
}

TEST_F(FieldsTest, MistakesAreNamedWithTheirFix) {
  const std::string gender = "fields { name: 'gender' values: 2 }";
  EXPECT_THAT(Error(gender), HasSubstr("users.dat, u.user, users.csv for field 'gender'"));
  folder_.Write("set/users.dat", "7::M::1::2::3\n7::F::1::2::3\n");
  EXPECT_THAT(Error(gender), HasSubstr("line 2"));
  folder_.Write("set/users.dat", "7::M::1::2::3\n8::F::1\n");
  EXPECT_THAT(Error(gender), HasSubstr("5 cells as in the first line"));
  folder_.Write("set/users.dat", "7::M::1::2::3\n8::F::1::2::3\n9::X::1::2::3\n");
  EXPECT_THAT(Error(gender), HasSubstr("set autoint.fields[0].values to 3"));
  EXPECT_THAT(Error("fields { name: 'team' values: 2 }"),
              HasSubstr("found gender, age, occupation, zip"));
  folder_.Write("set/users.dat", "");
  EXPECT_THAT(Error(gender), HasSubstr("at least one line"));
  folder_.Write("set/items.csv", "thing,color\n1,red\n");
  EXPECT_THAT(Error("fields { name: 'color' values: 2 of_items: true }"),
              HasSubstr("a header that names the column item"));
}

// Beside users.csv and items.csv, the one other CSV file has the interactions.
TEST(FieldFilesTest, TablesOfFieldsAreNotInteractions) {
  DataFolder folder;
  folder.Write("set/likes.csv", "user,item\n1,2\n1,3\n");
  folder.Write("set/users.csv", "user,team\n1,red\n");
  folder.Write("set/items.csv", "item,color\n2,red\n");
  v1::DataSpec spec;
  spec.set_dataset("set");
  const auto data = LoadInteractions(folder.path(), spec, 1);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ((*data)->items, 2);
}

}  // namespace
}  // namespace espalier::worker::data
