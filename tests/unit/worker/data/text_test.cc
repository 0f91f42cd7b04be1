#include "worker/data/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::worker::data {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

v1::DataSpec Spec(int64_t context, int64_t stride = 0, const std::string& tokenizer = "") {
  v1::DataSpec spec;
  spec.set_dataset("corpus");
  spec.mutable_text()->set_context(context);
  spec.mutable_text()->set_stride(stride);
  spec.mutable_text()->set_tokenizer(tokenizer);
  return spec;
}

std::string Row(const Dataset& dataset, int64_t row) {
  EXPECT_TRUE(dataset.is_bytes());
  return {reinterpret_cast<const char*>(dataset.ByteRow(row)),
          static_cast<size_t>(dataset.features())};
}

TEST(TextTest, BytesAreCutIntoExamplesWithTheNextByteAsLabel) {
  const DataFolder folder;
  folder.Write("corpus/train.txt", "abcdefghijk");
  folder.Write("corpus/test.txt", "uvwxyz");
  const auto dataset = LoadDataset(folder.path(), Spec(4)).value();
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->train_rows(), 2);
  EXPECT_EQ(Row(*dataset, 0), "abcd");
  EXPECT_EQ(dataset->label(0), 'e');
  EXPECT_EQ(Row(*dataset, 1), "efgh");
  EXPECT_EQ(dataset->label(1), 'i');
  EXPECT_EQ(Row(*dataset, 2), "uvwx");
  EXPECT_EQ(dataset->num_classes(), 'z' + 1);
  EXPECT_EQ(dataset->format(), "text");
}

TEST(TextTest, StrideOverlapsExamples) {
  const DataFolder folder;
  folder.Write("corpus/train.txt", "abcdefg");
  const auto dataset = LoadDataset(folder.path(), Spec(4, 1)).value();
  ASSERT_EQ(dataset->size(), 3);
  EXPECT_EQ(Row(*dataset, 2), "cdef");
  EXPECT_EQ(dataset->label(2), 'g');
}

TEST(TextTest, OneTextFileOfAnyNameWillDoAndMayBeCompressed) {
  const DataFolder folder;
  folder.Write("corpus/input.txt.gz", Gzip("abcdefghi"));
  folder.Write("corpus/readme.md", "x");
  EXPECT_EQ(LoadDataset(folder.path(), Spec(4)).value()->size(), 2);
  std::vector<std::string> problems;
  const auto found = ScanDataRoot(folder.path(), problems);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].format(), "text");
  EXPECT_EQ(found[0].features(), 0);
}

TEST(TextTest, TokenFilesAreReadInTheirWidth) {
  const DataFolder folder;
  folder.Write("corpus/train.bin", std::string("\x01\x00\x02\x01\x03\x00\x04\x00\x05\x00", 10));
  const DataRoot root = DataRoot::Open(folder.path()).value();
  EXPECT_THAT(LoadTextTokens(root, Spec(2, 0, "uint16"))->train, ElementsAre(1, 258, 3, 4, 5));
  const auto dataset = LoadDataset(folder.path(), Spec(2, 0, "uint16")).value();
  EXPECT_FALSE(dataset->is_bytes());
  EXPECT_EQ(dataset->FloatRow(0)[1], 258.0f);
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), Spec(2, 0, "uint32")).status()),
            "TOKENS_INVALID");
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), Spec(2)).status()), "DATA_SPEC_INVALID");
}

TEST(TextTest, WhatIsMissingIsNamed) {
  const DataFolder folder;
  folder.Write("corpus/a.txt", "abcdefg");
  folder.Write("corpus/b.txt", "abcdefg");
  const absl::Status names = LoadDataset(folder.path(), Spec(4)).status();
  EXPECT_EQ(base::ReasonOf(names), "DATASET_INVALID");
  EXPECT_THAT(base::MessageOf(names), HasSubstr("rename"));
  folder.Write("corpus/train.txt", "abcd");
  const absl::Status brief = LoadDataset(folder.path(), Spec(4)).status();
  EXPECT_THAT(base::MessageOf(brief), HasSubstr("at least 5 tokens"));
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), Spec(3, 0, "file")).status()),
            "TOKENIZER_NOT_FOUND");
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), Spec(3, 0, "uint16")).status()),
            "DATA_SPEC_INVALID");
  folder.Write("corpus/tokenizer.bin", "no tokenizer");
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), Spec(3, 0, "file")).status()),
            "TOKENIZER_INVALID");
}

}  // namespace
}  // namespace espalier::worker::data
