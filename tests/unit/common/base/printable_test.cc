#include "common/base/printable.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace espalier::base {
namespace {

std::string Utf8(uint32_t point) {
  const auto byte = [](uint32_t bits) { return static_cast<char>(bits); };
  if (point < 0x80) return {byte(point)};
  if (point < 0x800) return {byte(0xC0 | point >> 6), byte(0x80 | (point & 0x3F))};
  if (point < 0x10000) {
    return {byte(0xE0 | point >> 12), byte(0x80 | (point >> 6 & 0x3F)),
            byte(0x80 | (point & 0x3F))};
  }
  return {byte(0xF0 | point >> 18), byte(0x80 | (point >> 12 & 0x3F)),
          byte(0x80 | (point >> 6 & 0x3F)), byte(0x80 | (point & 0x3F))};
}

TEST(PrintableTest, TextThatCanBeReadStays) {
  for (const char* text : {"", "plain", "äöü ≥ ß 数据 😀 ☃", R"(back\slash "quoted")"}) {
    EXPECT_EQ(Printable(text), text);
  }
}

TEST(PrintableTest, EveryControlIsEscaped) {
  for (uint32_t point = 0; point < 0xA0; ++point) {
    if (point >= 0x20 && point < 0x7F) continue;
    const std::string shown = Printable(Utf8(point));
    EXPECT_EQ(shown[0], '\\') << point;
    for (const char c : shown) EXPECT_TRUE(c > 0x20 && c < 0x7F) << point;
  }
  EXPECT_EQ(Printable("a\n\t\r\x1b\x07\x7f"), R"(a\n\t\r\x1b\x07\x7f)");
}

TEST(PrintableTest, DirectionsSeparatorsAndInvisibleCharactersAreEscaped) {
  for (const uint32_t point :
       {0x61Cu, 0x200Bu, 0x200Eu, 0x200Fu, 0x2028u, 0x2029u, 0x202Au, 0x202Bu, 0x202Cu, 0x202Du,
        0x202Eu, 0x2060u, 0x2066u, 0x2067u, 0x2068u, 0x2069u, 0xFEFFu, 0xADu}) {
    EXPECT_EQ(Printable(Utf8(point))[0], '\\') << point;
  }
  EXPECT_EQ(Printable(Utf8(0x202E)), R"(\u202e)");
  EXPECT_EQ(Printable(Utf8(0xE0041)), R"(\U000e0041)");
}

TEST(PrintableTest, BytesThatAreNotUtf8AreEscapedOneByOne) {
  EXPECT_EQ(Printable("a\xFF"
                      "b"),
            R"(a\xffb)");
  EXPECT_EQ(Printable("\xC0\x8A"), R"(\xc0\x8a)");          // overlong newline
  EXPECT_EQ(Printable("\xED\xA0\x80"), R"(\xed\xa0\x80)");  // surrogate
  EXPECT_EQ(Printable("\xF4\x90\x80\x80"), R"(\xf4\x90\x80\x80)");
  EXPECT_EQ(Printable("\xE2\x80"), R"(\xe2\x80)");  // cut short
}

TEST(PrintableTest, WhatIsPrintableDoesNotChangeAgain) {
  const std::string once = Printable("a\n\xFF\xE2\x80\xAE\\");
  EXPECT_EQ(Printable(once), once);
}

TEST(PrintableTest, OptionsKeepControlsAndQuote) {
  EXPECT_EQ(Printable("a\n\tb\x1b", {.keep = "\n\t"}), "a\n\tb\\x1b");
  EXPECT_EQ(Printable("a\"\\", {.with_backslash = "\"\\"}), R"(a\"\\)");
}

TEST(PrintableTest, PrefixesEndBetweenCharacters) {
  EXPECT_EQ(PrintablePrefix("äöü", 3), "ä…");
  EXPECT_EQ(PrintablePrefix("äöü", 6), "äöü");
  EXPECT_EQ(PrintablePrefix("ä", 1), "…");
}

TEST(PrintableTest, QuotedTextGetsTheEscapesOfItsLanguage) {
  const std::string text = "{\n  \"k\": \"\xC2\x9B\xE2\x80\xAE" + Utf8(0xE0041) + "ä\x7f\"\n}";
  EXPECT_EQ(PrintableQuoted(text, Notation::kJson),
            "{\n  \"k\": \"\\u009b\\u202e\\udb40\\udc41ä\\u007f\"\n}");
  EXPECT_EQ(PrintableQuoted(text, Notation::kYaml),
            "{\n  \"k\": \"\\u009b\\u202e\\U000e0041ä\\u007f\"\n}");
}

TEST(PrintableTest, TextThatIsNotUtf8IsLatin1) {
  EXPECT_EQ(AsUtf8("us\xE9r"), "us\xC3\xA9r");
  EXPECT_EQ(AsUtf8("us\xC3\xA9r"), "us\xC3\xA9r");
  EXPECT_EQ(AsUtf8("\xC3\xA9 \xE9"), "\xC3\x83\xC2\xA9 \xC3\xA9") << "one encoding for all of it";
  EXPECT_EQ(AsUtf8(""), "");
}

}  // namespace
}  // namespace espalier::base
