#include "common/io/gzip.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdio>
#include <string>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/io/atomic_file.h"

namespace espalier::io {
namespace {

std::string Compress(const std::string& content) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, content.size()) + 64, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// `size` bytes that compress to about half.
std::string SomeContent(size_t size) {
  base::Rng rng(3);
  std::string content(size, '\0');
  for (char& byte : content) {
    byte = static_cast<char>('a' + rng.Below(16));
  }
  return content;
}

absl::StatusOr<std::string> ReadBack(const std::string& bytes, uint64_t max_bytes) {
  const std::string path =
      ::testing::TempDir() + "/espalier_gzip_" + std::to_string(getpid()) + ".bin";
  EXPECT_TRUE(WriteAtomically(PosixFileSystem(), path, bytes).ok());
  auto content = ReadFileMaybeGzip(path, max_bytes);
  std::remove(path.c_str());
  return content;
}

TEST(GzipTest, PlainAndCompressedFilesGiveTheSameContent) {
  const std::string content = SomeContent(1'000'000);
  EXPECT_EQ(ReadBack(content, content.size()).value(), content);
  EXPECT_EQ(ReadBack(Compress(content), content.size()).value(), content);
  EXPECT_EQ(ReadBack("", 0).value(), "");
  EXPECT_EQ(ReadBack(Compress(""), 0).value(), "");
}

TEST(GzipTest, MembersInARowAreOneContent) {
  const std::string content = SomeContent(300'000);
  EXPECT_EQ(ReadBack(Compress(content) + Compress("tail"), 1'000'000).value(), content + "tail");
}

TEST(GzipTest, ContentBeyondTheLimitIsRefused) {
  const std::string zeros(10'000'000, '\0');
  EXPECT_EQ(base::ReasonOf(ReadBack(Compress(zeros), zeros.size() - 1).status()), "FILE_TOO_LARGE");
  EXPECT_EQ(base::ReasonOf(ReadBack("hello", 4).status()), "FILE_TOO_LARGE");
}

TEST(GzipTest, EveryTruncationIsRefused) {
  const std::string packed = Compress(SomeContent(200));
  for (size_t size = 2; size < packed.size(); ++size) {
    EXPECT_EQ(base::ReasonOf(ReadBack(packed.substr(0, size), 1000).status()), "GZIP_CORRUPT")
        << size;
  }
}

TEST(GzipTest, DamageAndTrailingBytesAreRefused) {
  std::string packed = Compress(SomeContent(200));
  EXPECT_EQ(base::ReasonOf(ReadBack(packed + "x", 1000).status()), "GZIP_CORRUPT");
  packed[packed.size() - 6] = static_cast<char>(packed[packed.size() - 6] ^ 1);
  EXPECT_EQ(base::ReasonOf(ReadBack(packed, 1000).status()), "GZIP_CORRUPT");
}

TEST(GzipTest, MissingFileIsNotFound) {
  EXPECT_EQ(ReadFileMaybeGzip("/nonexistent/file", 10).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace espalier::io
