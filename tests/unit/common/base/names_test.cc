#include "common/base/names.h"

#include <gtest/gtest.h>

#include <string>

namespace espalier::base {
namespace {

TEST(NamesTest, IdsAreLettersDigitsAndHyphens) {
  for (const char* good : {"a", "job-1", "a1"}) EXPECT_TRUE(IsValidId(good)) << good;
  EXPECT_TRUE(IsValidId(std::string(63, 'a')));
  for (const char* bad : {"", "1a", "-a", "a-", "A", "a_b", "a/b", "jobs/a", "ä"}) {
    EXPECT_FALSE(IsValidId(bad)) << bad;
  }
  EXPECT_FALSE(IsValidId(std::string(64, 'a')));
}

TEST(NamesTest, DataSetsMayHaveDotsAndUnderscoresInside) {
  for (const char* good : {"a", "2024-wine", "u.data", "a_b"}) EXPECT_TRUE(IsDatasetName(good));
  for (const char* bad : {"", ".a", "a.", "a..b", "A", "a b", "a/b", "-a", "a-"}) {
    EXPECT_FALSE(IsDatasetName(bad)) << bad;
  }
  EXPECT_TRUE(IsDatasetName(std::string(63, 'a')));
  EXPECT_FALSE(IsDatasetName(std::string(64, 'a')));
}

TEST(NamesTest, ModelsMayHaveCapitals) {
  for (const char* good : {"Llama-3.2_1B", "a"}) EXPECT_TRUE(IsModelName(good));
  for (const char* bad : {"", ".a", "my model #2", "a/b", "a\nb"}) EXPECT_FALSE(IsModelName(bad));
}

TEST(NamesTest, NamesNearOthersAreValid) {
  EXPECT_EQ(DatasetNameLike("Wine Data"), "wine-data");
  EXPECT_EQ(DatasetNameLike("\x1b[31mred"), "31mred");
  EXPECT_EQ(DatasetNameLike("---"), "");
  EXPECT_EQ(IdLike("My Wine.csv"), "my-wine-csv");
  EXPECT_EQ(IdLike("2024-wine"), "job-2024-wine");
  EXPECT_EQ(IdLike("--"), "mine");
  for (const std::string& text : {std::string("Größe"), std::string("9"), std::string(200, 'x'),
                                  std::string("u.data"), std::string(45, 'x') + "-y"}) {
    EXPECT_TRUE(IsValidId(IdLike(text))) << text;
    EXPECT_TRUE(IsDatasetName(DatasetNameLike(text))) << text;
  }
}

}  // namespace
}  // namespace espalier::base
