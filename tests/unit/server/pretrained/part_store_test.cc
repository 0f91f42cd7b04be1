#include "server/pretrained/part_store.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include "common/base/status.h"

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

}  // namespace
}  // namespace espalier::server::pretrained
