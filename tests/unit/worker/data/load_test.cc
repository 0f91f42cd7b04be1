#include "worker/data/load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::worker::data {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::DataSpec Spec(const std::string& name) {
  v1::DataSpec spec;
  spec.set_dataset(name);
  return spec;
}

std::shared_ptr<const Dataset> MustLoad(const DataFolder& folder, const v1::DataSpec& spec) {
  auto dataset = LoadDataset(folder.path(), spec);
  EXPECT_TRUE(dataset.ok()) << dataset.status();
  return dataset.ok() ? *dataset : nullptr;
}

std::vector<int> Bytes(const Dataset& dataset, int64_t row) {
  const uint8_t* values = dataset.ByteRow(row);
  return {values, values + dataset.features()};
}

std::vector<float> Floats(const Dataset& dataset, int64_t row) {
  const float* values = dataset.FloatRow(row);
  return {values, values + dataset.features()};
}

std::vector<int> Labels(const Dataset& dataset) {
  return {dataset.labels().begin(), dataset.labels().end()};
}

TEST(LoadTest, DigitsOfTheRepositoryAreReadAsBytes) {
  const auto dataset = LoadDataset(RepositoryData(), Spec("digits"));
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ((*dataset)->format(), "csv");
  EXPECT_EQ((*dataset)->size(), 1797);
  EXPECT_EQ((*dataset)->train_rows(), 1797);
  EXPECT_EQ((*dataset)->features(), 64);
  EXPECT_EQ((*dataset)->num_classes(), 10);
  ASSERT_TRUE((*dataset)->is_bytes());
  EXPECT_EQ((*dataset)->ByteRow(0)[2], 5);
  EXPECT_EQ((*dataset)->ByteRow(0)[3], 13);
  std::vector<int> counts(10);
  for (const int32_t label : (*dataset)->labels()) ++counts[label];
  EXPECT_THAT(counts, ElementsAre(178, 182, 177, 183, 181, 182, 181, 179, 174, 180));
  EXPECT_EQ((*dataset)->memory_bytes(), 1797 * (64 + 4));
}

class IdxLoadTest : public ::testing::TestWithParam<bool> {};

TEST_P(IdxLoadTest, TrainAndTestRowsFollowEachOther) {
  const bool packed = GetParam();
  const DataFolder folder;
  const auto write = [&](const std::string& name, const std::string& bytes) {
    folder.Write("tiny/" + name + (packed ? ".gz" : ""), packed ? Gzip(bytes) : bytes);
  };
  write("train-images-idx3-ubyte", Idx(8, {2, 1, 3}, std::string("\x01\x02\x03\x04\x05\xff", 6)));
  write("train-labels-idx1-ubyte", Idx(8, {2}, std::string("\x04\x00", 2)));
  write("t10k-images-idx3-ubyte", Idx(8, {1, 1, 3}, "\x07\x08\x09"));
  write("t10k-labels-idx1-ubyte", Idx(8, {1}, "\x02"));
  const auto dataset = MustLoad(folder, Spec("tiny"));
  EXPECT_EQ(dataset->format(), "idx");
  EXPECT_EQ(dataset->train_rows(), 2);
  EXPECT_EQ(dataset->num_classes(), 5);
  EXPECT_THAT(Labels(*dataset), ElementsAre(4, 0, 2));
  EXPECT_THAT(Bytes(*dataset, 1), ElementsAre(4, 5, 255));
  EXPECT_THAT(Bytes(*dataset, 2), ElementsAre(7, 8, 9));
}

INSTANTIATE_TEST_SUITE_P(PlainAndGzip, IdxLoadTest, ::testing::Bool());

TEST(LoadTest, CifarBatchesAreReadInOrder) {
  const DataFolder folder;
  for (int i = 1; i <= 5; ++i) {
    folder.Write("c/data_batch_" + std::to_string(i) + ".bin", CifarRecord(i, 10 * i));
  }
  folder.Write("c/test_batch.bin.gz", Gzip(CifarRecord(7, 99) + CifarRecord(0, 98)));
  const auto dataset = MustLoad(folder, Spec("c"));
  EXPECT_EQ(dataset->format(), "cifar10");
  EXPECT_EQ(dataset->train_rows(), 5);
  EXPECT_EQ(dataset->num_classes(), 10);
  EXPECT_THAT(Labels(*dataset), ElementsAre(1, 2, 3, 4, 5, 7, 0));
  EXPECT_EQ(dataset->ByteRow(4)[3071], 50);
  EXPECT_EQ(dataset->ByteRow(5)[0], 99);
}

TEST(LoadTest, NpyBytesStayBytesAndFloatsBecomeFloat32) {
  const DataFolder folder;
  folder.Write("u/train_features.npy", Npy("|u1", "(2, 1, 2)", "\x01\x02\x03\x04"));
  folder.Write("u/train_labels.npy", Npy("<i8", "(2,)", Raw<int64_t>({1, 0})));
  const auto bytes = MustLoad(folder, Spec("u"));
  ASSERT_TRUE(bytes->is_bytes());
  EXPECT_THAT(Bytes(*bytes, 1), ElementsAre(3, 4));
  folder.Write("f/train_features.npy", Npy("<f8", "(2, 2)", Raw<double>({1, 2.5, -3, 4e10})));
  folder.Write("f/train_labels.npy", Npy("|u1", "(2,)", std::string("\x01\x00", 2)));
  folder.Write("f/test_features.npy", Npy("|u1", "(1, 2)", "\x05\x06"));
  folder.Write("f/test_labels.npy", Npy("<i4", "(1,)", Raw<int32_t>({2})));
  const auto floats = MustLoad(folder, Spec("f"));
  ASSERT_FALSE(floats->is_bytes());
  EXPECT_THAT(Floats(*floats, 1), ElementsAre(-3.0f, 4e10f));
  EXPECT_THAT(Floats(*floats, 2), ElementsAre(5.0f, 6.0f));
  EXPECT_EQ(floats->num_classes(), 3);
}

TEST(LoadTest, NpyIntegersThatFitAreStoredAsBytes) {
  const DataFolder folder;
  folder.Write("i/train_features.npy", Npy("<i4", "(2, 2)", Raw<int32_t>({0, 255, 7, 8})));
  folder.Write("i/train_labels.npy", Npy("<i4", "(2,)", Raw<int32_t>({0, 1})));
  EXPECT_TRUE(MustLoad(folder, Spec("i"))->is_bytes());
  folder.Write("i/train_features.npy", Npy("<i4", "(2, 2)", Raw<int32_t>({0, 255, 7, 256})));
  EXPECT_FALSE(MustLoad(folder, Spec("i"))->is_bytes());
}

TEST(LoadTest, CsvWidensEarlierRowsWhenALaterValueIsNotAByte) {
  const DataFolder folder;
  folder.Write("d/rows.csv", "1,255,0\n2,3,1\n-4,1e2,0\n0.5,6,1");
  const auto dataset = MustLoad(folder, Spec("d"));
  ASSERT_FALSE(dataset->is_bytes());
  EXPECT_THAT(Floats(*dataset, 0), ElementsAre(1.0f, 255.0f));
  EXPECT_THAT(Floats(*dataset, 1), ElementsAre(2.0f, 3.0f));
  EXPECT_THAT(Floats(*dataset, 2), ElementsAre(-4.0f, 100.0f));
  EXPECT_THAT(Floats(*dataset, 3), ElementsAre(0.5f, 6.0f));
  EXPECT_THAT(Labels(*dataset), ElementsAre(0, 1, 0, 1));
}

TEST(LoadTest, CsvHeaderBlankLinesQuotesAndLineEndsAreUnderstood) {
  const DataFolder folder;
  folder.Write("h/train.csv",
               "\xEF\xBB\xBFheight,width,kind\r\n 1 ,2,\"wild, cat\"\r\n\r\n+3,4,ant\r\n");
  folder.Write("h/test.csv.gz", Gzip("height,width,kind\n5,6,zebra\n7,8,ant\n"));
  const auto dataset = MustLoad(folder, Spec("h"));
  EXPECT_EQ(dataset->train_rows(), 2);
  EXPECT_THAT(dataset->class_names(), ElementsAre("ant", "wild, cat", "zebra"));
  EXPECT_THAT(Labels(*dataset), ElementsAre(1, 0, 2, 0));
  EXPECT_THAT(Bytes(*dataset, 1), ElementsAre(3, 4));
}

TEST(LoadTest, CsvLabelColumnCanBeTheFirst) {
  const DataFolder folder;
  folder.Write("l/a.csv", "3,10,20\n1,30,40\n");
  v1::DataSpec spec = Spec("l");
  spec.set_label_column("0");
  const auto dataset = MustLoad(folder, spec);
  EXPECT_THAT(Labels(*dataset), ElementsAre(3, 1));
  EXPECT_THAT(Bytes(*dataset, 0), ElementsAre(10, 20));
}

TEST(LoadTest, CsvLinesLongerThanTheReadBufferAreWhole) {
  const DataFolder folder;
  constexpr int kColumns = 300'000;
  std::string line;
  for (int i = 0; i < kColumns; ++i) line += std::to_string(i % 256) + ",";
  folder.Write("w/wide.csv", line + "1\n" + line + "0\n");
  const auto dataset = MustLoad(folder, Spec("w"));
  EXPECT_EQ(dataset->features(), kColumns);
  EXPECT_EQ(dataset->ByteRow(1)[kColumns - 1], (kColumns - 1) % 256);
}

TEST(LoadTest, GroupIdsAreReadFromQmnistNpyAndText) {
  const DataFolder folder;
  folder.Write("g/a.csv", "1,0\n2,1\n3,0\n");
  std::string rows;
  for (const uint32_t writer : {70000u, 5u, 70000u}) {
    rows += BigEndian(0) + BigEndian(1) + BigEndian(writer) + BigEndian(9);
  }
  folder.Write("g/writers-idx2-int.gz", Gzip(Idx(0x0C, {3, 4}, rows)));
  folder.Write("g/writers.npy", Npy("<i8", "(3,)", Raw<int64_t>({1, -2, 1})));
  folder.Write("g/writers.txt", "8\n9\n8\n");
  v1::DataSpec spec = Spec("g");
  spec.mutable_partition()->set_kind(v1::Partition::KIND_GROUPS);
  const auto groups = [&](const std::string& file) {
    spec.mutable_partition()->set_groups_file(file);
    const auto dataset = MustLoad(folder, spec);
    return std::vector<int64_t>(dataset->groups().begin(), dataset->groups().end());
  };
  EXPECT_THAT(groups("writers-idx2-int.gz"), ElementsAre(70000, 5, 70000));
  EXPECT_THAT(groups("writers.npy"), ElementsAre(1, -2, 1));
  EXPECT_THAT(groups("writers.txt"), ElementsAre(8, 9, 8));
}

TEST(LoadTest, AMissingDataSetListsThoseThatAreThere) {
  const DataFolder folder;
  folder.Write("mnist/a.csv", "1,0\n");
  folder.Write("digits/a.csv", "1,0\n");
  const auto dataset = LoadDataset(folder.path(), Spec("minst"));
  EXPECT_EQ(dataset.status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(dataset.status()), "DATASET_NOT_FOUND");
  EXPECT_THAT(base::MessageOf(dataset.status()), HasSubstr("digits, mnist"));
  EXPECT_THAT(base::MessageOf(dataset.status()), Not(HasSubstr(folder.path())));
}

TEST(LoadTest, AMissingRootIsNotFound) {
  const auto dataset = LoadDataset("/nonexistent-data-root", Spec("digits"));
  EXPECT_EQ(base::ReasonOf(dataset.status()), "DATASET_NOT_FOUND");
}

TEST(LoadTest, AFileBeyondTheSizeLimitIsRefused) {
  const DataFolder folder;
  folder.Write("z/a.csv.gz", Gzip(std::string(1 << 20, '0') + ",1\n"));
  LoadOptions options;
  options.max_file_bytes = 1 << 16;
  const auto dataset = LoadDataset(folder.path(), Spec("z"), options);
  EXPECT_EQ(base::ReasonOf(dataset.status()), "DATASET_TOO_LARGE");
  EXPECT_THAT(base::MessageOf(dataset.status()),
              AllOf(HasSubstr("z/a.csv.gz"), HasSubstr("65536 bytes after decompression")));
}

TEST(ScanTest, DescribesEveryFormatAndReportsWhatItCannotRead) {
  const DataFolder folder;
  folder.Write("a/train-images-idx3-ubyte", Idx(8, {2, 1, 3}, "abcdef"));
  folder.Write("a/train-labels-idx1-ubyte", Idx(8, {2}, std::string("\x04\x00", 2)));
  folder.Write("b/cifar10-mini-train.bin.gz", Gzip(CifarRecord(1, 2) + CifarRecord(3, 4)));
  folder.Write("b/cifar10-mini-test.bin", CifarRecord(1, 2));
  folder.Write("c/train_features.npy", Npy("<f4", "(1, 2)", Raw<float>({1, 2})));
  folder.Write("c/train_labels.npy", Npy("<i4", "(1,)", Raw<int32_t>({0})));
  folder.Write("d/train.csv", "1,2,cat\n3,4,dog\n");
  folder.Write("d/test.csv", "1,2,eel\n");
  folder.Write("e/notes.md", "nothing here");
  folder.Write("Not-A-Name/a.csv", "1,2\n");
  std::vector<std::string> problems;
  std::vector<std::string> lines;
  for (const v1::DatasetInfo& info : ScanDataRoot(folder.path(), problems)) {
    lines.push_back(info.name() + " " + info.format() + " " + std::to_string(info.features()) +
                    " " + std::to_string(info.classes()) + " " +
                    std::to_string(info.train_examples()) + " " +
                    std::to_string(info.test_examples()));
  }
  EXPECT_THAT(lines, ElementsAre("a idx 3 5 2 0", "b cifar10 3072 10 2 1", "c npy 2 1 1 0",
                                 "d csv 2 3 2 1", "e  0 0 0 0", "Not-A-Name  0 0 0 0"));
  EXPECT_THAT(problems, ElementsAre(HasSubstr("data set e: "), HasSubstr("to 'not-a-name'")));
}

TEST(DatasetCacheTest, KeepsTheMostRecentAndReadsChangedFilesAgain) {
  const DataFolder folder;
  for (const char* name : {"a", "b", "c"}) folder.Write(std::string(name) + "/x.csv", "1,0\n2,1\n");
  DatasetCache cache(folder.path(), 2);
  const auto get = [&](const std::string& name) {
    const auto dataset = cache.Get(Spec(name));
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return *dataset;
  };
  const auto a = get("a");
  const auto b = get("b");
  EXPECT_EQ(get("a"), a);
  get("c");  // evicts b
  EXPECT_EQ(get("a"), a);
  EXPECT_NE(get("b"), b);
  folder.Write("a/x.csv", "1,0\n2,1\n3,1\n");
  EXPECT_EQ(get("a")->size(), 3);
  EXPECT_EQ(a->size(), 2);
}

TEST(DatasetTest, ModelsThatDoNotFitAreRefusedWithTheFirstBadRow) {
  const DataFolder folder;
  folder.Write("a/x.csv", "1,2,0\n3,4,3\n");
  const auto dataset = MustLoad(folder, Spec("a"));
  EXPECT_TRUE(CheckFits(*dataset, 2, 4).ok());
  EXPECT_THAT(base::MessageOf(CheckFits(*dataset, 3, 4)), HasSubstr("2 features"));
  const absl::Status labels = CheckFits(*dataset, 2, 3);
  EXPECT_EQ(base::ReasonOf(labels), "DATASET_INVALID");
  EXPECT_THAT(base::MessageOf(labels), HasSubstr("row 1"));
  EXPECT_THAT(base::MessageOf(labels), HasSubstr("label 3"));
}

}  // namespace
}  // namespace espalier::worker::data
