#include "worker/data/table/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Record {
  int64_t line;
  std::vector<std::string> cells;

  bool operator==(const Record&) const = default;
};

void PrintTo(const Record& record, std::ostream* out) {
  *out << record.line << ":";
  for (const std::string& cell : record.cells) *out << " [" << cell << "]";
}

struct Table {
  absl::Status status;
  std::vector<Record> records;
  char delimiter = '\0';
};

Table Read(const std::string& bytes, char delimiter = kFindDelimiter) {
  const DataFolder folder;
  folder.Write("x/t.csv", bytes);
  const DataRoot root = DataRoot::Open(folder.path()).value();
  ByteStream stream =
      ByteStream::Open(root.OpenFile("x", "t.csv").value(), "x/t.csv", LoadOptions()).value();
  RecordReader reader(stream, delimiter);
  Table table;
  for (;;) {
    const absl::StatusOr<bool> more = reader.Next();
    table.status = more.status();
    table.delimiter = reader.delimiter();
    if (!more.ok() || !*more) return table;
    table.records.push_back({reader.line_number(), {reader.cells().begin(), reader.cells().end()}});
  }
}

std::vector<Record> Records(const std::string& bytes) {
  const Table table = Read(bytes);
  EXPECT_TRUE(table.status.ok()) << table.status;
  return table.records;
}

std::string Error(const std::string& bytes) {
  const Table table = Read(bytes);
  EXPECT_EQ(base::ReasonOf(table.status), "DATASET_INVALID");
  return base::MessageOf(table.status);
}

TEST(RecordsTest, LineEndsOfEverySystemAreOne) {
  for (const std::string end : {"\n", "\r\n", "\r"}) {
    EXPECT_THAT(Records(absl::StrCat("a,b", end, end, "1,2", end, " \t", end, "3,4")),
                ElementsAre(Record{1, {"a", "b"}}, Record{3, {"1", "2"}}, Record{5, {"3", "4"}}))
        << testing::PrintToString(end);
  }
}

TEST(RecordsTest, BlanksAroundCellsGoAndThoseInQuotesStay) {
  EXPECT_THAT(Records(" a b ,\t c,\" d \" ,\"\",\n"),
              ElementsAre(Record{1, {"a b", "c", " d ", "", ""}}));
}

TEST(RecordsTest, QuotesHoldDelimitersLineEndsAndQuotes) {
  EXPECT_THAT(
      Records("\"a,b\",\"he said \"\"no\"\"\",\"\"\"\"\n\"two\r\nlines\",\"and\rthree\",x\n1,2,3"),
      ElementsAre(Record{1, {"a,b", "he said \"no\"", "\""}},
                  Record{2, {"two\r\nlines", "and\rthree", "x"}}, Record{5, {"1", "2", "3"}}));
}

TEST(RecordsTest, AQuoteInsideOfAnUnquotedCellIsACharacter) {
  EXPECT_THAT(Records("5\" pipe,1\n"), ElementsAre(Record{1, {"5\" pipe", "1"}}));
}

TEST(RecordsTest, DelimitersAreFoundOutsideOfQuotes) {
  EXPECT_EQ(Read("a,b,c\n1,2,3\n").delimiter, ',');
  EXPECT_EQ(Read("a;b;c\n1;2;3\n").delimiter, ';');
  EXPECT_EQ(Read("a\tb\tc\n1\t2\t3\n").delimiter, '\t');
  EXPECT_EQ(Read("\"a,b,c,d\";x\n\"e,f,g,h\";y\n").delimiter, ';');
  EXPECT_EQ(Read("-1,614;0,435;1,5\n-1,5;0,25;2,5\n").delimiter, ';');
  EXPECT_EQ(Read("1,2,3,a;b\n4,5,6,c;d\n").delimiter, ',');
  EXPECT_EQ(Read("made in May; by hand\na,b\n1,2\n3,4\n").delimiter, ',');
  EXPECT_EQ(Read("title\twords\na, b, c\t1\nd\t2\ne, f\t3\n").delimiter, '\t');
  EXPECT_EQ(Read("17\n18\n").delimiter, ',');
}

TEST(RecordsTest, AGivenDelimiterDecides) {
  EXPECT_THAT(Read("a;b,c\n", ';').records, ElementsAre(Record{1, {"a", "b,c"}}));
  EXPECT_THAT(Read("1|2|3\n", '|').records, ElementsAre(Record{1, {"1", "2", "3"}}));
  EXPECT_THAT(Read("\ta\tb\n", '\t').records, ElementsAre(Record{1, {"", "a", "b"}}));
}

TEST(RecordsTest, TheSeparatorLineOfSpreadsheetsIsUnderstood) {
  const Table table = Read("\xEF\xBB\xBFsep=;\r\na;b,c\r\n1;2\r\n");
  EXPECT_THAT(table.records, ElementsAre(Record{2, {"a", "b,c"}}, Record{3, {"1", "2"}}));
  EXPECT_EQ(table.delimiter, ';');
  EXPECT_THAT(Records("\"SEP=,\"\nx,y\n"), ElementsAre(Record{2, {"x", "y"}}));
  EXPECT_THAT(Records("sep=9,1\n"), ElementsAre(Record{1, {"sep=9", "1"}}));
}

TEST(RecordsTest, AByteOrderMarkIsNoPartOfTheFirstCell) {
  EXPECT_THAT(Records("\xEF\xBB\xBF\"x\",y\n"), ElementsAre(Record{1, {"x", "y"}}));
  EXPECT_THAT(Records("\xEF\xBB\xBF"), IsEmpty());
}

TEST(RecordsTest, CellsThatAreNotUtf8AreLatin1) {
  EXPECT_THAT(Records("B\xe4r,L\xc3\xb6we,\"stra\xdf\"\"e\"\n1,\xff,3\n"),
              ElementsAre(Record{1, {"B\xc3\xa4r", "L\xc3\xb6we", "stra\xc3\x9f\"e"}},
                          Record{2, {"1", "\xc3\xbf", "3"}}));
}

std::string Utf16(std::string_view text, bool big_endian, int width = 2) {
  std::string bytes;
  for (const char c : text) {
    std::string unit(static_cast<size_t>(width), '\0');
    (big_endian ? unit.back() : unit.front()) = c;
    bytes += unit;
  }
  return bytes;
}

TEST(RecordsTest, OtherEncodingsAreNamed) {
  const std::string text = "x,y,kind\r\n1,2,0\r\n";
  EXPECT_THAT(Error("\xFF\xFE" + Utf16(text, false)),
              AllOf(HasSubstr("UTF-16"), HasSubstr("iconv")));
  EXPECT_THAT(Error("\xFE\xFF" + Utf16(text, true)), HasSubstr("UTF-16"));
  EXPECT_THAT(Error(Utf16(text, false)), HasSubstr("UTF-16"));
  EXPECT_THAT(Error(Utf16(text, true)), HasSubstr("UTF-16"));
  EXPECT_THAT(Error(Utf16(text, false, 4)), HasSubstr("UTF-32"));
  EXPECT_THAT(Error(Utf16(text, true, 4)), HasSubstr("UTF-32"));
  EXPECT_THAT(Error(std::string("\xFF\xFE\0\0", 4) + Utf16(text, false, 4)), HasSubstr("UTF-32"));
  EXPECT_THAT(Error(std::string("1,2\n3,\0004\n", 8)),
              AllOf(HasSubstr("line 2"), HasSubstr("zero byte")));
}

TEST(RecordsTest, AZeroByteFarInsideIsFoundOnItsLine) {
  std::string bytes;
  for (int i = 0; i < 200'000; ++i) bytes += "1,2\n";
  EXPECT_THAT(Error(bytes + std::string("1,\0\n", 4)), HasSubstr("line 200001"));
}

TEST(RecordsTest, WrongQuotesNameTheLineOnWhichTheRecordBegins) {
  EXPECT_THAT(Error("1,2\n1,\"cat\n3,4\n"), AllOf(HasSubstr("t.csv, line 2:"), HasSubstr("open")));
  EXPECT_THAT(Error("1,2\n\"cat\" dog,4\n"),
              AllOf(HasSubstr("line 2:"), HasSubstr("double quote")));
  EXPECT_THAT(Error("1,2\n1,\"cat\n3,\"dog\n4,5\n"), HasSubstr("line 2:"));
}

TEST(RecordsTest, AQuoteThatIsNeverClosedEndsSoon) {
  std::string bytes = "1,\"";
  while (bytes.size() < (size_t{40} << 20)) bytes += "0123456789abcde\n";
  EXPECT_THAT(Error(bytes), AllOf(HasSubstr("line 1"), HasSubstr("16777216 characters")));
}

// Whatever a piece of the file ends with, the cells are the same.
TEST(RecordsTest, RecordsAreWholeWhereverTheBufferEnds) {
  constexpr size_t kBuffer = size_t{256} * 1024;
  const std::string tail = "\"a\"\"b\r\nc\" ,d\r\ne, f \rg,h\n";
  for (size_t shift = 0; shift <= tail.size() + 2; ++shift) {
    const std::string filler(kBuffer - shift - 2, 'x');
    const std::vector<Record> records = Records(absl::StrCat(filler, ",1\n", tail));
    ASSERT_EQ(records.size(), 4u) << shift;
    EXPECT_EQ(records[0].cells, (std::vector<std::string>{filler, "1"})) << shift;
    EXPECT_EQ(records[1], (Record{2, {"a\"b\r\nc", "d"}})) << shift;
    EXPECT_EQ(records[2], (Record{4, {"e", "f"}})) << shift;
    EXPECT_EQ(records[3], (Record{5, {"g", "h"}})) << shift;
  }
}

TEST(RecordsTest, AnEmptyFileHasNoRecords) {
  EXPECT_THAT(Records(""), IsEmpty());
  EXPECT_THAT(Records("\n\r\n\r"), IsEmpty());
  EXPECT_THAT(Records("sep=;"), IsEmpty());
}

}  // namespace
}  // namespace espalier::worker::data
