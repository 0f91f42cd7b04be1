#include "common/audit/entry.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/io/sha256.h"

namespace espalier::audit {
namespace {

Record SomeRecord() {
  Record record;
  record.seq = 7;
  record.entry = {absl::FromUnixMicros(1'764'581'400'123'456),
                  "ada",
                  "submitter",
                  "certificate:4f2a",
                  "10.0.0.5:41234",
                  "CreateJob",
                  "jobs/a",
                  "ok"};
  record.prev = FirstPrev();
  return record;
}

TEST(AuditEntryTest, TheLineIsJsonWhoseHashAnybodyCanCompute) {
  Record record = SomeRecord();
  const std::string object =
      R"({"seq":7,"time":"2025-12-01T09:30:00.123456Z","caller":"ada","role":"submitter",)"
      R"("source":"certificate:4f2a","from":"10.0.0.5:41234","call":"CreateJob",)"
      R"("object":"jobs/a","outcome":"ok","prev":")" +
      std::string(64, '0') + R"("})";
  const std::string hash = io::Sha256Hex(object);
  EXPECT_EQ(LineOf(record), object.substr(0, object.size() - 1) + R"(,"hash":")" + hash + "\"}\n");
  EXPECT_EQ(record.hash, hash);
}

TEST(AuditEntryTest, HostileTextIsOneVisibleLineAndReadsBack) {
  Record record = SomeRecord();
  record.entry.caller = "a\"}\n{\"seq\":8,\xff\x1b[2J\u202e\\ \xc3\xa9";
  record.entry.object = std::string(100'000, '\x01');
  record.entry = Bounded(record.entry);
  std::string line = LineOf(record);
  ASSERT_LE(line.size(), kMaxLineBytes);
  ASSERT_EQ(line.find('\n'), line.size() - 1);
  line.pop_back();
  const auto again = ReadLine(line);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->entry.caller, "a\"}\\n{\"seq\":8,\\xff\\x1b[2J\\u202e\\ \xc3\xa9");
  EXPECT_EQ(again->hash, record.hash);
  EXPECT_EQ(HashOf(line), record.hash);
}

TEST(AuditEntryTest, ThereIsOneLineForAnEntry) {
  Record record = SomeRecord();
  std::string line = LineOf(record);
  line.pop_back();
  ASSERT_TRUE(ReadLine(line).ok());
  const auto with = [&line](const std::string& from, const std::string& to) {
    std::string changed = line;
    return changed.replace(changed.find(from), from.size(), to);
  };
  for (const std::string& other :
       {with("\"seq\":7", "\"seq\":07"), with("\"seq\":7", "\"seq\": 7"), with("123456Z", "123Z"),
        with("00.123456Z", "00.123456+00:00"), with("ada", "a\\da"), with("ada", "a\tda"),
        with("\"role\"", "\"rule\""), with(",\"prev\"", ",\"note\":\"\",\"prev\""),
        with("\"seq\":7", "\"seq\":18446744073709551615"), with("\"ok\"", "\"ok"), line + " ",
        line + "}", std::string(), std::string("{"), line.substr(0, line.size() - 1)}) {
    EXPECT_EQ(base::ReasonOf(ReadLine(other).status()), "AUDIT_LINE_INVALID") << other;
  }
}

TEST(AuditEntryTest, NamesHeadsAndNotesReadBack) {
  EXPECT_EQ(FileName(7), "0000000007.jsonl");
  EXPECT_EQ(ParseFileName(FileName(123'456'789'012)), 123'456'789'012);
  for (const char* name :
       {"7.jsonl", "0000000000.jsonl", "0000000007.jsonl.tmp", "0000000007", ""}) {
    EXPECT_EQ(ParseFileName(name), std::nullopt) << name;
  }
  const Head head{7, io::Sha256Hex("x")};
  EXPECT_EQ(ParseHead(ToText(head))->hash, head.hash);
  for (const std::string& text : {std::string("7"), "07:" + head.hash, "0:" + head.hash,
                                  "7:" + head.hash.substr(1), head.hash, std::string()}) {
    EXPECT_EQ(base::ReasonOf(ParseHead(text).status()), "AUDIT_HEAD_INVALID") << text;
  }
  const auto former = ParseNote(NoteOf({FileName(3), 1234, 5}));
  ASSERT_TRUE(former.has_value());
  EXPECT_EQ(former->file, FileName(3));
  EXPECT_EQ(former->kept, 1234u);
  EXPECT_EQ(ParseNote("file=x kept=1 torn=0"), std::nullopt);
  EXPECT_EQ(ParseNote("count=3"), std::nullopt);
}

}  // namespace
}  // namespace espalier::audit
