// Small files that unfold into large data, and headers that lie: reading stays within its bounds
// and can be cancelled at any point.
#include <gmock/gmock.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/interactions/interactions.h"
#include "worker/data/load.h"
#include "worker/data/partition.h"

namespace espalier::worker::data {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kMegabyte = 1 << 20;
// Far more than a load within 8 MB takes, far less than any of the bombs.
constexpr int64_t kMostGrowth = 100 * kMegabyte;

// `text` so often that it is at least `bytes` long, compressed block by block.
std::string GzipOf(const std::string& head, const std::string& text, int64_t bytes,
                   const std::string& tail = "") {
  const DataFolder folder;
  const std::string path = folder.path() + "/z.gz";
  std::string block;
  while (block.size() < 1 << 20) block += text;
  gzFile out = gzopen(path.c_str(), "wb6");
  gzwrite(out, head.data(), static_cast<unsigned>(head.size()));
  for (int64_t done = 0; done < bytes; done += static_cast<int64_t>(block.size())) {
    gzwrite(out, block.data(), static_cast<unsigned>(block.size()));
  }
  gzwrite(out, tail.data(), static_cast<unsigned>(tail.size()));
  gzclose(out);
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

int64_t PeakBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

struct File {
  std::string name;
  std::string bytes;
};

struct Bomb {
  std::string name;
  std::function<std::vector<File>()> files;
  std::string named_file;
  std::string reason = "DATASET_TOO_LARGE";
  bool interactions = false;
  bool text = false;
};

std::string Digits(int64_t value) { return std::to_string(value); }

constexpr int64_t kLong = 200 * kMegabyte;

std::vector<Bomb> CsvBombs() {
  return {{"CsvRows",
           [] {
             return std::vector<File>{{"train.csv.gz", GzipOf("", "1,0\n", kLong)}};
           },
           "x/train.csv.gz"},
          {"CsvFloatRows",
           [] {
             return std::vector<File>{{"train.csv.gz", GzipOf("", "0.5,2,0\n", kLong)}};
           },
           "x/train.csv.gz"},
          {"CsvColumns",
           [] {
             return std::vector<File>{{"train.csv.gz", GzipOf("", "1,", kLong)}};
           },
           "x/train.csv.gz", "DATASET_INVALID"},
          {"CsvOneLine",
           [] {
             return std::vector<File>{{"train.csv.gz", GzipOf("", "1", kLong)}};
           },
           "x/train.csv.gz", "DATASET_INVALID"},
          {"CsvBlankLines",
           [] {
             return std::vector<File>{{"train.csv.gz", GzipOf("", "\n", kLong)}};
           },
           "x/train.csv.gz", "DATASET_INVALID"},
          {"CsvLongLabels",
           [] {
             std::string text;
             for (int i = 0; i < 4; ++i) text += "1," + std::string(1 << 20, 'a' + i) + "\n";
             return std::vector<File>{{"train.csv.gz", GzipOf("", text, kLong)}};
           },
           "x/train.csv.gz", "DATASET_INVALID"}};
}

std::vector<Bomb> ArrayBombs() {
  return {
      {"IdxLabels",
       [] {
         const std::string head = Idx(8, {200 << 20}, "");
         return std::vector<File>{
             {"train-images-idx3-ubyte.gz",
              GzipOf(Idx(8, {200 << 20, 1, 1}, ""), std::string(1024, '\0'), kLong)},
             {"train-labels-idx1-ubyte.gz", GzipOf(head, std::string(1024, '\0'), kLong)}};
       },
       "x/train-labels-idx1-ubyte.gz"},
      {"IdxImages",
       [] {
         return std::vector<File>{
             {"train-images-idx3-ubyte.gz",
              GzipOf(Idx(8, {200, 1024, 1024}, ""), std::string(1024, '\0'), kLong)},
             {"train-labels-idx1-ubyte", Idx(8, {200}, std::string(200, '\0'))}};
       },
       "x/train-images-idx3-ubyte.gz"},
      {"IdxLongRowThatIsThere",
       [] {
         return std::vector<File>{
             {"train-images-idx3-ubyte.gz",
              GzipOf(Idx(8, {1, 200, 1 << 20}, ""), std::string(1024, '\0'), kLong)},
             {"train-labels-idx1-ubyte", Idx(8, {1}, std::string(1, '\0'))}};
       },
       "x/train-images-idx3-ubyte.gz"},
      {"IdxLongRowThatIsNotThere",
       [] {
         return std::vector<File>{{"train-images-idx3-ubyte", Idx(8, {1, 1024, 1 << 20}, "abc")},
                                  {"train-labels-idx1-ubyte", Idx(8, {1}, std::string(1, '\0'))}};
       },
       "x/train-images-idx3-ubyte", "DATASET_INVALID"},
      {"NpyLabels",
       [] {
         return std::vector<File>{{"train_features.npy", Npy("|u1", "(200000000, 1)", "1")},
                                  {"train_labels.npy.gz", GzipOf(Npy("|u1", "(200000000,)", ""),
                                                                 std::string(1024, '\0'), kLong)}};
       },
       "x/train_labels.npy.gz"},
      {"NpyRows",
       [] {
         return std::vector<File>{
             {"train_features.npy.gz",
              GzipOf(Npy("<f4", "(2000, 26214)", ""), std::string(1024, '\0'), kLong)},
             {"train_labels.npy", Npy("|u1", "(2000,)", std::string(2000, '\0'))}};
       },
       "x/train_features.npy.gz"},
      {"NpyLongRowThatIsNotThere",
       [] {
         return std::vector<File>{{"train_features.npy", Npy("|u1", "(1, 1000000000)", "1")},
                                  {"train_labels.npy", Npy("|u1", "(1,)", "1")}};
       },
       "x/train_features.npy", "DATASET_INVALID"},
      {"Cifar",
       [] {
         return std::vector<File>{
             {"cifar10-mini-train.bin.gz", GzipOf("", CifarRecord(0, 0), kLong)}};
       },
       "x/cifar10-mini-train.bin.gz"}};
}

std::vector<Bomb> InteractionAndTextBombs() {
  return {
      {"LightGcn",
       [] {
         return std::vector<File>{{"train.txt.gz", GzipOf("", "1 2 3\n", kLong)}};
       },
       "x/train.txt.gz", "DATASET_TOO_LARGE", true},
      {"LightGcnOneLine",
       [] {
         return std::vector<File>{{"train.txt.gz", GzipOf("", "1 ", kLong)}};
       },
       "x/train.txt.gz", "DATASET_INVALID", true},
      {"MovieLens",
       [] {
         return std::vector<File>{{"u.data.gz", GzipOf("", "1\t2\t3\t4\n", kLong)}};
       },
       "x/u.data.gz", "DATASET_TOO_LARGE", true},
      {"InteractionIds",
       [] {
         std::string text = "user,item\n";
         for (int64_t i = 0; i < 200'000; ++i) {
           text += Digits(i) + std::string(40, 'u') + "," + Digits(i) + "i\n";
         }
         return std::vector<File>{{"train.csv.gz", Gzip(text)}};
       },
       "x/train.csv.gz", "DATASET_TOO_LARGE", true},
      {"Text",
       [] {
         return std::vector<File>{{"train.txt.gz", GzipOf("", "a", kLong)}};
       },
       "x/train.txt.gz", "DATASET_TOO_LARGE", false, true},
  };
}

std::vector<Bomb> Bombs() {
  std::vector<Bomb> all = CsvBombs();
  for (auto* part : {&ArrayBombs, &InteractionAndTextBombs}) {
    for (Bomb& bomb : part()) all.push_back(std::move(bomb));
  }
  return all;
}

class BombTest : public ::testing::TestWithParam<Bomb> {
 protected:
  BombTest() {
    for (const File& file : GetParam().files()) folder_.Write("x/" + file.name, file.bytes);
    spec_.set_dataset("x");
    if (GetParam().text) spec_.mutable_text()->set_context(4);
  }

  absl::Status Load(const LoadOptions& options) const {
    return GetParam().interactions ? LoadInteractions(folder_.path(), spec_, 1, options).status()
                                   : LoadDataset(folder_.path(), spec_, options).status();
  }

  DataFolder folder_;
  v1::DataSpec spec_;
};

TEST_P(BombTest, IsRefusedWithinTheMemoryAllowed) {
  const int64_t before = PeakBytes();
  const absl::Status status = Load({.max_memory_bytes = 8 * kMegabyte});
  EXPECT_EQ(base::ReasonOf(status), GetParam().reason) << status;
  EXPECT_THAT(base::MessageOf(status),
              AllOf(HasSubstr(GetParam().named_file), HasSubstr("expected"), HasSubstr("found"),
                    HasSubstr("to fix it")));
  const bool wide = GetParam().name == "CsvColumns";  // the cells of a line of 16 MiB
  EXPECT_LT(PeakBytes() - before, wide ? 8 * kMostGrowth : kMostGrowth);
}

TEST_P(BombTest, DoesNotKeepAWorkerFromStarting) {
  const int64_t before = PeakBytes();
  std::vector<std::string> problems;
  const auto found = ScanDataRoot(folder_.path(), problems);
  EXPECT_EQ(found.size(), 1);
  EXPECT_LT(PeakBytes() - before, 8 * kMostGrowth);
}

TEST_P(BombTest, LoadingIsCancelledSoon) {
  std::atomic<bool> cancelled = false;
  std::chrono::steady_clock::time_point at;
  std::jthread canceller([&] {
    at = std::chrono::steady_clock::now();
    cancelled = true;
  });
  const absl::Status status = Load({.cancelled = &cancelled});
  const auto after = std::chrono::steady_clock::now();
  canceller.join();
  EXPECT_FALSE(status.ok());
  EXPECT_LT(after - at, std::chrono::seconds(2));
}

INSTANTIATE_TEST_SUITE_P(All, BombTest, ::testing::ValuesIn(Bombs()),
                         [](const auto& info) { return info.param.name; });

TEST(ScanBoundsTest, LargeDataSetsAreDescribedByNameAndFormat) {
  const DataFolder folder;
  folder.Write("a/train.csv.gz", GzipOf("", "1,0\n", 70 * kMegabyte));
  folder.Write("b/train.csv", "1,2,0\n3,4,1\n");
  folder.Write("c/u.data.gz", GzipOf("", "1\t2\t3\t4\n", 70 * kMegabyte));
  folder.Write("d/cifar10-mini-train.bin.gz", GzipOf("", CifarRecord(0, 0), 70 * kMegabyte));
  std::vector<std::string> problems;
  const auto found = ScanDataRoot(folder.path(), problems);
  EXPECT_THAT(problems, IsEmpty());
  ASSERT_THAT(found, SizeIs(4));
  EXPECT_EQ(found[0].format(), "csv");
  EXPECT_EQ(found[0].train_examples(), 0);
  EXPECT_EQ(found[1].train_examples(), 2);
  EXPECT_EQ(found[2].format(), "movielens");
  EXPECT_EQ(found[2].interactions(), 0);
  EXPECT_EQ(found[3].format(), "cifar10");
}

TEST(ScanBoundsTest, CancelledScanEndsWithWhatItHas) {
  const DataFolder folder;
  folder.Write("a/train.csv", "1,2,0\n3,4,1\n");
  const std::atomic<bool> cancelled = true;
  std::vector<std::string> problems;
  EXPECT_THAT(ScanDataRoot(folder.path(), problems, {.cancelled = &cancelled}), IsEmpty());
  EXPECT_THAT(problems, IsEmpty());
}

TEST(PartitionCancelTest, EveryKindEnds) {
  const DataFolder folder;
  std::string text;
  for (int i = 0; i < 1000; ++i) text += Digits(i % 7) + "," + Digits(i % 3) + "\n";
  folder.Write("x/train.csv", text);
  v1::DataSpec spec;
  spec.set_dataset("x");
  spec.mutable_partition()->set_shards(3);
  const auto dataset = LoadDataset(folder.path(), spec).value();
  const std::atomic<bool> cancelled = true;
  for (const auto kind :
       {v1::Partition::KIND_IID, v1::Partition::KIND_DIRICHLET, v1::Partition::KIND_CLASSES}) {
    spec.mutable_partition()->set_kind(kind);
    EXPECT_TRUE(MakeShard(*dataset, spec, 1, 0).ok());
    EXPECT_EQ(MakeShard(*dataset, spec, 1, 0, {.cancelled = &cancelled}).status().code(),
              absl::StatusCode::kCancelled);
  }
}

}  // namespace
}  // namespace espalier::worker::data
