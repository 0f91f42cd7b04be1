#include "worker/data/sandbox.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SandboxTest, NamesThatLeaveTheRootAreRefused) {
  const DataFolder folder;
  folder.Write("inside/a.csv", "1,0\n");
  const std::vector<std::string> corpus = {"..",
                                           ".",
                                           "../inside",
                                           "inside/..",
                                           "inside/../inside",
                                           "a..b",
                                           "/etc",
                                           "/",
                                           "inside/",
                                           "./inside",
                                           "inside//a",
                                           std::string("inside\0", 7),
                                           std::string("\0", 1),
                                           "inside/../../etc/passwd"};
  for (const std::string& name : corpus) {
    v1::DataSpec spec;
    spec.set_dataset(name);
    const auto dataset = LoadDataset(folder.path(), spec);
    EXPECT_EQ(dataset.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_EQ(base::ReasonOf(dataset.status()), "PATH_OUTSIDE_DATA_ROOT") << name;
  }
}

TEST(SandboxTest, NamesOutsideOfTheAlphabetAreRefused) {
  const std::vector<std::string> corpus = {
      "",     "MNIST",        "-a",  "a-", ".hidden", "a b",         "a\\b",
      "a%2e", "\xef\xbc\x8e", "a\n", "~",  "$HOME",   "caf\xc3\xa9", std::string(64, 'a')};
  for (const std::string& name : corpus) {
    EXPECT_EQ(base::ReasonOf(CheckDatasetName(name)), "DATA_SPEC_INVALID") << name;
  }
  for (const std::string& name : {std::string("a"), std::string("0"), std::string("fashion-mnist"),
                                  std::string("a.b_c-2"), std::string(63, 'a')}) {
    EXPECT_TRUE(CheckDatasetName(name).ok()) << name;
  }
}

TEST(SandboxTest, GroupsFilesOutsideOfTheDataSetAreRefused) {
  const DataFolder folder;
  folder.Write("x/a.csv", "1,0\n");
  folder.Write("other/groups.txt", "1\n");
  for (const char* file : {"../other/groups.txt", "/etc/passwd", "..", "", "sub/groups.txt"}) {
    v1::DataSpec spec;
    spec.set_dataset("x");
    spec.mutable_partition()->set_kind(v1::Partition::KIND_GROUPS);
    spec.mutable_partition()->set_groups_file(file);
    const auto dataset = LoadDataset(folder.path(), spec);
    EXPECT_EQ(base::ReasonOf(dataset.status()), "PATH_OUTSIDE_DATA_ROOT") << file;
  }
}

class ResolverTest : public ::testing::TestWithParam<Resolver> {
 protected:
  ResolverTest() : root_(open(folder_.path().c_str(), O_RDONLY | O_DIRECTORY)) {
    folder_.Write("x/data.csv", "1,0\n");
    outside_.Write("secret.csv", "1,0\n");
  }

  std::string Reason(const std::string& path, bool directory = false) const {
    const auto fd = OpenBeneath(root_.get(), path, directory, GetParam());
    return fd.ok() ? "" : base::ReasonOf(fd.status());
  }

  void Link(const std::string& target, const std::string& name) const {
    std::filesystem::create_symlink(target, folder_.path() + "/" + name);
  }

  DataFolder folder_;
  DataFolder outside_;
  UniqueFd root_;
};

TEST_P(ResolverTest, FilesInsideAreOpened) {
  EXPECT_EQ(Reason("x/data.csv"), "");
  EXPECT_EQ(Reason("x", true), "");
  EXPECT_EQ(Reason("x/absent.csv"), "DATASET_NOT_FOUND");
  EXPECT_EQ(Reason("x/data.csv/deeper"), "DATASET_NOT_FOUND");
}

TEST_P(ResolverTest, SymbolicLinksOutOfTheRootAreRefused) {
  Link(outside_.path(), "folder");
  Link(outside_.path() + "/secret.csv", "x/absolute.csv");
  Link("../../" + std::filesystem::path(outside_.path()).filename().string() + "/secret.csv",
       "x/relative.csv");
  Link("loop", "loop");
  Link("/proc/self/root", "magic");
  for (const char* path :
       {"x/absolute.csv", "x/relative.csv", "folder/secret.csv", "loop", "magic/etc/passwd"}) {
    EXPECT_EQ(Reason(path), "PATH_OUTSIDE_DATA_ROOT") << path;
  }
  EXPECT_EQ(Reason("folder", true), "PATH_OUTSIDE_DATA_ROOT");
}

TEST_P(ResolverTest, DotsAndAbsolutePathsAreRefused) {
  for (const char* path : {"../x", "x/../x", "/x", "x//data.csv", "x/./data.csv", ""}) {
    EXPECT_EQ(Reason(path), "PATH_OUTSIDE_DATA_ROOT") << path;
  }
}

INSTANTIATE_TEST_SUITE_P(BothWays, ResolverTest,
                         ::testing::Values(Resolver::kKernel, Resolver::kComponents));

TEST(SandboxTest, ADataSetBehindALinkOutOfTheRootIsRefused) {
  const DataFolder folder;
  const DataFolder outside;
  outside.Write("a.csv", "1,0\n");
  std::filesystem::create_symlink(outside.path(), folder.path() + "/linked");
  v1::DataSpec spec;
  spec.set_dataset("linked");
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), spec).status()), "PATH_OUTSIDE_DATA_ROOT");
  std::vector<std::string> problems;
  EXPECT_TRUE(ScanDataRoot(folder.path(), problems)[0].features() == 0);
  EXPECT_EQ(problems.size(), 1u);
}

std::vector<std::string> NamesOf(const std::vector<Stray>& strays) {
  std::vector<std::string> names;
  for (const Stray& stray : strays) names.push_back(stray.name);
  return names;
}

TEST(StraysTest, FilesOfDataAndFoldersWithOtherNamesAreTold) {
  const DataFolder folder;
  for (const char* name : {"good/train.csv", "My Data/train.csv", "__MACOSX/x", "lost+found/x"}) {
    folder.Write(name, "1,0\n");
  }
  for (const char* name : {"Wine.CSV.gz", "t10k-images-idx3-ubyte", "README.txt", "notes.md",
                           "Makefile", ".hidden.csv", "LICENSE.txt", "caf\xe9.txt"}) {
    folder.Write(name, "");
  }
  const auto root = DataRoot::Open(folder.path());
  const std::vector<Stray> strays = root->Strays();
  // Names are text for people: in UTF-8, whatever they are on disk.
  ASSERT_THAT(NamesOf(strays),
              ElementsAre("My Data", "Wine.CSV.gz", "caf\xc3\xa9.txt", "t10k-images-idx3-ubyte"));
  EXPECT_THAT(strays[0].problem, HasSubstr("rename the folder to 'my-data'"));
  EXPECT_THAT(strays[1].problem, HasSubstr("make a folder 'wine' there"));
  EXPECT_THAT(strays[2].problem, HasSubstr("make a folder 'caf' there"));
  EXPECT_THAT(root->Datasets(), ElementsAre("good"));
  // A job that names one is told the same.
  folder.Write("wine.csv", "");
  EXPECT_THAT(base::MessageOf(root->Files("wine.csv").status()),
              HasSubstr("make a folder 'wine' there"));
  std::filesystem::remove(folder.path() + "/wine.csv");
  std::vector<std::string> problems;
  EXPECT_EQ(ScanDataRoot(folder.path(), problems).size(), 5u);
  EXPECT_EQ(problems.size(), 4u);
}

TEST(StraysTest, ThoseBeyondTheFirstAreCounted) {
  const DataFolder folder;
  for (int i = 10; i < 40; ++i) folder.Write(std::to_string(i) + ".csv", "");
  folder.Write(std::string(250, 'x') + ".csv", "");
  const auto root = DataRoot::Open(folder.path());
  const std::vector<Stray> strays = root->Strays();
  ASSERT_EQ(strays.size(), DataRoot::kMostStrays);
  EXPECT_EQ(strays.front().name, "10.csv");
  EXPECT_THAT(strays.back().problem, HasSubstr("23 more files and folders"));
}

TEST(SandboxTest, PipesAndFoldersInPlaceOfFilesNeitherBlockNorLoad) {
  const DataFolder folder;
  folder.Write("x/keep.txt", "");
  ASSERT_EQ(mkfifo((folder.path() + "/x/pipe").c_str(), 0600), 0);
  std::filesystem::create_directory(folder.path() + "/x/sub");
  const auto root = DataRoot::Open(folder.path());
  ASSERT_TRUE(root.ok());
  EXPECT_EQ(base::ReasonOf(root->OpenFile("x", "pipe").status()), "DATASET_INVALID");
  EXPECT_EQ(base::ReasonOf(root->OpenFile("x", "sub").status()), "DATASET_INVALID");
}

TEST(SandboxTest, ListsValidFoldersAndVisibleFiles) {
  const DataFolder folder;
  folder.Write("b/z.csv", "1");
  folder.Write("b/a.csv", "12");
  folder.Write("b/.hidden", "1");
  folder.Write("a/x", "1");
  folder.Write("Upper/x", "1");
  folder.Write("file", "1");
  const auto root = DataRoot::Open(folder.path());
  ASSERT_TRUE(root.ok());
  EXPECT_THAT(root->Datasets(), ElementsAre("a", "b"));
  const auto files = root->Files("b");
  ASSERT_TRUE(files.ok());
  ASSERT_EQ(files->size(), 2u);
  EXPECT_EQ((*files)[0].name, "a.csv");
  EXPECT_EQ((*files)[0].bytes, 2);
}

}  // namespace
}  // namespace espalier::worker::data
