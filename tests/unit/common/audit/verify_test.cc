#include "common/audit/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/base/status.h"

namespace espalier::audit {
namespace {

using ::testing::HasSubstr;

// A log of `kEntries` entries in two files, the second of which begins with a life of its own.
constexpr uint64_t kEntries = 6;
constexpr uint64_t kSecondFile = 4;

class AuditVerifyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "/espalier_audit_" + std::to_string(getpid()) + "_" +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    MakeLines(0);
    Write(lines_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  // The second file says that `torn` bytes follow the entries of the first.
  void MakeLines(uint64_t torn) {
    lines_.clear();
    heads_.clear();
    std::string prev = FirstPrev();
    for (uint64_t seq = 1; seq <= kEntries; ++seq) {
      Record record;
      record.seq = seq;
      record.entry.time = absl::FromUnixSeconds(1'764'581'400 + static_cast<int64_t>(seq));
      record.entry.caller = "user-" + std::to_string(seq);
      record.entry.call = "CreateJob";
      record.entry.outcome = "ok";
      if (seq == kSecondFile) {
        record.entry.call = std::string(kBegin);
        record.note = NoteOf({FileName(1), BytesOf(lines_), torn});
      }
      record.prev = prev;
      lines_.push_back(LineOf(record));
      prev = record.hash;
      heads_.push_back({seq, record.hash});
    }
  }

  static uint64_t BytesOf(const std::vector<std::string>& lines) {
    uint64_t bytes = 0;
    for (const std::string& line : lines) bytes += line.size();
    return bytes;
  }

  std::string Path(uint64_t first) const { return folder_ + "/" + FileName(first); }
  void WriteFile(uint64_t first, const std::string& bytes) const {
    std::ofstream(Path(first), std::ios::binary) << bytes;
  }
  static std::string Joined(const std::vector<std::string>& lines, size_t from, size_t to) {
    std::string all;
    for (size_t i = from; i < to; ++i) all += lines[i];
    return all;
  }
  void Write(const std::vector<std::string>& lines) const {
    WriteFile(1, Joined(lines, 0, kSecondFile - 1));
    WriteFile(kSecondFile, Joined(lines, kSecondFile - 1, lines.size()));
  }

  Findings Look(const std::vector<Head>& heads = {}) {
    const auto files = FilesOf(io::PosixFileSystem(), {folder_});
    EXPECT_TRUE(files.ok()) << files.status();
    const auto findings = Verify(io::PosixFileSystem(), *files, heads);
    EXPECT_TRUE(findings.ok()) << findings.status();
    return *findings;
  }
  static std::string Texts(const Findings& findings) {
    std::ostringstream all;
    for (const Problem& problem : findings.problems) {
      all << std::filesystem::path(problem.file).filename().string() << ":" << problem.line
          << " entry " << problem.seq << " " << problem.text << "\n";
    }
    return all.str();
  }

  std::string folder_;
  std::vector<std::string> lines_;
  std::vector<Head> heads_;
};

TEST_F(AuditVerifyTest, ALogAsItWasWrittenIsSaidToBeSo) {
  const Findings findings = Look(heads_);
  EXPECT_EQ(Texts(findings), "");
  EXPECT_EQ(findings.entries, kEntries);
  EXPECT_EQ(findings.first_seq, 1u);
  EXPECT_EQ(findings.first_prev, FirstPrev());
  EXPECT_EQ(ToText(findings.head), ToText(heads_.back()));
  EXPECT_EQ(findings.last_time - findings.first_time, absl::Seconds(kEntries - 1));
  EXPECT_TRUE(findings.notes.empty());
}

TEST_F(AuditVerifyTest, EveryByteThatIsChangedIsFound) {
  for (const uint64_t first : {uint64_t{1}, kSecondFile}) {
    const std::string bytes =
        first == 1 ? Joined(lines_, 0, kSecondFile - 1) : Joined(lines_, kSecondFile - 1, kEntries);
    for (size_t i = 0; i < bytes.size(); ++i) {
      std::string changed = bytes;
      changed[i] = static_cast<char>(changed[i] ^ 1);
      WriteFile(first, changed);
      const Findings findings = Look();
      ASSERT_GT(findings.problems_in_all, 0u) << "byte " << i << " of " << FileName(first);
      ASSERT_EQ(findings.problems[0].file, Path(first));
      const auto line = 1 + std::count(bytes.begin(), bytes.begin() + static_cast<long>(i), '\n');
      ASSERT_EQ(findings.problems[0].line, line) << Texts(findings);
    }
    WriteFile(first, bytes);
  }
}

TEST_F(AuditVerifyTest, EveryEntryThatIsRemovedIsFound) {
  for (size_t i = 0; i < kEntries; ++i) {
    std::vector<std::string> lines = lines_;
    lines[i].clear();
    Write(lines);
    // The end is what only a head tells.
    const Findings findings = Look({heads_.back()});
    ASSERT_GT(findings.problems_in_all, 0u) << "entry " << i + 1;
    EXPECT_THAT(Texts(findings), HasSubstr(i + 1 == kEntries ? "its end was cut off" : "removed"))
        << "entry " << i + 1;
  }
}

TEST_F(AuditVerifyTest, EntriesInAnotherOrderOrTwiceAreFound) {
  for (size_t i = 0; i < kEntries; ++i) {
    for (size_t j = 0; j < kEntries; ++j) {
      std::vector<std::string> lines = lines_;
      if (i < j) {
        std::swap(lines[i], lines[j]);
      } else {
        lines[i] += lines_[j];
      }
      Write(lines);
      const Findings findings = Look();
      ASSERT_GT(findings.problems_in_all, 0u) << i << " " << j;
      // Where another file follows, it says where the one before ends.
      const bool after_the_end = i + 1 == kSecondFile - 1 && i >= j;
      ASSERT_THAT(Texts(findings),
                  HasSubstr(after_the_end ? "they were added" : "not in its place"))
          << i << " " << j;
    }
  }
}

TEST_F(AuditVerifyTest, AChangedEntryIsNamedAloneWhereItIs) {
  std::vector<std::string> lines = lines_;
  lines[2].replace(lines[2].find("user-3"), 6, "user-4");
  Write(lines);
  const Findings findings = Look(heads_);
  EXPECT_THAT(Texts(findings),
              testing::StartsWith("0000000001.jsonl:3 entry 3 expected the entry with the hash"));
  // The other one is the head of that entry, which is not there as it was.
  EXPECT_EQ(findings.problems_in_all, 2u) << Texts(findings);
  EXPECT_EQ(findings.entries, kEntries - 1);
}

TEST_F(AuditVerifyTest, AChainThatIsMadeAnewIsFoundByAHead) {
  std::string prev = FirstPrev();
  std::vector<std::string> lines;
  for (const std::string& line : lines_) {
    Record record = *ReadLine(line.substr(0, line.size() - 1));
    if (record.seq == 3) record.entry.caller = "user-9";
    record.prev = prev;
    lines.push_back(LineOf(record));
    prev = record.hash;
  }
  Write(lines);
  EXPECT_EQ(Texts(Look({heads_[1]})), "");
  EXPECT_THAT(Texts(Look({heads_[3]})), HasSubstr("made anew"));
}

TEST_F(AuditVerifyTest, MissingFilesAreFoundBetweenOthersAndBeforeAHead) {
  std::filesystem::remove(Path(1));
  const Findings findings = Look({heads_.back()});
  EXPECT_EQ(Texts(findings), "");
  EXPECT_EQ(findings.first_seq, kSecondFile);
  EXPECT_EQ(findings.first_prev, heads_[kSecondFile - 2].hash);
  EXPECT_THAT(Texts(Look({heads_[0]})), HasSubstr("add older files"));
  WriteFile(1, "");
  EXPECT_THAT(Texts(Look()), HasSubstr("empty file"));
  WriteFile(2, lines_[1]);
  std::filesystem::remove(Path(1));
  EXPECT_THAT(Texts(Look()), HasSubstr("entry 3 removed"));
}

TEST_F(AuditVerifyTest, ALineInTheMiddleOfBeingWrittenIsNoFault) {
  const std::string last = lines_.back();
  for (size_t bytes = 1; bytes < last.size(); ++bytes) {
    std::vector<std::string> lines = lines_;
    lines.back() = last.substr(0, bytes);
    Write(lines);
    const Findings findings = Look({heads_[kEntries - 2]});
    ASSERT_EQ(Texts(findings), "") << bytes;
    ASSERT_EQ(findings.notes.size(), 1u) << bytes;
    ASSERT_EQ(findings.entries, kEntries - 1);
  }
  std::vector<std::string> lines = lines_;
  lines.back() = "else";
  Write(lines);
  EXPECT_THAT(Texts(Look()), HasSubstr("the end of the file was changed"));
}

TEST_F(AuditVerifyTest, WhatTheNextFileSaysWasTornDoesNotCount) {
  MakeLines(30);
  Write(lines_);
  const std::string entries = Joined(lines_, 0, kSecondFile - 1);
  WriteFile(1, entries + lines_[0].substr(0, 30));
  const Findings findings = Look(heads_);
  EXPECT_EQ(Texts(findings), "");
  EXPECT_THAT(findings.notes, testing::ElementsAre(HasSubstr("30 bytes at the end")));
  // A crash of the machine may take what was not synced.
  WriteFile(1, entries);
  EXPECT_EQ(Texts(Look(heads_)), "");
  WriteFile(1, entries + lines_[0].substr(0, 31));
  EXPECT_THAT(Texts(Look(heads_)), HasSubstr("1 more bytes"));
}

TEST_F(AuditVerifyTest, AFileWithoutLinesNeedsNoMemoryOfItsSize) {
  WriteFile(kSecondFile, std::string(10 * kMaxLineBytes, 'x'));
  const Findings findings = Look();
  EXPECT_EQ(findings.problems_in_all, 10u);
  EXPECT_EQ(findings.entries, kSecondFile - 1);
}

TEST_F(AuditVerifyTest, FilesThatAreNotTheLogsAreRefusedOrPassedOver) {
  std::ofstream(folder_ + "/0000000009.jsonl.tmp") << "x";
  EXPECT_EQ(Texts(Look()), "");
  io::FileSystem& files = io::PosixFileSystem();
  EXPECT_EQ(base::ReasonOf(FilesOf(files, {folder_ + "/copy.jsonl"}).status()), "AUDIT_FILE_NAME");
  EXPECT_EQ(base::ReasonOf(FilesOf(files, {::testing::TempDir()}).status()), "AUDIT_LOG_NOT_FOUND");
  EXPECT_EQ(FilesOf(files, {Path(kSecondFile), Path(1)})->front(), Path(1));
}

}  // namespace
}  // namespace espalier::audit
