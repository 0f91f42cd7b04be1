// A folder and its copy: what is finished is in both, and the store is what counts.
#include "server/object_store/mirrored_file_system.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
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
    guarded_ = std::make_unique<io::GuardedFileSystem>(*store_, [this] { return may_change_; }, "id");
  }
  ~MirroredFileSystemTest() override { fs::remove_all(root_); }

  // The folder of a machine of this name.
  std::string Folder(const std::string& machine) const {
    return root_ + "/" + machine + "/checkpoints";
  }
  MirroredFileSystem Mirror(const std::string& machine) {
    return {io::PosixFileSystem(), *guarded_, root_ + "/" + machine, machine};
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
  std::unique_ptr<FolderAsStore> store_;
  absl::Status may_change_;
  std::unique_ptr<io::GuardedFileSystem> guarded_;
};

TEST_F(MirroredFileSystemTest, WhatIsFinishedIsInTheStoreAndWhatIsNotIsNot) {
  MirroredFileSystem files = Mirror("a");
  ASSERT_TRUE(files.Pull(Folder("a")).ok());
  Write(files, Folder("a") + "/one", "first");
  {
    auto unfinished = io::AtomicFile::Create(files, Folder("a") + "/two");
    ASSERT_TRUE(unfinished.ok() && unfinished->Append("half").ok());
  }
  EXPECT_THAT(Names(root_ + "/store/checkpoints"), ElementsAre("last-writer", "one"));
  EXPECT_EQ(Stored("one"), "first");
  EXPECT_EQ(Read(Folder("a") + "/one"), "first");
  Write(files, Folder("a") + "/one", "again");
  EXPECT_EQ(Stored("one"), "again");
  ASSERT_TRUE(files.Remove(Folder("a") + "/one").ok());
  EXPECT_THAT(Names(root_ + "/store/checkpoints"), ElementsAre("last-writer"));
  EXPECT_THAT(Names(Folder("a")), ElementsAre());
}

TEST_F(MirroredFileSystemTest, FolderFromBeforeTheStoreIsSentToIt) {
  fs::create_directories(Folder("a"));
  std::ofstream(Folder("a") + "/old") << "from before";
  MirroredFileSystem files = Mirror("a");
  EXPECT_EQ(files.Pull(Folder("a"))->sent, 1);
  EXPECT_EQ(Stored("old"), "from before");
}

TEST_F(MirroredFileSystemTest, FolderThatAnotherOneHasOvertakenBecomesTheSame) {
  MirroredFileSystem first = Mirror("a");
  ASSERT_TRUE(first.Pull(Folder("a")).ok());
  Write(first, Folder("a") + "/kept", "the same");
  Write(first, Folder("a") + "/pruned", "the same");
  Write(first, Folder("a") + "/replaced", "as it was");
  MirroredFileSystem second = Mirror("b");
  const auto pulled = second.Pull(Folder("b"));
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(pulled->fetched, 3);
  ASSERT_TRUE(second.Remove(Folder("b") + "/pruned").ok());
  // Of the same size.
  Write(second, Folder("b") + "/replaced", "as it is ");
  Write(second, Folder("b") + "/new", "new");
  const auto back = first.Pull(Folder("a"));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->fetched, 2);
  EXPECT_EQ(back->removed, 1);
  EXPECT_THAT(Names(Folder("a")), ElementsAre("kept", "new", "replaced"));
  EXPECT_EQ(Read(Folder("a") + "/replaced"), "as it is ");
}

TEST_F(MirroredFileSystemTest, OwnFolderIsNotReadAgainAndLosesWhatWasNotFinished) {
  MirroredFileSystem files = Mirror("a");
  ASSERT_TRUE(files.Pull(Folder("a")).ok());
  for (int i = 0; i < 10; ++i) Write(files, Folder("a") + "/" + std::to_string(i), "text");
  // As after a kill between the two halves of a renaming, and on a disk from which something went.
  std::ofstream(Folder("a") + "/not-sent") << "text";
  fs::remove(Folder("a") + "/3");
  store_->opened = 0;
  const auto pulled = files.Pull(Folder("a"));
  ASSERT_TRUE(pulled.ok()) << pulled.status();
  EXPECT_EQ(pulled->fetched, 1);
  EXPECT_EQ(pulled->removed, 1);
  EXPECT_LE(store_->opened, 3);
  EXPECT_EQ(Names(Folder("a")).size(), 10U);
}

TEST_F(MirroredFileSystemTest, OneThatStandsByFollowsAndChangesNothing) {
  MirroredFileSystem first = Mirror("a");
  ASSERT_TRUE(first.Pull(Folder("a")).ok());
  Write(first, Folder("a") + "/one", "text");
  may_change_ = absl::UnavailableError("another one works");
  MirroredFileSystem second = Mirror("b");
  EXPECT_EQ(second.Prefetch(Folder("b"), {})->fetched, 1);
  EXPECT_EQ(second.Prefetch(Folder("b"), {})->fetched, 0);
  EXPECT_EQ(Read(Folder("b") + "/one"), "text");
  may_change_ = absl::OkStatus();
  Write(first, Folder("a") + "/one", "next");
  // What was fetched is looked at again when it counts.
  EXPECT_EQ(second.Pull(Folder("b"))->fetched, 1);
  EXPECT_EQ(Read(Folder("b") + "/one"), "next");
}

TEST_F(MirroredFileSystemTest, WhatTheStoreDoesNotTakeIsAnErrorAndMayBeDoneAgain) {
  MirroredFileSystem files = Mirror("a");
  ASSERT_TRUE(files.Pull(Folder("a")).ok());
  may_change_ = base::MakeError(absl::StatusCode::kUnavailable, "STORAGE_ERROR", "away");
  for (int i = 0; i < 2; ++i) {
    auto file = io::AtomicFile::Create(files, Folder("a") + "/one");
    ASSERT_TRUE(file.ok() && file->Append("text").ok());
    EXPECT_EQ(file->Commit().ok(), i == 1);
    may_change_ = absl::OkStatus();
  }
  EXPECT_EQ(Stored("one"), "text");
  may_change_ = absl::UnavailableError("away");
  EXPECT_FALSE(files.Remove(Folder("a") + "/one").ok());
  EXPECT_EQ(Read(Folder("a") + "/one"), "text");
}

}  // namespace
}  // namespace espalier::server::object_store
