#include "common/base/flags.h"

#include <cstdint>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace espalier::base {
namespace {

using testing::IsEmpty;

TEST(FlagsTest, WholeNumbersHaveOneSpelling) {
  const FlagCheck check = Between(1, 256);
  for (const char* good : {"1", "10", "256"}) EXPECT_THAT(check(good), IsEmpty()) << good;
  for (const char* bad : {"0", "257", "-1", "1.5", "many", "", " 5", "5 ", "010", "+7", "0x10",
                          "99999999999999999999"}) {
    EXPECT_EQ(check(bad),
              std::string("expected a whole number from 1 to 256, found \"") + bad + "\"");
  }
  EXPECT_THAT(Between<int64_t>(-5, std::numeric_limits<int64_t>::max())("-5"), IsEmpty());
}

TEST(FlagsTest, NumbersAreFinite) {
  const FlagCheck check = Between(0.5, 3600.0);
  for (const char* good : {"0.5", "3600", "1e2"}) EXPECT_THAT(check(good), IsEmpty()) << good;
  for (const char* bad : {"0.49", "nan", "inf", "-inf", "1e400", "", "2 ", "2s"}) {
    EXPECT_EQ(check(bad), std::string("expected a number from 0.5 to 3600, found \"") + bad + "\"");
  }
}

TEST(FlagsTest, WordsAreListed) {
  const FlagCheck check = OneOf({"debug", "info"});
  EXPECT_THAT(check("info"), IsEmpty());
  EXPECT_EQ(check("in\nfo"), "expected one of debug, info; found \"in\\nfo\"");
}

}  // namespace
}  // namespace espalier::base
