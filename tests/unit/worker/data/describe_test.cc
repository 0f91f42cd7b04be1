#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/describe/describe_json.h"
#include "worker/data/describe/held_out.h"

namespace espalier::worker::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

nlohmann::json Describe(const std::string& folder, const std::string& view = "") {
  const auto text = DescribeAsJson(folder, view, {});
  EXPECT_TRUE(text.ok()) << text.status();
  return text.ok() ? nlohmann::json::parse(*text) : nlohmann::json();
}

// 30 flowers of three kinds, one kind after the other or in turns.
std::string Flowers(bool sorted) {
  std::string text = "petal;sepal;kind\n";
  for (int i = 0; i < 30; ++i) {
    const int kind = sorted ? i / 10 : i % 3;
    text += std::to_string(kind) + ".5;" + std::to_string(i) + ";k" + std::to_string(kind) + "\n";
  }
  return text;
}

TEST(ShiftOfLastTest, IsTheTotalVariationDistance) {
  const std::vector<int32_t> sorted = {0, 0, 0, 0, 0, 1, 1, 1, 1, 1};
  EXPECT_DOUBLE_EQ(ShiftOfLast(sorted, 2, 0.2), 0.5);
  const std::vector<int32_t> mixed = {0, 1, 0, 1, 0, 1, 0, 1, 0, 1};
  EXPECT_DOUBLE_EQ(ShiftOfLast(mixed, 2, 0.2), 0);
  EXPECT_DOUBLE_EQ(ShiftOfLast({}, 2, 0.2), 0);
}

TEST(DescribeJsonTest, SaysWhatATableLooksLike) {
  const DataFolder root;
  root.Write("flowers/flowers.csv", Flowers(false));
  for (const char* end : {"/flowers", "/flowers/"}) {
    const auto json = Describe(root.path() + end);
    EXPECT_EQ(json["dataset"]["name"], "flowers");
    EXPECT_EQ(json["dataset"]["format"], "csv");
    EXPECT_EQ(json["dataset"]["label_column"], "kind");
    EXPECT_THAT(json["dataset"]["class_names"], ElementsAre("k0", "k1", "k2"));
    EXPECT_LT(json["last_fifth"], 0.1);
  }
}

TEST(DescribeJsonTest, NoticesASortedTable) {
  const DataFolder root;
  root.Write("flowers/flowers.csv", Flowers(true));
  EXPECT_NEAR(Describe(root.path() + "/flowers")["last_fifth"], 2.0 / 3, 1e-9);
  // Nothing is held out of a table with a test file.
  root.Write("flowers/train.csv", Flowers(true));
  root.Write("flowers/test.csv", Flowers(true));
  EXPECT_EQ(Describe(root.path() + "/flowers")["last_fifth"], 0);
}

TEST(DescribeJsonTest, SortedTablesWithGapsAndWordsAreNoticedToo) {
  const DataFolder root;
  std::string text = "size,colour,kind\n";
  for (int i = 0; i < 30; ++i) {
    text += (i == 3 ? "" : std::to_string(i)) + (i % 2 == 0 ? ",red," : ",blue,") +
            (i < 15 ? "ant" : "bee") + "\n";
  }
  root.Write("insects/insects.csv", text);
  const auto refused = Describe(root.path() + "/insects");
  EXPECT_THAT(refused["dataset"]["problem"].get<std::string>(), HasSubstr("'colour'"));
  const auto json = Describe(root.path() + "/insects",
                             R"({"missing": "MISSING_MEAN", "words": "WORDS_ONE_HOT"})");
  EXPECT_EQ(json["dataset"].value("problem", ""), "");
  EXPECT_EQ(json["dataset"]["features"], "3");
  EXPECT_NEAR(json["last_fifth"], 0.5, 1e-9);
}

TEST(DescribeJsonTest, CountsExamplesOfText) {
  const DataFolder root;
  root.Write("book/book.txt", std::string(1000, 'a'));
  EXPECT_EQ(Describe(root.path() + "/book")["dataset"]["format"], "text");
  const auto json = Describe(root.path() + "/book", R"({"text": {"context": "10"}})");
  EXPECT_EQ(json["dataset"]["train_bytes"], "1000");
  EXPECT_EQ(json["dataset"]["train_examples"], "99");
  const auto shorter = Describe(root.path() + "/book", R"({"text": {"context": "1000"}})");
  EXPECT_THAT(shorter["dataset"]["problem"].get<std::string>(), HasSubstr("1001 tokens"));
}

TEST(DescribeJsonTest, SaysWhyAFolderHoldsNoData) {
  const DataFolder root;
  root.Write("notes/todo.md", "nothing");
  EXPECT_THAT(Describe(root.path() + "/notes")["dataset"]["problem"].get<std::string>(),
              HasSubstr("none of them"));
}

TEST(DescribeJsonTest, AViewThatIsNoDataSpecIsRefused) {
  const auto text = DescribeAsJson("anywhere", R"({"lable": 1})", {});
  EXPECT_EQ(base::ReasonOf(text.status()), "DATA_SPEC_INVALID");
}

}  // namespace
}  // namespace espalier::worker::data
