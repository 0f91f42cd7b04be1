#include "common/log/log.h"

#include <gtest/gtest.h>

namespace espalier::log {
namespace {

TEST(FormatLineTest, PlainValuesStayAsTheyAre) {
  EXPECT_EQ(FormatLine("round_committed", {{"job", "jobs/a"}, {"loss", 0.25}}),
            "round_committed job=jobs/a loss=0.25");
}

TEST(FormatLineTest, NoValueCanForgeALineOrSteerATerminal) {
  EXPECT_EQ(FormatLine("e", {{"v", "a\n2026-01-01T00:00:00Z info forged\x1b[2J \"q\" \\"}}),
            R"(e v="a\n2026-01-01T00:00:00Z info forged\x1b[2J \"q\" \\")");
  EXPECT_EQ(FormatLine("e", {{"v",
                              "\xC2\x9B"
                              "2J \xE2\x80\xAE \xE2\x80\xA8 \xFF"}}),
            R"(e v="\u009b2J \u202e \u2028 \xff")");
}

TEST(FormatLineTest, LongValuesAreCut) {
  const std::string line = FormatLine("e", {{"v", std::string(5'000'000, 'x')}});
  EXPECT_LT(line.size(), 2100u);
  EXPECT_EQ(line.substr(line.size() - 4), "…\"");
}

TEST(FormatMembersTest, AreJsonWhoseTextsAreThoseOfTheOtherFormat) {
  EXPECT_EQ(FormatMembers("e", {{"job", "jobs/a"}, {"loss", 0.25}}),
            R"("event":"e","job":"jobs/a","loss":"0.25")");
  EXPECT_EQ(FormatMembers("e", {{"v", "\"q\" \\ \n\x1b[2J \xFF"}}),
            R"("event":"e","v":"\"q\" \\ \\n\\x1b[2J \\xff")");
}

TEST(SetFormatTest, OnlyTakesWordsThatItKnows) {
  EXPECT_FALSE(SetFormat("yaml"));
  EXPECT_TRUE(SetFormat("text"));
}

}  // namespace
}  // namespace espalier::log
