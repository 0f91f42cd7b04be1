// A folder and its copy: what is finished is in both, and the store is what counts.
#include "server/object_store/mirrored_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <stop_token>
#include <string>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/guarded_file_system.h"

namespace espalier::server::object_store {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

// Paths of an object store are relative; here they lie in a folder.
class FolderAsStore : public io::FileSystem {
 public:
  explicit FolderAsStore(std::string root) : root_(std::move(root)) {}
  absl::StatusOr<std::unique_ptr<io::WritableFile>> Create(const std::string& path) override {
    fs::create_directories(fs::path(At(path)).parent_path());
    return files_.Create(At(path));
  }
  absl::StatusOr<std::unique_ptr<io::ReadableFile>> Open(const std::string& path) override {
    ++opened;
    return files_.Open(At(path));
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return files_.Rename(At(from), At(to));
  }
  absl::Status Remove(const std::string& path) override { return files_.Remove(At(path)); }
  absl::Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override {
    if (!fs::exists(At(directory))) return std::vector<std::string>();
    return files_.List(At(directory));
  }
  absl::Status CreateDirectories(const std::string&) override { return absl::OkStatus(); }

  int opened = 0;

 private:
  std::string At(const std::string& path) const { return root_ + "/" + path; }

  io::FileSystem& files_ = io::PosixFileSystem();
  const std::string root_;
};

class MirroredFileSystemTest : public testing::Test {
 protected:
  MirroredFileSystemTest() {
    static int next = 0;
    root_ = testing::TempDir() + "espalier-mirror-" + std::to_string(getpid()) + "-" +
            std::to_string(next++);
    fs::create_directories(root_ + "/store");
    store_ = std::make_unique<FolderAsStore>(root_ + "/store");
    guarded_ = std::make_unique<io::GuardedFileSystem>(
        *store_, [this] { return may_change_; }, "id");
  }
  ~MirroredFileSystemTest() override { fs::remove_all(root_); }

  // The folder of a machine of this name.
  std::string Folder(const std::string& machine) const {
    return root_ + "/" + machine + "/checkpoints";
  }
  // Of the folder of a machine; another one with each call, as after a start.
  std::unique_ptr<MirroredFileSystem> Mirror(const std::string& machine,
                                             const std::string& bucket = "s3://bucket") {
    return std::make_unique<MirroredFileSystem>(
        io::PosixFileSystem(), *guarded_,
        MirroredFileSystem::Options{.root = root_ + "/" + machine,
                                    .directory = "checkpoints",
                                    .suffix = ".st",
                                    .bucket = bucket,
                                    .new_id = [this] { return "id-" + std::to_string(++ids_); }});
  }
  static void Write(MirroredFileSystem& files, const std::string& path, const std::string& text) {
    auto file = io::AtomicFile::Create(files, path);
    ASSERT_TRUE(file.ok()) << file.status();
    ASSERT_TRUE(file->Append(text).ok());
    ASSERT_TRUE(file->Commit().ok());
  }
  static std::string Read(const std::string& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  static std::vector<std::string> Names(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
      names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }
  std::string Stored(const std::string& name) const {
    return Read(root_ + "/store/checkpoints/" + name);
  }

  std::string root_;
  int ids_ = 0;
  std::unique_ptr<FolderAsStore> store_;
  absl::Status may_change_;
  std::unique_ptr<io::GuardedFileSystem> guarded_;
};

TEST_F(MirroredFileSystemTest, WhatIsFinishedIsInTheStoreAndWhatIsNotIsNot) {
  const auto files = Mirror("a");
  ASSERT_TRUE(files->Pull().ok());
  Write(*files, Folder("a") + "/one.st", "first");
  {
    auto unfinished = io::AtomicFile::Create(*files, Folder("a") + "/two.st");
    ASSERT_TRUE(unfinished.ok() && unfinished->Append("half").ok());
  }
  ASSERT_TRUE(files->CreateDirectories(Folder("a") + "/language.work").ok());
  Write(*files, Folder("a") + "/language.work/model.st", "not yet");
  EXPECT_THAT(Names(root_ + "/store/checkpoints"), ElementsAre("last-writer", "one.st"));
  EXPECT_EQ(Stored("one.st"), "first");
  EXPECT_EQ(Read(Folder("a") + "/one.st"), "first");
  Write(*files, Folder("a") + "/one.st", "again");
  EXPECT_EQ(Stored("one.st"), "again");
  ASSERT_TRUE(files->Remove(Folder("a") + "/one.st").ok());
  EXPECT_THAT(Names(root_ + "/store/checkpoints"), ElementsAre("last-writer"));
  EXPECT_THAT(Names(Folder("a")), ElementsAre("language.work"));
}

TEST_F(MirroredFileSystemTest, FolderFromBeforeTheStoreIsSentToIt) {
  fs::create_directories(Folder("a") + "/lost+found");
  std::ofstream(Folder("a") + "/old.st") << "from before";
  EXPECT_EQ(Mirror("a")->Pull()->sent, 1);
  EXPECT_EQ(Stored("old.st"), "from before");
}

TEST_F(MirroredFileSystemTest, FolderThatAnotherOneHasOvertakenBecomesTheSame) {
  const auto first = Mirror("a");
  ASSERT_TRUE(first->Pull().ok());
  Write(*first, Folder("a") + "/kept.st", "the same");
  Write(*first, Folder("a") + "/pruned.st", "the same");
  Write(*first, Folder("a") + "/replaced.st", "as it was");
  const auto second = Mirror("b");
  const auto pulled = second->Pull();
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(pulled->fetched, 3);
  ASSERT_TRUE(second->Remove(Folder("b") + "/pruned.st").ok());
  // Of the same size.
  Write(*second, Folder("b") + "/replaced.st", "as it is ");
  Write(*second, Folder("b") + "/new.st", "new");
  const auto back = Mirror("a")->Pull();
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->fetched, 2);
  EXPECT_EQ(back->removed, 1);
  EXPECT_EQ(back->put_aside, 0);
  EXPECT_THAT(Names(Folder("a")), ElementsAre("kept.st", "new.st", "replaced.st"));
  EXPECT_EQ(Read(Folder("a") + "/replaced.st"), "as it is ");
}

TEST_F(MirroredFileSystemTest, NothingIsDestroyedThatTheStoreMayNeverHaveHad) {
  const auto first = Mirror("a");
  ASSERT_TRUE(first->Pull().ok());
  Write(*first, Folder("a") + "/one.st", "of a");
  // Another cluster by a wrong prefix, one that has other contents of a name, and a time without a bucket.
  fs::create_directories(Folder("b"));
  std::ofstream(Folder("b") + "/other.st") << "of b";
  std::ofstream(Folder("b") + "/one.st") << "another one";
  EXPECT_EQ(Mirror("b")->Pull()->put_aside, 2);
  EXPECT_EQ(Read(Folder("b") + "/not-in-bucket/other.st"), "of b");
  EXPECT_EQ(Read(Folder("b") + "/not-in-bucket/one.st"), "another one");
  std::ofstream(Folder("a") + "/meanwhile.st") << "not sent";
  EXPECT_EQ(Mirror("a")->Pull()->put_aside, 1);
  EXPECT_EQ(Read(Folder("a") + "/not-in-bucket/meanwhile.st"), "not sent");
  // What was known of one bucket says nothing of another one.
  fs::remove_all(root_ + "/store/checkpoints");
  fs::create_directories(root_ + "/store/checkpoints");
  std::ofstream(root_ + "/store/checkpoints/foreign.st") << "of c";
  EXPECT_EQ(Mirror("a", "s3://another")->Pull()->put_aside, 1);
  EXPECT_EQ(Read(Folder("a") + "/not-in-bucket/one.st"), "of a");
}

TEST_F(MirroredFileSystemTest, StoreWithoutAWriterIsNotTakenForAnEmptyOne) {
  const auto first = Mirror("a");
  ASSERT_TRUE(first->Pull().ok());
  Write(*first, Folder("a") + "/one.st", "good");
  fs::remove(root_ + "/store/checkpoints/last-writer");
  fs::create_directories(Folder("b"));
  std::ofstream(Folder("b") + "/one.st") << "old!";
  const auto pulled = Mirror("b")->Pull();
  ASSERT_TRUE(pulled.ok());
  EXPECT_EQ(Stored("one.st"), "good");
  EXPECT_EQ(Read(Folder("b") + "/one.st"), "good");
}

TEST_F(MirroredFileSystemTest, OwnFolderIsNotReadAgain) {
  const auto files = Mirror("a");
  ASSERT_TRUE(files->Pull().ok());
  for (int i = 0; i < 10; ++i) Write(*files, Folder("a") + "/" + std::to_string(i) + ".st", "text");
  fs::remove(Folder("a") + "/3.st");
  store_->opened = 0;
  const auto pulled = Mirror("a")->Pull();
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(pulled->fetched, 1);
  EXPECT_LE(store_->opened, 3);
  EXPECT_EQ(Names(Folder("a")).size(), 10U);
}

TEST_F(MirroredFileSystemTest, FolderThatWasCopiedIsCompared) {
  const auto files = Mirror("a");
  ASSERT_TRUE(files->Pull().ok());
  Write(*files, Folder("a") + "/one.st", "one");
  fs::copy(root_ + "/a", root_ + "/b", fs::copy_options::recursive);
  ASSERT_TRUE(Mirror("a")->Pull().ok());
  std::ofstream(Folder("b") + "/one.st") << "two";
  EXPECT_EQ(Mirror("b")->Pull()->fetched, 1);
  EXPECT_EQ(Read(Folder("b") + "/one.st"), "one");
}

TEST_F(MirroredFileSystemTest, FileThatIsDamagedHereIsFetchedAgain) {
  const auto files = Mirror("a");
  ASSERT_TRUE(files->Pull().ok());
  Write(*files, Folder("a") + "/one.st", "one");
  std::ofstream(Folder("a") + "/one.st") << "???";
  EXPECT_TRUE(files->Mend("one.st").value());
  EXPECT_EQ(Read(Folder("a") + "/one.st"), "one");
  EXPECT_FALSE(files->Mend("two.st").value());
  EXPECT_FALSE(files->Mend("notes").value());
}

TEST_F(MirroredFileSystemTest, OneThatStandsByFollowsAndChangesNothing) {
  const auto first = Mirror("a");
  ASSERT_TRUE(first->Pull().ok());
  Write(*first, Folder("a") + "/one.st", "text");
  Write(*first, Folder("a") + "/two.st", "text");
  may_change_ = absl::UnavailableError("another one works");
  const auto second = Mirror("b");
  EXPECT_EQ(second->Prefetch({})->fetched, 2);
  EXPECT_EQ(second->Prefetch({})->fetched, 0);
  EXPECT_EQ(Read(Folder("b") + "/one.st"), "text");
  may_change_ = absl::OkStatus();
  Write(*first, Folder("a") + "/one.st", "next");
  ASSERT_TRUE(first->Remove(Folder("a") + "/two.st").ok());
  may_change_ = absl::UnavailableError("another one works");
  // Its folder does not grow for ever.
  EXPECT_EQ(second->Prefetch({})->removed, 1);
  EXPECT_THAT(Names(Folder("b")), ElementsAre("one.st"));
  may_change_ = absl::OkStatus();
  // What was fetched is looked at again when it counts.
  EXPECT_EQ(second->Pull()->fetched, 1);
  EXPECT_EQ(Read(Folder("b") + "/one.st"), "next");
  std::stop_source stop;
  stop.request_stop();
  Write(*first, Folder("a") + "/three.st", "text");
  EXPECT_TRUE(absl::IsCancelled(second->Prefetch(stop.get_token()).status()));
}

TEST_F(MirroredFileSystemTest, WhatTheStoreDoesNotTakeIsAnErrorAndMayBeDoneAgain) {
  const auto files = Mirror("a");
  ASSERT_TRUE(files->Pull().ok());
  may_change_ = base::MakeError(absl::StatusCode::kUnavailable, "STORAGE_ERROR", "away");
  for (int i = 0; i < 2; ++i) {
    auto file = io::AtomicFile::Create(*files, Folder("a") + "/one.st");
    ASSERT_TRUE(file.ok() && file->Append("text").ok());
    EXPECT_EQ(file->Commit().ok(), i == 1);
    may_change_ = absl::OkStatus();
  }
  EXPECT_EQ(Stored("one.st"), "text");
  may_change_ = absl::UnavailableError("away");
  EXPECT_FALSE(files->Remove(Folder("a") + "/one.st").ok());
  EXPECT_EQ(Read(Folder("a") + "/one.st"), "text");
}

}  // namespace
}  // namespace espalier::server::object_store
