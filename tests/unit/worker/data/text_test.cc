#include "worker/data/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/json_lines.h"

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

TEST(JsonLinesTest, DocumentsAreSeparatedByLineEnds) {
  const DataFolder folder;
  folder.Write(
      "corpus/stories.jsonl",
      "\xEF\xBB\xBF{\"text\": \"ab\", \"n\": 1}\r\n\n{\"n\": 2, \"text\": \"c\\u00e9\\n\"}");
  const DataRoot root = DataRoot::Open(folder.path()).value();
  EXPECT_THAT(LoadTextTokens(root, Spec(2))->train,
              ElementsAre('a', 'b', '\n', 'c', 0xC3, 0xA9, '\n', '\n'));
}

TEST(JsonLinesTest, TrainAndTestMayBeCompressedAndHaveAnotherField) {
  const DataFolder folder;
  folder.Write("corpus/train.jsonl.gz", Gzip("{\"story\": \"abcd\"}\n"));
  folder.Write("corpus/test.jsonl", "{\"story\": \"wxyz\"}\n");
  v1::DataSpec spec = Spec(2);
  spec.mutable_text()->set_field("story");
  const auto dataset = LoadDataset(folder.path(), spec).value();
  EXPECT_EQ(dataset->train_rows(), 2);
  EXPECT_EQ(dataset->size(), 4);
  EXPECT_EQ(Row(*dataset, 2), "wx");
  const std::string message = base::MessageOf(LoadDataset(folder.path(), Spec(2)).status());
  EXPECT_THAT(message, HasSubstr("corpus/train.jsonl.gz, line 1"));
  EXPECT_THAT(message, HasSubstr("expected the field 'text', found 'story'"));
  EXPECT_THAT(message, HasSubstr("data.text.field"));
}

// A tokenizer that begins or ends every document.
class OneToken : public language::Tokenizer {
 public:
  OneToken(int32_t bos, int32_t eos) : bos_(bos), eos_(eos) {}
  int64_t size() const override { return 10; }
  std::vector<int32_t> Encode(std::string_view text) const override {
    return std::vector<int32_t>(text.size(), 7);
  }
  std::string Decode(std::span<const int32_t>, bool) const override { return ""; }
  int32_t bos() const override { return bos_; }
  int32_t eos() const override { return eos_; }

 private:
  int32_t bos_;
  int32_t eos_;
};

TEST(JsonLinesTest, TokenizersBeginOrEndEachDocument) {
  const DataFolder folder;
  folder.Write("corpus/a.jsonl", "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n");
  const DataRoot root = DataRoot::Open(folder.path()).value();
  const auto tokens = [&](const language::Tokenizer& tokenizer) {
    ByteStream stream =
        ByteStream::Open(root.OpenFile("corpus", "a.jsonl").value(), "a.jsonl", {}).value();
    return ReadJsonLines(stream, "text", tokenizer).value();
  };
  EXPECT_THAT(tokens(OneToken(1, 2)), ElementsAre(1, 7, 7, 1, 7));
  EXPECT_THAT(tokens(OneToken(-1, 2)), ElementsAre(7, 7, 2, 7, 2));
}

TEST(JsonLinesTest, LinesThatAreNoDocumentsAreNamed) {
  const std::vector<std::pair<std::string, std::string>> lines = {
      {"{\"text\": \"a\"", "expected one JSON object"},
      {"[\"a\"]", "expected one JSON object"},
      {"plain words", "found 'plain words'"},
      {"{\"text\": \"a\", \"text\": \"b\"}", "every key once"},
      {"{\"text\": \"\xFF\"}", "UTF-8"},
      {"{}", "no field at all"},
      {"{\"text\": 7}", "found the number '7'"},
      {"{\"text\": null}", "found the null 'null'"},
      {"{\"text\": [\"a\"]}", "found the array"}};
  for (const auto& [line, expected] : lines) {
    const DataFolder folder;
    folder.Write("corpus/train.jsonl", "{\"text\": \"abcdefg\"}\n" + line + "\n");
    const absl::Status status = LoadDataset(folder.path(), Spec(4)).status();
    EXPECT_EQ(base::ReasonOf(status), "DATASET_INVALID");
    EXPECT_THAT(base::MessageOf(status), HasSubstr("corpus/train.jsonl, line 2: ")) << line;
    EXPECT_THAT(base::MessageOf(status), HasSubstr(expected)) << line;
  }
  const DataFolder folder;
  folder.Write("corpus/train.jsonl", "\n \n");
  EXPECT_THAT(base::MessageOf(LoadDataset(folder.path(), Spec(4)).status()), HasSubstr("empty"));
}

TEST(JsonLinesTest, MemoryIsBounded) {
  const DataFolder folder;
  folder.Write("corpus/train.jsonl", "{\"text\": \"" + std::string(1 << 20, 'a') + "\"}\n");
  const auto dataset = LoadDataset(folder.path(), Spec(4), {.max_memory_bytes = 4 << 20});
  EXPECT_EQ(base::ReasonOf(dataset.status()), "DATASET_TOO_LARGE");
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
