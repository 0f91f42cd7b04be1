// One row per way a data file can be broken: what the error must name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct File {
  std::string name;
  std::string bytes;
};

struct Corruption {
  std::string name;
  std::vector<File> files;
  std::vector<std::string> message_parts;
  std::string groups_file = {};
  int label_column = -1;
};

File Images(std::string bytes) { return {"train-images-idx3-ubyte", std::move(bytes)}; }
File Labels(std::string bytes) { return {"train-labels-idx1-ubyte", std::move(bytes)}; }
File Csv(std::string bytes) { return {"train.csv", std::move(bytes)}; }
File Features(std::string bytes) { return {"train_features.npy", std::move(bytes)}; }

std::string GoodLabels() { return Idx(8, {2}, std::string("\x01\x00", 2)); }
std::string GoodNpyLabels() { return Npy("<i4", "(2,)", Raw<int32_t>({0, 1})); }

std::string Truncated(std::string bytes, size_t removed) {
  bytes.resize(bytes.size() - removed);
  return bytes;
}

std::vector<Corruption> IdxCorruptions() {
  const std::string images = Idx(8, {2, 1, 3}, "abcdef");
  return {
      {"IdxImagesMissing", {Labels(GoodLabels())}, {"x/train-images-idx3-ubyte", "no such file"}},
      {"IdxLabelsMissing", {Images(images)}, {"x/train-labels-idx1-ubyte", "no such file"}},
      {"IdxTestLabelsMissing",
       {Images(images), Labels(GoodLabels()), {"t10k-images-idx3-ubyte", images}},
       {"x/t10k-labels-idx1-ubyte"}},
      {"IdxEmpty", {Images(""), Labels(GoodLabels())}, {"train-images", "empty file"}},
      {"IdxWrongMagic",
       {Images("PK\x03\x04zip"), Labels(GoodLabels())},
       {"train-images", "50 4b 03 04"}},
      {"IdxHeaderCut",
       {Images(images.substr(0, 9)), Labels(GoodLabels())},
       {"IDX header", "truncated"}},
      {"IdxTruncated",
       {Images(Truncated(images, 1)), Labels(GoodLabels())},
       {"rows 0 to 1", "only 5"}},
      {"IdxTrailing", {Images(images + "!"), Labels(GoodLabels())}, {"2 x 1 x 3", "more bytes"}},
      {"IdxZeroDimension",
       {Images(Idx(8, {0, 1, 3}, "")), Labels(GoodLabels())},
       {"dimension 0", "found 0"}},
      {"IdxHugeDimensions",
       {Images(Idx(8, {0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}, "")), Labels(GoodLabels())},
       {"dimension"}},
      {"IdxDeclaresMoreThanThereIs",
       {Images(Idx(8, {1000000, 28, 28}, "abc")), Labels(Idx(8, {1000000}, "abc"))},
       {"train-labels", "row 3"}},
      {"IdxCountMismatch",
       {Images(images), Labels(Idx(8, {3}, "\x01\x01\x02"))},
       {"train-labels", "expected 2 labels", "found 3"}},
      {"IdxSwapped", {Images(GoodLabels()), Labels(images)}, {"train-images", "mixed up"}},
      {"IdxTestShape",
       {Images(images),
        Labels(GoodLabels()),
        {"t10k-images-idx3-ubyte", Idx(8, {2, 2}, "abcd")},
        {"t10k-labels-idx1-ubyte", GoodLabels()}},
       {"t10k-images", "expected 3 features", "found 2"}},
      {"GzipTruncated",
       {{"train-images-idx3-ubyte.gz", Truncated(Gzip(Idx(8, {2, 1, 3}, "abcdef")), 12)},
        Labels(GoodLabels())},
       {"train-images-idx3-ubyte.gz", "truncated gzip"}},
      {"GzipDamaged",
       {{"train.csv.gz",
         [] {
           std::string bytes = Gzip("1,2,0\n3,4,1\n");
           bytes[bytes.size() - 6] ^= 0x55;
           return bytes;
         }()}},
       {"train.csv.gz", "gzip -t"}},
  };
}

std::vector<Corruption> OtherCorruptions() {
  return {
      {"NoData", {{"readme.txt", "hello"}}, {"data set x:", "none of them"}},
      {"SeveralCsv",
       {{"a.csv", "1,0\n"}, {"b.csv", "1,0\n"}},
       {"several CSV files (a.csv, b.csv)"}},
      {"CifarEmpty", {{"cifar10-mini-train.bin", ""}}, {"cifar10-mini-train.bin", "empty file"}},
      {"CifarTruncated",
       {{"cifar10-mini-train.bin", CifarRecord(1, 1) + CifarRecord(2, 2).substr(0, 100)}},
       {"row 1", "3073", "found 100 bytes"}},
      {"CifarLabel",
       {{"cifar10-mini-train.bin", CifarRecord(1, 1) + CifarRecord(10, 2)}},
       {"row 1", "0..9", "found 10"}},
      {"CifarBatchMissing", {{"data_batch_1.bin", CifarRecord(1, 1)}}, {"x/data_batch_2.bin"}},
      {"NpyMagic",
       {Features("hello, world"), {"train_labels.npy", GoodNpyLabels()}},
       {"x/train_features.npy", "version 1 to 3"}},
      {"NpyType",
       {Features(Npy(">f4", "(2, 1)", "12345678")), {"train_labels.npy", GoodNpyLabels()}},
       {"dtype", ">f4"}},
      {"NpyFortran",
       {Features(Npy("|u1", "(2, 2)", "1234", "True")), {"train_labels.npy", GoodNpyLabels()}},
       {"C order", "True"}},
      {"NpyShape",
       {Features(Npy("|u1", "(2, -2)", "1234")), {"train_labels.npy", GoodNpyLabels()}},
       {"shape"}},
      {"NpyHugeShape",
       {Features(Npy("|u1", "(9223372036854775807, 9)", "1234")),
        {"train_labels.npy", GoodNpyLabels()}},
       {"shape"}},
      {"NpyHugeRow",
       {Features(Npy("<f8", "(2, 1000000000)", "12345678")), {"train_labels.npy", GoodNpyLabels()}},
       {"row 0", "only 8"}},
      {"NpyTruncated",
       {Features(Npy("<f4", "(2, 1)", "123456")), {"train_labels.npy", GoodNpyLabels()}},
       {"row 1", "4 bytes", "only 2"}},
      {"NpyTrailing",
       {Features(Npy("|u1", "(2, 1)", "123")), {"train_labels.npy", GoodNpyLabels()}},
       {"more bytes"}},
      {"NpyNotFinite",
       {Features(Npy("<f4", "(2, 1)", Raw<float>({1, NAN}))),
        {"train_labels.npy", GoodNpyLabels()}},
       {"row 1, column 0", "nan"}},
      {"NpyFloatLabels",
       {Features(Npy("|u1", "(2, 1)", "12")), {"train_labels.npy", Npy("<f4", "(2,)", "12345678")}},
       {"x/train_labels.npy", "integer"}},
      {"NpyNegativeLabel",
       {Features(Npy("|u1", "(2, 1)", "12")),
        {"train_labels.npy", Npy("<i4", "(2,)", Raw<int32_t>({0, -1}))}},
       {"row 1", "found -1"}},
      {"NpyCountMismatch",
       {Features(Npy("|u1", "(3, 1)", "123")), {"train_labels.npy", GoodNpyLabels()}},
       {"expected 3 labels", "found 2"}},
      {"GroupsCount",
       {Csv("1,0\n2,1\n"), {"g.txt", "1\n"}},
       {"x/g.txt", "expected 2 group ids", "found 1"},
       "g.txt"},
      {"GroupsWord",
       {Csv("1,0\n2,1\n"), {"g.txt", "1\nbob\n"}},
       {"x/g.txt", "line 2", "'bob'"},
       "g.txt"},
      {"GroupsIdxHugeColumns",
       {Csv("1,0\n2,1\n"), {"g-idx2-int", Idx(0x0C, {2, 0x7FFFFFFF}, "")}},
       {"x/g-idx2-int", "group"},
       "g-idx2-int"},
  };
}

std::vector<Corruption> CsvCorruptions() {
  return {
      {"CsvEmpty", {Csv("")}, {"x/train.csv", "empty file"}},
      {"CsvHeaderOnly", {Csv("a,b,c\n")}, {"x/train.csv", "none below the names"}},
      {"CsvOneColumn", {Csv("1\n2\n")}, {"at least 2 columns", "found 1"}},
      {"CsvRagged", {Csv("a,b,c\n1,2,0\n1,2\n")}, {"line 3", "expected 3 columns", "found 2"}},
      {"CsvRaggedTest",
       {Csv("1,2,0\n"), {"test.csv", "1,2,3,0\n"}},
       {"x/test.csv", "line 1", "found 4"}},
      {"CsvWord", {Csv("1,2,0\n3,four,1\n")}, {"line 2, column 2", "'four'"}},
      {"CsvWordInFirstLine", {Csv("1,2,three,4,0\n5,6,7,8,1\n")}, {"line 1, column 3", "'three'"}},
      {"CsvEmptyCell", {Csv("1,2,0\n3,,1\n")}, {"line 2, column 2", "empty cell"}},
      {"CsvNan", {Csv("1,2,0\nnan,2,1\n")}, {"line 2, column 1", "'nan'"}},
      {"CsvTooLarge", {Csv("1,2,0\n1e39,2,1\n")}, {"line 2, column 1", "'1e39'"}},
      {"CsvControlCharacters", {Csv("1,2,0\n\x1b[31m,2,1\n")}, {"'?[31m'"}},
      {"CsvOpenQuote", {Csv("1,2,0\n1,2,\"cat\n")}, {"line 2", "double quotes"}},
      {"CsvFractionalLabel", {Csv("1,2,0\n1,2,0.5\n")}, {"line 2, column 3", "'0.5'"}},
      {"CsvEmptyLabel", {Csv("1,2,0\n1,2,\n")}, {"line 2, column 3", "empty cell"}},
      {"CsvNegativeLabel", {Csv("1,2,0\n1,2,-1\n")}, {"line 2, column 3", "found -1"}},
      {"CsvHugeLabel", {Csv("1,2,0\n1,2,1000000\n")}, {"line 2, column 3", "found 1000000"}},
      {"CsvLabelColumn", {Csv("1,2,0\n")}, {"label column 7", "columns 0 to 2"}, "", 7},
  };
}

class CorruptionTest : public ::testing::TestWithParam<Corruption> {};

TEST_P(CorruptionTest, IsReportedWithFilePlaceAndFix) {
  const DataFolder folder;
  for (const File& file : GetParam().files) folder.Write("x/" + file.name, file.bytes);
  v1::DataSpec spec;
  spec.set_dataset("x");
  spec.set_label_column(std::to_string(GetParam().label_column));
  if (!GetParam().groups_file.empty()) {
    spec.mutable_partition()->set_kind(v1::Partition::KIND_GROUPS);
    spec.mutable_partition()->set_groups_file(GetParam().groups_file);
  }
  const auto dataset = LoadDataset(folder.path(), spec);
  ASSERT_FALSE(dataset.ok());
  EXPECT_EQ(base::ReasonOf(dataset.status()), "DATASET_INVALID");
  const std::string message = base::MessageOf(dataset.status());
  for (const std::string& part : GetParam().message_parts) EXPECT_THAT(message, HasSubstr(part));
  EXPECT_THAT(message, AllOf(HasSubstr("expected"), HasSubstr("found"), HasSubstr("to fix it")));
  EXPECT_THAT(message, Not(HasSubstr(folder.path())));
}

std::string NameOf(const ::testing::TestParamInfo<Corruption>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Idx, CorruptionTest, ::testing::ValuesIn(IdxCorruptions()), NameOf);
INSTANTIATE_TEST_SUITE_P(Csv, CorruptionTest, ::testing::ValuesIn(CsvCorruptions()), NameOf);
INSTANTIATE_TEST_SUITE_P(Others, CorruptionTest, ::testing::ValuesIn(OtherCorruptions()), NameOf);

}  // namespace
}  // namespace espalier::worker::data
