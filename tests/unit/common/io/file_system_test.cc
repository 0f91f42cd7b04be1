#include "common/io/file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/spool_file.h"

namespace espalier::io {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A folder of its own for each test.
class FilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    directory_ =
        ::testing::TempDir() + "/espalier_io_" + std::to_string(getpid()) + "_" + info->name();
    std::filesystem::remove_all(directory_);
    ASSERT_TRUE(files_.CreateDirectories(directory_).ok());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  std::string Content(const std::string& name) {
    return ReadFile(files_, Path(name), 1 << 20).value_or("<unreadable>");
  }
  std::vector<std::string> Names() { return files_.List(directory_).value(); }

  FileSystem& files_ = PosixFileSystem();
  std::string directory_;
};

using FileSystemTest = FilesTest;
using AtomicFileTest = FilesTest;
using SpoolFileTest = FilesTest;

TEST_F(FileSystemTest, MissingFileIsNotFound) {
  const auto file = files_.Open(Path("none"));
  EXPECT_EQ(file.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(file.status()), "FILE_NOT_FOUND");
}

TEST_F(FileSystemTest, DirectoriesAndPipesAreNotFiles) {
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(base::ReasonOf(files_.Open(Path("pipe")).status()), "NOT_A_FILE");
  EXPECT_EQ(base::ReasonOf(files_.Open(directory_).status()), "NOT_A_FILE");
}

TEST_F(FileSystemTest, SymbolicLinksAreNotFollowed) {
  ASSERT_TRUE(WriteAtomically(files_, Path("target"), "secret").ok());
  ASSERT_EQ(symlink(Path("target").c_str(), Path("link").c_str()), 0);
  EXPECT_EQ(base::ReasonOf(files_.Open(Path("link")).status()), "FILE_ACCESS");
  EXPECT_EQ(base::ReasonOf(files_.Create(Path("link")).status()), "FILE_ACCESS");
  EXPECT_EQ(Content("target"), "secret");
}

TEST_F(FileSystemTest, ReadingPastTheEndIsAnError) {
  ASSERT_TRUE(WriteAtomically(files_, Path("a"), "hello").ok());
  const auto file = files_.Open(Path("a")).value();
  char out[8];
  EXPECT_EQ(file->size(), 5u);
  EXPECT_TRUE(file->ReadAt(1, out, 4).ok());
  EXPECT_EQ(std::string(out, 4), "ello");
  EXPECT_EQ(base::ReasonOf(file->ReadAt(1, out, 5)), "FILE_TRUNCATED");
}

TEST_F(FileSystemTest, LargerFilesThanAllowedAreNotRead) {
  ASSERT_TRUE(WriteAtomically(files_, Path("a"), "hello").ok());
  EXPECT_EQ(ReadFile(files_, Path("a"), 5).value(), "hello");
  EXPECT_EQ(base::ReasonOf(ReadFile(files_, Path("a"), 4).status()), "FILE_TOO_LARGE");
}

TEST_F(FileSystemTest, OpenFileStaysReadableAfterRemoval) {
  ASSERT_TRUE(WriteAtomically(files_, Path("a"), "hello").ok());
  const auto file = files_.Open(Path("a")).value();
  ASSERT_TRUE(files_.Remove(Path("a")).ok());
  char out[5];
  EXPECT_TRUE(file->ReadAt(0, out, 5).ok());
  EXPECT_THAT(Names(), IsEmpty());
}

TEST_F(FileSystemTest, DirectoriesAreMadeWithParentsAndTwice) {
  EXPECT_TRUE(files_.CreateDirectories(Path("x/y/z")).ok());
  EXPECT_TRUE(files_.CreateDirectories(Path("x/y/z/")).ok());
  ASSERT_TRUE(WriteAtomically(files_, Path("x/file"), "").ok());
  EXPECT_FALSE(files_.CreateDirectories(Path("x/file")).ok());
  EXPECT_FALSE(files_.CreateDirectories(Path("x/file/below")).ok());
}

TEST_F(AtomicFileTest, ContentAppearsOnCommitOnly) {
  ASSERT_TRUE(WriteAtomically(files_, Path("a"), "old").ok());
  {
    AtomicFile file = AtomicFile::Create(files_, Path("a")).value();
    ASSERT_TRUE(file.Append("new").ok());
    ASSERT_TRUE(file.Finish().ok());
    EXPECT_EQ(Content("a"), "old");
    EXPECT_EQ(ReadFile(files_, file.temporary_path(), 10).value(), "new");
    ASSERT_TRUE(file.Commit().ok());
  }
  EXPECT_EQ(Content("a"), "new");
  EXPECT_THAT(Names(), ElementsAre("a"));
}

TEST_F(AtomicFileTest, AbandonedFileLeavesNothing) {
  {
    AtomicFile file = AtomicFile::Create(files_, Path("a")).value();
    ASSERT_TRUE(file.Append("new").ok());
    AtomicFile moved = std::move(file);
    EXPECT_THAT(Names(), ElementsAre("a.tmp"));
  }
  EXPECT_THAT(Names(), IsEmpty());
}

TEST(DirectoryOfTest, IsThePartBeforeTheLastSlash) {
  EXPECT_EQ(DirectoryOf("a/b/c"), "a/b");
  EXPECT_EQ(DirectoryOf("/c"), "/");
  EXPECT_EQ(DirectoryOf("c"), ".");
}

TEST_F(SpoolFileTest, BlocksGiveBackWhatWasAppended) {
  auto spool = SpoolFile::Create(files_, Path("spool")).value();
  std::string all;
  for (int i = 0; i < 7; ++i) {
    const std::string piece(100'000, static_cast<char>('a' + i));
    ASSERT_TRUE(spool->Append(piece).ok());
    all += piece;
  }
  EXPECT_EQ(spool->size(), all.size());
  std::string back;
  size_t largest = 0;
  ASSERT_TRUE(spool
                  ->ForEachBlock(5, all.size() - 5,
                                 [&](std::string_view block) {
                                   largest = std::max(largest, block.size());
                                   back += block;
                                   return absl::OkStatus();
                                 })
                  .ok());
  EXPECT_EQ(back, all.substr(5));
  EXPECT_EQ(largest, SpoolFile::kBlockBytes);
}

TEST_F(SpoolFileTest, RangesBeyondTheEndAreRefused) {
  auto spool = SpoolFile::Create(files_, Path("spool")).value();
  ASSERT_TRUE(spool->Append("seventeen letters").ok());
  const auto read = [&](uint64_t offset, uint64_t size) {
    return base::ReasonOf(
        spool->ForEachBlock(offset, size, [](std::string_view) { return absl::OkStatus(); }));
  };
  EXPECT_EQ(read(5, 12), "");
  EXPECT_EQ(read(5, 13), "FILE_TRUNCATED");
  EXPECT_EQ(read(18, 0), "FILE_TRUNCATED");
  EXPECT_EQ(read(1, std::numeric_limits<uint64_t>::max()), "FILE_TRUNCATED");
}

TEST_F(SpoolFileTest, ErrorOfTheSinkStopsReading) {
  auto spool = SpoolFile::Create(files_, Path("spool")).value();
  ASSERT_TRUE(spool->Append(std::string(600'000, 'x')).ok());
  int calls = 0;
  const absl::Status status = spool->ForEachBlock(0, spool->size(), [&](std::string_view) {
    ++calls;
    return base::InvalidArgument("ENOUGH", "enough");
  });
  EXPECT_EQ(base::ReasonOf(status), "ENOUGH");
  EXPECT_EQ(calls, 1);
}

TEST_F(SpoolFileTest, FileGoesWithTheObject) {
  auto spool = SpoolFile::Create(files_, Path("spool")).value();
  EXPECT_THAT(Names(), ElementsAre("spool"));
  spool.reset();
  EXPECT_THAT(Names(), IsEmpty());
}

}  // namespace
}  // namespace espalier::io
