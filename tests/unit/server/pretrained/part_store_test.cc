#include "server/pretrained/part_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "common/io/sha256.h"

namespace espalier::server::pretrained {
namespace {

namespace fs = std::filesystem;

class PartStoreTest : public testing::Test {
 protected:
  PartStoreTest() : folder_(fs::path(testing::TempDir()) / "part_store_test") {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~PartStoreTest() override { fs::remove_all(folder_); }
  PartStore NewStore() const { return PartStore(io::PosixFileSystem(), folder_.string()); }
  int64_t NumFiles() const {
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
  }

  const fs::path folder_;
};

TEST_F(PartStoreTest, FilesGoWithTheLastWhoHoldsThem) {
  PartStore store = NewStore();
  std::optional<Part> first = store.Put("bytes").value();
  std::optional<Part> again = store.Put("bytes").value();
  EXPECT_EQ(first->bytes(), "bytes");
  EXPECT_EQ(NumFiles(), 1);
  first.reset();
  EXPECT_EQ(again->bytes(), "bytes");
  EXPECT_EQ(store.Find(again->digest)->bytes(), "bytes");
  const std::string digest = again->digest;
  again.reset();
  EXPECT_EQ(NumFiles(), 0);
  EXPECT_EQ(base::ReasonOf(store.Find(digest).status()), "PART_MISSING");
  EXPECT_EQ(store.Put("bytes")->bytes(), "bytes");
}

TEST_F(PartStoreTest, PartsOutliveTheirStore) {
  std::optional<Part> part = NewStore().Put("bytes").value();
  EXPECT_EQ(part->bytes(), "bytes");
  part.reset();
  EXPECT_EQ(NumFiles(), 0);
}

TEST_F(PartStoreTest, ThreadsPutTheSamePartWhileOthersLetGoOfIt) {
  PartStore store = NewStore();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&store] {
        for (int j = 0; j < 100; ++j) {
          const absl::StatusOr<Part> part = store.Put("bytes");
          ASSERT_TRUE(part.ok()) << part.status();
          EXPECT_EQ(part->bytes(), "bytes");
        }
      });
    }
  }
  EXPECT_EQ(NumFiles(), 0);
}

TEST_F(PartStoreTest, AnotherProcessFindsWhatWasKept) {
  std::string digest;
  {
    PartStore store = NewStore();
    const Part part = store.Put("bytes").value();
    digest = part.digest;
    store.KeepFiles();
  }
  PartStore next = NewStore();
  EXPECT_EQ(next.Find(digest)->bytes(), "bytes");
}

TEST_F(PartStoreTest, OtherBytesUnderAPartsNameAreRefused) {
  std::string digest;
  {
    PartStore store = NewStore();
    const Part part = store.Put("bytes").value();
    digest = part.digest;
    store.KeepFiles();
  }
  std::ofstream(folder_ / digest) << "byte5";
  EXPECT_EQ(base::ReasonOf(NewStore().Find(digest).status()), "PART_CORRUPT");
  EXPECT_EQ(base::ReasonOf(NewStore().Find("../" + digest).status()), "PART_MISSING");
}

TEST_F(PartStoreTest, SweepLeavesWhatSomebodyHolds) {
  std::string kept;
  {
    PartStore store = NewStore();
    const Part needed = store.Put("needed").value();
    kept = needed.digest;
    const Part other = store.Put("not needed").value();
    store.KeepFiles();
  }
  std::ofstream(folder_ / "new-1") << "half of somethi";
  PartStore store = NewStore();
  const auto held = store.Hold(kept);
  ASSERT_TRUE(held.ok()) << held.status();
  ASSERT_TRUE(store.Sweep().ok());
  EXPECT_EQ(NumFiles(), 1);
  EXPECT_EQ(store.Find(kept).value().bytes(), "needed");
}

TEST_F(PartStoreTest, WhatIsHeldIsLookedAtWhenItIsFound) {
  std::string digest;
  {
    PartStore store = NewStore();
    const Part part = store.Put("as it was").value();
    digest = part.digest;
    store.KeepFiles();
  }
  std::ofstream(folder_ / digest) << "as it is!";
  const PartStore store = NewStore();
  const auto held = store.Hold(digest);
  ASSERT_TRUE(held.ok()) << held.status();
  EXPECT_EQ(base::ReasonOf(store.Find(digest).status()), "PART_CORRUPT");
}

TEST_F(PartStoreTest, PiecesThatAreNotWhatTheirNameSaysLeaveNothing) {
  PartStore store = NewStore();
  const std::string digest = io::Sha256Hex("onetwo");
  const auto pieces = [](const PartStore::Sink& sink) {
    const absl::Status first = sink("one");
    return first.ok() ? sink("two") : first;
  };
  EXPECT_EQ(store.PutPieces(digest, pieces).value().bytes(), "onetwo");
  EXPECT_EQ(base::ReasonOf(store.PutPieces(io::Sha256Hex("x"), pieces).status()), "PART_CORRUPT");
  EXPECT_EQ(NumFiles(), 0);
}

}  // namespace
}  // namespace espalier::server::pretrained
