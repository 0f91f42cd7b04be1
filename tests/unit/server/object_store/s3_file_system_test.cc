// Needs an object store: tests/support/with_s3.py starts one and says where it is.
#include "server/object_store/s3_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/sha256.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/object_store/s3_client.h"
#include "server/object_store/s3_transfer.h"
#include "tests/unit/common/checkpoint/checkpoint_fixture.h"

namespace espalier::server::object_store {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string Variable(const char* name) { return ProcessEnvironment(name).value_or(""); }

// Bytes that differ from block to block.
std::string SomeBytes(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 12345;
  for (char& byte : bytes) {
    state = state * 1664525 + 1013904223;
    byte = static_cast<char>(state >> 24);
  }
  return bytes;
}

// A prefix of its own for each test, so that they do not meet.
template <typename Base>
class WithStore : public Base {
 protected:
  void SetUp() override {
    if (Variable("ESPALIER_S3_ENDPOINT").empty()) {
      FAIL() << "expected a store to test with; run this by tests/support/with_s3.py -- PROGRAM";
    }
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    S3Location location;
    location.bucket = Variable("ESPALIER_S3_BUCKET");
    location.prefix = std::string("tests/") + info->name();
    options_ = S3OptionsFromEnvironment(location).value();
    options_.endpoint = Variable("ESPALIER_S3_ENDPOINT");
    options_.first_backoff = absl::Milliseconds(1);
    options_.longest_backoff = absl::Milliseconds(10);
    options_.spool_directory = ::testing::TempDir();
    Reopen();
  }
  void TearDown() override {}

  void Reopen() { files_ = OpenS3FileSystem(options_).value(); }
  void Write(const std::string& path, std::string_view bytes) {
    const auto file = files_->Create(path);
    ASSERT_TRUE(file.ok()) << base::MessageOf(file.status());
    ASSERT_TRUE((*file)->Append(bytes).ok());
    const absl::Status closed = (*file)->Close();
    ASSERT_TRUE(closed.ok()) << base::MessageOf(closed);
  }
  absl::StatusOr<std::string> Read(const std::string& path) {
    return io::ReadFile(*files_, path, uint64_t{1} << 30);
  }
  std::string ETagOf(const std::string& path) {
    return S3Client::Create(options_).value()->Head(options_.prefix + "/" + path)->etag;
  }

  S3Options options_;
  std::unique_ptr<io::FileSystem> files_;
};

using S3FileSystemTest = WithStore<::testing::Test>;

TEST_F(S3FileSystemTest, WrittenFilesAreReadBack) {
  ASSERT_TRUE(files_->CreateDirectories("a/b").ok());
  Write("a/b/file", "hello");
  EXPECT_EQ(Read("a/b/file").value(), "hello");
  EXPECT_EQ(Read("/a//./b/file").value(), "hello");
  Write("a/b/file", "other");
  EXPECT_EQ(Read("a/b/file").value(), "other");
  EXPECT_TRUE(files_->SyncDirectory("a/b").ok());
}

TEST_F(S3FileSystemTest, EmptyFilesExist) {
  Write("empty", "");
  const auto file = files_->Open("empty").value();
  EXPECT_EQ(file->size(), 0u);
  EXPECT_TRUE(file->ReadAt(0, nullptr, 0).ok());
  char byte;
  EXPECT_EQ(base::ReasonOf(file->ReadAt(0, &byte, 1)), "FILE_TRUNCATED");
}

TEST_F(S3FileSystemTest, AFileIsStoredBySyncAndByCloseAndNotBefore) {
  {
    const auto file = files_->Create("file").value();
    ASSERT_TRUE(file->Append("one").ok());
    EXPECT_EQ(base::ReasonOf(files_->Open("file").status()), "FILE_NOT_FOUND");
    ASSERT_TRUE(file->Sync().ok());
    EXPECT_EQ(Read("file").value(), "one");
    ASSERT_TRUE(file->Append(" two").ok());
    EXPECT_EQ(Read("file").value(), "one");
    ASSERT_TRUE(file->Close().ok());
    EXPECT_EQ(Read("file").value(), "one two");
    EXPECT_TRUE(file->Close().ok());
    EXPECT_EQ(base::ReasonOf(file->Append("x")), "FILE_CLOSED");
  }
  {
    const auto file = files_->Create("file").value();
    ASSERT_TRUE(file->Append("never").ok());
  }
  EXPECT_EQ(Read("file").value(), "one two");
}

TEST_F(S3FileSystemTest, NamesMayHaveAllKindsOfCharacters) {
  const std::vector<std::string> names = {"%41",
                                          "+plus",
                                          "a b  c",
                                          "a&b<c>\"'",
                                          "a=b?c#d;e",
                                          "a~*'()",
                                          "z-\xc3\xa4\xe2\x82\xac",
                                          "\xf0\x9f\x98\x80"};
  for (const std::string& name : names) {
    Write("odd folder+\xc3\xb6/" + name, name);
    EXPECT_EQ(Read("odd folder+\xc3\xb6/" + name).value_or("unreadable"), name);
  }
  std::vector<std::string> expected = names;
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(files_->List("odd folder+\xc3\xb6").value(), expected);
  EXPECT_THAT(files_->List("").value(), ElementsAre("odd folder+\xc3\xb6"));
  for (const std::string& name : names) {
    const std::string path = "odd folder+\xc3\xb6/" + name;
    const absl::Status renamed = files_->Rename(path, path + " 2");
    ASSERT_TRUE(renamed.ok()) << base::MessageOf(renamed);
    EXPECT_EQ(Read(path + " 2").value_or("unreadable"), name);
    EXPECT_TRUE(files_->Remove(path + " 2").ok());
  }
  EXPECT_THAT(files_->List("odd folder+\xc3\xb6").value(), IsEmpty());
}

TEST_F(S3FileSystemTest, RenamingReplacesTheTarget) {
  Write("from", "new");
  Write("to", "old");
  ASSERT_TRUE(files_->Rename("from", "to").ok());
  EXPECT_EQ(Read("to").value(), "new");
  EXPECT_EQ(base::ReasonOf(files_->Open("from").status()), "FILE_NOT_FOUND");
  EXPECT_TRUE(files_->Rename("to", "/to").ok());
  EXPECT_EQ(Read("to").value(), "new");
  const absl::Status missing = files_->Rename("from", "to");
  EXPECT_EQ(missing.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(missing), "FILE_NOT_FOUND");
  EXPECT_EQ(Read("to").value(), "new");
}

TEST_F(S3FileSystemTest, WhatIsNotThereIsSaid) {
  for (const absl::Status& status : {files_->Remove("none"), files_->Open("none").status()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
    EXPECT_EQ(base::ReasonOf(status), "FILE_NOT_FOUND");
    EXPECT_THAT(base::MessageOf(status), HasSubstr("/none'"));
  }
  EXPECT_THAT(files_->List("none").value(), IsEmpty());
}

TEST_F(S3FileSystemTest, FilesAreWrittenAtomically) {
  ASSERT_TRUE(io::WriteAtomically(*files_, "d/file", "whole").ok());
  EXPECT_EQ(Read("d/file").value(), "whole");
  {
    auto file = io::AtomicFile::Create(*files_, "d/other").value();
    ASSERT_TRUE(file.Append("part").ok());
    ASSERT_TRUE(file.Finish().ok());
    EXPECT_THAT(files_->List("d").value(), ElementsAre("file", "other.tmp"));
  }
  EXPECT_THAT(files_->List("d").value(), ElementsAre("file"));
}

TEST_F(S3FileSystemTest, LongListsComeInPages) {
  constexpr int kFiles = 1100;
  constexpr int kThreads = 4;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = t; i < kFiles; i += kThreads) Write("many/" + std::to_string(i), "x");
    });
  }
  for (std::thread& thread : threads) thread.join();
  Write("many/sub/deep/file", "x");
  std::vector<std::string> expected = {"sub"};
  for (int i = 0; i < kFiles; ++i) expected.push_back(std::to_string(i));
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(files_->List("many").value(), expected);
  EXPECT_THAT(files_->List("many/sub").value(), ElementsAre("deep"));
}

TEST_F(S3FileSystemTest, RangesAreReadWhereverTheyAre) {
  const std::string bytes = SomeBytes(3'000'001);
  Write("file", bytes);
  options_.read_ahead_bytes = 1 << 20;
  Reopen();
  const auto file = files_->Open("file").value();
  ASSERT_EQ(file->size(), bytes.size());
  const auto expect = [&](uint64_t offset, size_t size) {
    std::string out(size, '\0');
    ASSERT_TRUE(file->ReadAt(offset, out.data(), size).ok()) << offset << " " << size;
    EXPECT_TRUE(out == bytes.substr(offset, size)) << offset << " " << size;
  };
  expect(0, 8);
  expect(8, 100);
  expect(bytes.size() - 1, 1);
  expect(bytes.size(), 0);
  expect(262'140, 10);
  expect(1'000'000, 1'500'000);
  expect(0, bytes.size());
  for (uint64_t offset = 0; offset < bytes.size(); offset += 70'000) {
    expect(offset, std::min<uint64_t>(70'000, bytes.size() - offset));
  }
  std::string out(bytes.size() + 1, '\0');
  EXPECT_EQ(base::ReasonOf(file->ReadAt(0, out.data(), out.size())), "FILE_TRUNCATED");
  EXPECT_EQ(base::ReasonOf(file->ReadAt(~uint64_t{0}, out.data(), 2)), "FILE_TRUNCATED");
}

TEST_F(S3FileSystemTest, OneFileIsReadByManyThreads) {
  const std::string bytes = SomeBytes(2'000'000);
  Write("file", bytes);
  const auto file = files_->Open("file").value();
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      std::string out(10'000, '\0');
      for (size_t offset = t * 100'000; offset + out.size() <= bytes.size(); offset += 90'000) {
        ASSERT_TRUE(file->ReadAt(offset, out.data(), out.size()).ok());
        ASSERT_TRUE(out == bytes.substr(offset, out.size()));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(S3FileSystemTest, LongFilesAreWrittenInParts) {
  options_.part_bytes = 5 << 20;
  options_.memory_spool_bytes = 1000;
  Reopen();
  for (const size_t size : {size_t{5} << 20, (size_t{10} << 20) + 1, size_t{15} << 20}) {
    const std::string bytes = SomeBytes(size);
    const auto file = files_->Create("long").value();
    for (size_t offset = 0; offset < size; offset += 1'000'000) {
      ASSERT_TRUE(file->Append(std::string_view(bytes).substr(offset, 1'000'000)).ok());
    }
    ASSERT_TRUE(file->Close().ok());
    EXPECT_EQ(io::Sha256Hex(Read("long").value()), io::Sha256Hex(bytes));
  }
  EXPECT_THAT(ETagOf("long"), HasSubstr("-3"));
}

TEST_F(S3FileSystemTest, LongFilesAreRenamedInParts) {
  const std::string bytes = SomeBytes((size_t{5} << 20) + 77);
  Write("long", bytes);
  options_.copy_part_bytes = 5 << 20;
  Reopen();
  const absl::Status renamed = files_->Rename("long", "renamed");
  ASSERT_TRUE(renamed.ok()) << base::MessageOf(renamed);
  EXPECT_EQ(io::Sha256Hex(Read("renamed").value()), io::Sha256Hex(bytes));
  EXPECT_THAT(ETagOf("renamed"), HasSubstr("-2"));
  EXPECT_EQ(base::ReasonOf(files_->Open("long").status()), "FILE_NOT_FOUND");
}

TEST_F(S3FileSystemTest, AReplacedObjectIsNotReadOn) {
  const std::string bytes = SomeBytes(1'000'000);
  Write("file", bytes);
  const auto file = files_->Open("file").value();
  std::string out(100, '\0');
  ASSERT_TRUE(file->ReadAt(0, out.data(), out.size()).ok());
  Write("file", SomeBytes(999'999));
  const absl::Status changed = file->ReadAt(900'000, out.data(), out.size());
  EXPECT_EQ(changed.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(base::ReasonOf(changed), "FILE_CHANGED");
  // What was fetched before stays.
  ASSERT_TRUE(file->ReadAt(100, out.data(), out.size()).ok());
  EXPECT_EQ(out, bytes.substr(100, 100));
  ASSERT_TRUE(files_->Remove("file").ok());
  EXPECT_EQ(base::ReasonOf(file->ReadAt(900'000, out.data(), out.size())), "FILE_NOT_FOUND");
}

TEST_F(S3FileSystemTest, WrongKeysAreNoticedAtTheStart) {
  options_.credentials.secret_access_key = "wrong" + options_.credentials.secret_access_key;
  Reopen();
  const absl::Status secret = files_->CreateDirectories("a");
  EXPECT_EQ(secret.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(base::ReasonOf(secret), "FILE_ACCESS");
  EXPECT_THAT(base::MessageOf(secret), HasSubstr("AWS_SECRET_ACCESS_KEY"));
  EXPECT_THAT(base::MessageOf(secret), Not(HasSubstr(options_.credentials.secret_access_key)));
  options_.credentials.access_key_id = "AKIAUNKNOWN";
  Reopen();
  const absl::Status unknown = files_->CreateDirectories("a");
  EXPECT_EQ(base::ReasonOf(unknown), "FILE_ACCESS");
  EXPECT_THAT(base::MessageOf(unknown), HasSubstr("InvalidAccessKeyId"));
  EXPECT_THAT(base::MessageOf(unknown), Not(HasSubstr("AKIAUNKNOWN")));
  EXPECT_EQ(files_->Open("a").status().code(), absl::StatusCode::kPermissionDenied);
  const auto file = files_->Create("a").value();
  EXPECT_EQ(file->Close().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(S3FileSystemTest, BucketsThatCannotBeUsedAreNoticedAtTheStart) {
  options_.bucket += "-missing";
  Reopen();
  const absl::Status missing = files_->CreateDirectories("a");
  EXPECT_EQ(missing.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(base::ReasonOf(missing), "BUCKET_NOT_FOUND");
  EXPECT_THAT(base::MessageOf(missing), HasSubstr("'" + options_.bucket + "'"));
  options_.bucket = "of-somebody-else";
  Reopen();
  const absl::Status other = files_->CreateDirectories("a");
  EXPECT_EQ(base::ReasonOf(other), "FILE_ACCESS");
  EXPECT_THAT(base::MessageOf(other), HasSubstr("s3:ListBucket"));
}

TEST_F(S3FileSystemTest, AStoreThatIsGoneIsSaid) {
  Write("file", "x");
  const auto open = files_->Open("file").value();
  // Nothing listens on port 1.
  options_.endpoint = "http://127.0.0.1:1";
  options_.attempts = 2;
  Reopen();
  const auto file = files_->Create("file").value();
  for (const absl::Status& status : {files_->CreateDirectories("a"), files_->Open("file").status(),
                                     files_->List("").status(), file->Close()}) {
    EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
    EXPECT_EQ(base::ReasonOf(status), "STORAGE_ERROR");
    EXPECT_THAT(base::MessageOf(status), HasSubstr("http://127.0.0.1:1, found none in 2 attempts"));
  }
}

TEST_F(S3FileSystemTest, TheStartLeavesNothingBehind) {
  ASSERT_TRUE(files_->CreateDirectories("a").ok());
  ASSERT_TRUE(files_->CreateDirectories("a").ok());
  EXPECT_THAT(files_->List("").value(), IsEmpty());
}

using checkpoint::CheckpointInfo;
using checkpoint::CheckpointStore;

class CheckpointsInS3 : public WithStore<espalier::checkpoint::CheckpointTest> {
 protected:
  std::unique_ptr<CheckpointStore> OpenStore() {
    return CheckpointStore::Open(*files_, "checkpoints").value();
  }
  static std::vector<std::string> Names(const CheckpointStore& store) {
    std::vector<std::string> names;
    for (const CheckpointInfo& info : store.List("")) names.push_back(info.name);
    return names;
  }
};

TEST_F(CheckpointsInS3, AreWrittenListedLoadedAndPruned) {
  auto store = OpenStore();
  EXPECT_THAT(Names(*store), IsEmpty());
  for (int32_t round = 1; round <= 4; ++round) {
    const auto info = store->Write(SomeState(60, 3), SomeMetadata("a", round, 0.1 * round));
    ASSERT_TRUE(info.ok()) << base::MessageOf(info.status());
  }
  ASSERT_TRUE(store->Write(SomeState(60, 3), SomeMetadata("b", 1)).ok());
  const std::string digest = store->Get("checkpoints/a-4")->sha256;
  // Left by a crash.
  Write("checkpoints/a-5.safetensors.tmp", "part");
  Write("checkpoints/c-1.safetensors", "damaged");

  Reopen();
  store = OpenStore();
  EXPECT_THAT(Names(*store), ElementsAre("checkpoints/a-4", "checkpoints/a-3", "checkpoints/a-2",
                                         "checkpoints/a-1", "checkpoints/b-1"));
  ASSERT_EQ(store->damaged().size(), 1u);
  EXPECT_EQ(store->damaged()[0].file, "c-1.safetensors");
  EXPECT_EQ(store->Get("checkpoints/a-4")->sha256, digest);
  EXPECT_EQ(store->Load("checkpoints/a-4")->state.values, SomeState(60, 3).values);
  EXPECT_TRUE(store->Verify("checkpoints/a-4").ok());

  EXPECT_THAT(store->Prune("a", 2).value(), ElementsAre("checkpoints/a-2", "checkpoints/a-1"));
  EXPECT_TRUE(store->Remove({"checkpoints/b-1"}).ok());
  EXPECT_THAT(files_->List("checkpoints").value(),
              ElementsAre("a-3.safetensors", "a-4.safetensors", "c-1.safetensors"));
  EXPECT_THAT(Names(*OpenStore()), ElementsAre("checkpoints/a-4", "checkpoints/a-3"));
}

}  // namespace
}  // namespace espalier::server::object_store
