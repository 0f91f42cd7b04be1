#include "common/wire/blob.h"

#include <gtest/gtest.h>

#include <string>

#include "common/base/status.h"
#include "common/io/sha256.h"

namespace espalier::wire {
namespace {

class BlobTest : public ::testing::Test {
 protected:
  BlobAssembler Assembler(uint64_t size) {
    return BlobAssembler(size, io::Sha256Hex(blob_), [this](std::string_view data) {
      received_ += data;
      return absl::OkStatus();
    });
  }

  const std::string blob_ = std::string(600, 'a') + std::string(400, 'b');
  std::string received_;
};

TEST_F(BlobTest, ChunksGiveBackTheBlob) {
  BlobAssembler assembler = Assembler(blob_.size());
  while (!assembler.complete()) {
    ASSERT_TRUE(assembler.Add(ChunkAt(blob_, assembler.received(), 300)).ok());
  }
  EXPECT_TRUE(assembler.Finish().ok());
  EXPECT_EQ(received_, blob_);
}

TEST_F(BlobTest, EmptyBlobHasNoChunks) {
  BlobAssembler assembler(0, io::Sha256Hex(""), [](std::string_view) { return absl::OkStatus(); });
  EXPECT_TRUE(assembler.complete());
  EXPECT_EQ(base::ReasonOf(assembler.Add(MakeChunk(0, ""))), "CHUNK_OUT_OF_ORDER");
  EXPECT_TRUE(assembler.Finish().ok());
}

TEST_F(BlobTest, CorruptChunkIsRefusedAndMayBeSentAgain) {
  BlobAssembler assembler = Assembler(blob_.size());
  v1::Chunk chunk = ChunkAt(blob_, 0, 300);
  (*chunk.mutable_data())[17] ^= 4;
  const absl::Status status = assembler.Add(chunk);
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(base::ReasonOf(status), "CHUNK_CORRUPT");
  EXPECT_EQ(assembler.received(), 0u);
  EXPECT_TRUE(assembler.Add(ChunkAt(blob_, 0, 1000)).ok());
  EXPECT_TRUE(assembler.Finish().ok());
}

TEST_F(BlobTest, GapsAndRepetitionsAreRefused) {
  BlobAssembler assembler = Assembler(blob_.size());
  ASSERT_TRUE(assembler.Add(ChunkAt(blob_, 0, 300)).ok());
  EXPECT_EQ(base::ReasonOf(assembler.Add(ChunkAt(blob_, 0, 300))), "CHUNK_OUT_OF_ORDER");
  EXPECT_EQ(base::ReasonOf(assembler.Add(ChunkAt(blob_, 301, 300))), "CHUNK_OUT_OF_ORDER");
  EXPECT_EQ(received_.size(), 300u);
}

TEST_F(BlobTest, MoreOrLessThanDeclaredIsRefused) {
  BlobAssembler small = Assembler(999);
  EXPECT_EQ(base::ReasonOf(small.Add(ChunkAt(blob_, 0, 1000))), "BLOB_SIZE_MISMATCH");
  EXPECT_EQ(received_, "");
  BlobAssembler large = Assembler(1001);
  ASSERT_TRUE(large.Add(ChunkAt(blob_, 0, 1000)).ok());
  EXPECT_EQ(base::ReasonOf(large.Finish()), "BLOB_SIZE_MISMATCH");
}

TEST_F(BlobTest, OtherContentOfTheSameSizeIsRefused) {
  BlobAssembler assembler = Assembler(blob_.size());
  ASSERT_TRUE(assembler.Add(MakeChunk(0, std::string(1000, 'c'))).ok());
  EXPECT_EQ(base::ReasonOf(assembler.Finish()), "BLOB_DIGEST_MISMATCH");
  EXPECT_TRUE(CheckBlob(blob_, 1000, io::Sha256Hex(blob_)).ok());
  EXPECT_EQ(base::ReasonOf(CheckBlob(blob_, 1000, io::Sha256Hex("x"))), "BLOB_DIGEST_MISMATCH");
  EXPECT_EQ(base::ReasonOf(CheckBlob(blob_, 999, io::Sha256Hex(blob_))), "BLOB_SIZE_MISMATCH");
}

TEST_F(BlobTest, ErrorOfTheSinkIsReported) {
  BlobAssembler assembler(5, io::Sha256Hex("hello"), [](std::string_view) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL", "full");
  });
  EXPECT_EQ(base::ReasonOf(assembler.Add(MakeChunk(0, "hello"))), "STORAGE_FULL");
}

}  // namespace
}  // namespace espalier::wire
