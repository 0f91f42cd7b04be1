#include "client/lib/download.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/base/status.h"
#include "common/io/crc32c.h"

namespace espalier::client {
namespace {

class PartFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string folder =
        (std::filesystem::temp_directory_path() / "part-file-test-XXXXXX").string();
    ASSERT_NE(mkdtemp(folder.data()), nullptr);
    folder_ = folder;
    path_ = (folder_ / "model").string();
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  static v1::Chunk ChunkAt(uint64_t offset, const std::string& data) {
    v1::Chunk chunk;
    chunk.set_offset(offset);
    chunk.set_data(data);
    chunk.set_crc32c(io::Crc32c(data));
    return chunk;
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
  }

  std::filesystem::path folder_;
  std::string path_;
};

TEST_F(PartFileTest, CompleteDownloadAppearsUnderItsName) {
  auto part = PartFile::Open(path_, 6);
  ASSERT_TRUE(part.ok());
  EXPECT_TRUE(part->Append(ChunkAt(0, "abc")).ok());
  EXPECT_FALSE(std::filesystem::exists(path_));
  EXPECT_TRUE(part->Append(ChunkAt(3, "def")).ok());
  EXPECT_TRUE(part->Finish(io::Sha256Hex("abcdef")).ok());
  EXPECT_EQ(Read(path_), "abcdef");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".part"));
}

TEST_F(PartFileTest, InterruptedDownloadIsContinued) {
  {
    auto part = PartFile::Open(path_, 6);
    ASSERT_TRUE(part.ok());
    ASSERT_TRUE(part->Append(ChunkAt(0, "abcd")).ok());
  }
  auto part = PartFile::Open(path_, 6);
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(part->offset(), 4u);
  EXPECT_TRUE(part->Append(ChunkAt(4, "ef")).ok());
  EXPECT_TRUE(part->Finish(io::Sha256Hex("abcdef")).ok());
  EXPECT_EQ(Read(path_), "abcdef");
}

TEST_F(PartFileTest, LeftoverLongerThanTheFileIsStartedAnew) {
  std::ofstream(path_ + ".part") << "something else entirely";
  auto part = PartFile::Open(path_, 3);
  ASSERT_TRUE(part.ok());
  EXPECT_EQ(part->offset(), 0u);
  EXPECT_TRUE(part->Append(ChunkAt(0, "abc")).ok());
  EXPECT_TRUE(part->Finish(io::Sha256Hex("abc")).ok());
}

TEST_F(PartFileTest, LeftoverOfAnotherFileIsFoundOutAndRemoved) {
  std::ofstream(path_ + ".part") << "xx";
  auto part = PartFile::Open(path_, 3);
  ASSERT_TRUE(part.ok());
  ASSERT_TRUE(part->Append(ChunkAt(2, "c")).ok());
  const absl::Status status = part->Finish(io::Sha256Hex("abc"));
  EXPECT_EQ(base::ReasonOf(status), "CHECKSUM_MISMATCH");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".part"));
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(PartFileTest, DamagedMisplacedAndSurplusBytesAreRefused) {
  auto part = PartFile::Open(path_, 3);
  ASSERT_TRUE(part.ok());
  v1::Chunk damaged = ChunkAt(0, "abc");
  damaged.set_data("abd");
  EXPECT_EQ(base::ReasonOf(part->Append(damaged)), "CHECKSUM_MISMATCH");
  EXPECT_EQ(base::ReasonOf(part->Append(ChunkAt(1, "bc"))), "OFFSET_MISMATCH");
  EXPECT_EQ(base::ReasonOf(part->Append(ChunkAt(0, "abcd"))), "SIZE_MISMATCH");
  EXPECT_TRUE(part->Append(ChunkAt(0, "ab")).ok());
  EXPECT_EQ(base::ReasonOf(part->Finish(io::Sha256Hex("ab"))), "SIZE_MISMATCH");
}

TEST_F(PartFileTest, UnwritableFolderIsExplained) {
  const auto part = PartFile::Open((folder_ / "missing" / "model").string(), 3);
  EXPECT_EQ(base::ReasonOf(part.status()), "FILE_UNWRITABLE");
}

}  // namespace
}  // namespace espalier::client
