#include "server/checkpoint/checkpoint_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/sha256.h"
#include "tests/unit/common/checkpoint/checkpoint_fixture.h"

namespace espalier::server::checkpoint {
namespace {

using espalier::checkpoint::CheckpointTest;
using espalier::checkpoint::FailingFileSystem;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class CheckpointStoreTest : public CheckpointTest {
 protected:
  std::unique_ptr<CheckpointStore> OpenStore() {
    return CheckpointStore::Open(files_, directory_).value();
  }
  void Write(CheckpointStore& store, const std::string& job, int32_t round,
             std::optional<double> accuracy = std::nullopt) {
    const auto info = store.Write(SomeState(60, 3), SomeMetadata(job, round, accuracy));
    ASSERT_TRUE(info.ok()) << base::MessageOf(info.status());
  }
  static std::vector<std::string> Names(const CheckpointStore& store, std::string_view job = "") {
    std::vector<std::string> names;
    for (const CheckpointInfo& info : store.List(job)) {
      names.push_back(info.name);
    }
    return names;
  }
};

TEST_F(CheckpointStoreTest, WrittenCheckpointsAreListedAndLoaded) {
  const auto store = OpenStore();
  EXPECT_THAT(store->List(""), IsEmpty());
  Write(*store, "b", 9);
  Write(*store, "b", 10, 0.5);
  Write(*store, "a-1", 2);
  EXPECT_THAT(Names(*store),
              ElementsAre("checkpoints/a-1-2", "checkpoints/b-10", "checkpoints/b-9"));
  EXPECT_THAT(Names(*store, "b"), ElementsAre("checkpoints/b-10", "checkpoints/b-9"));
  EXPECT_THAT(Names(*store, "a"), IsEmpty());
  const auto info = store->Get("checkpoints/b-10");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->round, 10);
  EXPECT_EQ(info->main_metric, 0.5);
  EXPECT_EQ(store->Load("checkpoints/b-10")->state.values, SomeState(60, 3).values);
}

TEST_F(CheckpointStoreTest, FileIsReadInPieces) {
  const auto store = OpenStore();
  Write(*store, "a", 1);
  const CheckpointInfo info = store->Get("checkpoints/a-1").value();
  const auto file = store->OpenFile("checkpoints/a-1").value();
  ASSERT_EQ(file->size(), info.size_bytes);
  std::string bytes(file->size(), '\0');
  ASSERT_TRUE(file->ReadAt(0, bytes.data(), 100).ok());
  ASSERT_TRUE(file->ReadAt(100, bytes.data() + 100, bytes.size() - 100).ok());
  EXPECT_EQ(io::Sha256Hex(bytes), info.sha256);
}

TEST_F(CheckpointStoreTest, IndexIsRebuiltFromTheFiles) {
  auto store = OpenStore();
  Write(*store, "a", 1, 0.75);
  Write(*store, "a", 2);
  const std::vector<CheckpointInfo> before = store->List("");
  store = OpenStore();
  const std::vector<CheckpointInfo> after = store->List("");
  ASSERT_EQ(after.size(), before.size());
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].name, before[i].name);
    EXPECT_EQ(after[i].size_bytes, before[i].size_bytes);
    EXPECT_EQ(after[i].sha256, before[i].sha256);
    EXPECT_EQ(after[i].main_metric, before[i].main_metric);
    EXPECT_EQ(after[i].density, before[i].density);
    EXPECT_EQ(after[i].create_time, before[i].create_time);
  }
  EXPECT_THAT(store->damaged(), IsEmpty());
}

TEST_F(CheckpointStoreTest, OwnersAreInTheFiles) {
  auto store = OpenStore();
  for (const auto& [job, owner] : {std::pair("a", "ada"), {"b", "bob"}, {"c", ""}}) {
    CheckpointMetadata metadata = SomeMetadata(job, 1);
    metadata.owner = owner;
    metadata.method = "set";
    ASSERT_TRUE(store->Write(SomeState(60, 3), metadata).ok());
  }
  for (int life = 0; life < 2; ++life) {
    EXPECT_EQ(store->Get("checkpoints/a-1")->owner, "ada");
    EXPECT_EQ(store->ReadMetadata("checkpoints/a-1")->owner, "ada");
    EXPECT_EQ(store->ReadMetadata("checkpoints/a-1")->method, "set");
    EXPECT_EQ(store->BytesOf("ada"),
              static_cast<int64_t>(store->Get("checkpoints/a-1")->size_bytes));
    EXPECT_EQ(store->BytesOf("carl"), 0);
    store = OpenStore();
  }
}

TEST_F(CheckpointStoreTest, TemporaryFilesOfACrashAreSwept) {
  Write(*OpenStore(), "a", 1);
  ASSERT_TRUE(files_.Create(Path("a-2.safetensors.tmp")).ok());
  const auto store = OpenStore();
  EXPECT_THAT(files_.List(directory_).value(), ElementsAre("a-1.safetensors"));
  EXPECT_THAT(store->damaged(), IsEmpty());
}

TEST_F(CheckpointStoreTest, DamagedAndMisnamedFilesAreReportedAndNotListed) {
  Write(*OpenStore(), "a", 1);
  Write(*OpenStore(), "a", 2);
  std::filesystem::copy_file(Path("a-1.safetensors"), Path("a-3.safetensors"));
  std::filesystem::copy_file(Path("a-1.safetensors"), Path("A.safetensors"));
  std::filesystem::copy_file(Path("a-1.safetensors"), Path("a-01.safetensors"));
  std::filesystem::copy_file(Path("a-1.safetensors"), Path("notes.txt"));
  std::filesystem::resize_file(Path("a-2.safetensors"), 1000);
  const auto store = OpenStore();
  EXPECT_THAT(Names(*store), ElementsAre("checkpoints/a-1"));
  std::vector<std::string> damaged;
  for (const auto& entry : store->damaged()) {
    damaged.push_back(entry.file + " " + base::ReasonOf(entry.reason));
  }
  EXPECT_THAT(damaged,
              ElementsAre("A.safetensors INVALID_NAME", "a-01.safetensors INVALID_NAME",
                          "a-2.safetensors SAFETENSORS_INVALID", "a-3.safetensors INVALID_NAME"));
}

TEST_F(CheckpointStoreTest, PruningKeepsTheNewestAndTheBest) {
  auto store = OpenStore();
  const std::vector<double> accuracies = {0.1, 0.9, 0.9, 0.4, 0.5, 0.6};
  for (size_t i = 0; i < accuracies.size(); ++i) {
    Write(*store, "a", static_cast<int32_t>(i) + 1, accuracies[i]);
  }
  Write(*store, "b", 1);
  EXPECT_THAT(store->Prune("a", 2).value(),
              ElementsAre("checkpoints/a-4", "checkpoints/a-3", "checkpoints/a-1"));
  const std::vector<std::string> expected = {"checkpoints/a-6", "checkpoints/a-5",
                                             "checkpoints/a-2", "checkpoints/b-1"};
  EXPECT_EQ(Names(*store), expected);
  EXPECT_EQ(Names(*OpenStore()), expected);
  EXPECT_THAT(store->Prune("a", 2).value(), IsEmpty());
  EXPECT_THAT(store->Prune("none", 1).value(), IsEmpty());
}

TEST_F(CheckpointStoreTest, PruningKeepsTheNewestAndTheBestOfEachRun) {
  auto store = OpenStore();
  const auto write = [&](int32_t round, const std::string& run, double accuracy) {
    CheckpointMetadata metadata = SomeMetadata("a", round);
    metadata.run = run;
    metadata.main_metric = accuracy;
    ASSERT_TRUE(store->Write(SomeState(1, 1), metadata).ok());
  };
  write(1, "dense", 0.9);
  write(2, "dense", 0.8);
  write(3, "dense", 0.7);
  write(4, "ticket-1", 0.1);
  write(5, "random-1", 0.3);
  write(6, "ticket-1", 0.2);
  EXPECT_THAT(store->Prune("a", 1).value(), ElementsAre("checkpoints/a-4", "checkpoints/a-2"));
  // The run is said by the file.
  const auto again = OpenStore();
  EXPECT_EQ(again->Get("checkpoints/a-6")->run, "ticket-1");
  EXPECT_THAT(again->Prune("a", 1).value(), IsEmpty());
}

TEST_F(CheckpointStoreTest, OpenFileOutlivesPruning) {
  auto store = OpenStore();
  Write(*store, "a", 1);
  Write(*store, "a", 2);
  const auto file = store->OpenFile("checkpoints/a-1").value();
  ASSERT_EQ(store->Prune("a", 1)->size(), 1u);
  char byte;
  EXPECT_TRUE(file->ReadAt(file->size() - 1, &byte, 1).ok());
  EXPECT_EQ(store->OpenFile("checkpoints/a-1").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(CheckpointStoreTest, NamesThatLeaveTheFolderAreRefused) {
  ASSERT_TRUE(io::WriteAtomically(files_, directory_ + "-1.safetensors", "secret").ok());
  const auto store = OpenStore();
  for (const std::string name :
       {"", "checkpoints/", "checkpoints/a", "checkpoints/-1", "checkpoints/a-", "checkpoints/a-x",
        "checkpoints/a--1", "checkpoints/a-01", "checkpoints/a-+1", "checkpoints/a-99999999999",
        "checkpoints/../a-1", "checkpoints/a/b-1", "checkpoints/A-1", "checkpoints/a_b-1",
        "checkpoints/\xc3\xa4-1", "jobs/a-1", "a-1", "checkpoints/a-1.safetensors"}) {
    EXPECT_EQ(base::ReasonOf(store->Get(name).status()), "INVALID_NAME") << name;
    EXPECT_EQ(base::ReasonOf(store->OpenFile(name).status()), "INVALID_NAME") << name;
  }
  EXPECT_EQ(base::ReasonOf(store->Get(std::string("checkpoints/a\0b-1", 17)).status()),
            "INVALID_NAME");
  EXPECT_EQ(base::ReasonOf(store->Get("checkpoints/a-1").status()), "CHECKPOINT_NOT_FOUND");
  for (const std::string job : {"", "../a", "a/b", "A", "a-", "-a", "1a"}) {
    EXPECT_EQ(base::ReasonOf(store->Write(SomeState(1, 1), SomeMetadata(job, 1)).status()),
              "INVALID_NAME")
        << job;
  }
  EXPECT_EQ(base::ReasonOf(store->Write(SomeState(1, 1), SomeMetadata("a", -1)).status()),
            "INVALID_NAME");
  std::filesystem::remove(directory_ + "-1.safetensors");
}

TEST(JobIdTest, FollowsThePattern) {
  EXPECT_TRUE(IsValidJobId("a"));
  EXPECT_TRUE(IsValidJobId("a-9"));
  EXPECT_TRUE(IsValidJobId(std::string(63, 'a')));
  EXPECT_FALSE(IsValidJobId(std::string(64, 'a')));
}

TEST_F(CheckpointStoreTest, FailedWriteIsNotListed) {
  FailingFileSystem failing;
  const auto store = CheckpointStore::Open(failing, directory_).value();
  failing.operations_left = 3;
  EXPECT_FALSE(store->Write(SomeState(60, 3), SomeMetadata("a", 1)).ok());
  EXPECT_THAT(store->List(""), IsEmpty());
  EXPECT_THAT(files_.List(directory_).value(), IsEmpty());
}

}  // namespace
}  // namespace espalier::server::checkpoint
