#include "common/language/tokenizer.h"

#include <gmock/gmock.h>
#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace espalier::language {
namespace {

using testing::ElementsAre;

template <typename T>
void Put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// A file of llama2.c with the 259 tokens that all have, and these.
std::string Llama2cFile(const std::vector<std::pair<std::string, float>>& pieces) {
  std::string bytes;
  Put<int32_t>(bytes, 8);
  const auto add = [&](const std::string& text, float score) {
    Put(bytes, score);
    Put(bytes, static_cast<int32_t>(text.size()));
    bytes += text;
  };
  for (const char* special : {"<unk>", "\n<s>\n", "\n</s>\n"}) add(special, 0);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    add(text, 0);
  }
  for (const auto& [text, score] : pieces) add(text, score);
  return bytes;
}

std::unique_ptr<Tokenizer> Small() {
  return ParseLlama2cTokenizer(Llama2cFile({{" ", -9},
                                            {"a", -8},
                                            {"b", -7},
                                            {"c", -6},
                                            {"ab", -3},
                                            {"bc", -2},
                                            {"abc", -1},
                                            {" a", -4},
                                            {"ä", -5}}))
      .value();
}
constexpr int32_t kSpace = 259, kA = 260, kBc = 264, kSpaceA = 266, kUmlaut = 267, kAb = 263;

TEST(Llama2cTokenizerTest, MergesThePairOfHighestScoreFirst) {
  const auto tokenizer = Small();
  EXPECT_EQ(tokenizer->size(), 268);
  EXPECT_EQ(tokenizer->bos(), 1);
  // " abc": "bc" (−2) goes before "ab" (−3); then "abc" (−1) before " a" (−4).
  EXPECT_THAT(tokenizer->Encode("abc"), ElementsAre(kSpace, 265));
  EXPECT_THAT(tokenizer->Encode("ab"), ElementsAre(kSpace, kAb));
  EXPECT_THAT(tokenizer->Encode("a"), ElementsAre(kSpaceA));
  EXPECT_THAT(tokenizer->Encode("aä"), ElementsAre(kSpaceA, kUmlaut));
  EXPECT_THAT(tokenizer->Encode("xbc"), ElementsAre(kSpace, 3 + 'x', kBc));
  EXPECT_TRUE(tokenizer->Encode("").empty());
  (void)kA;
}

TEST(Llama2cTokenizerTest, AnyBytesSurvive) {
  const auto tokenizer = Small();
  base::Rng rng(base::StreamKey(1, "bytes"));
  for (int i = 0; i < 300; ++i) {
    std::string text(rng.Below(40), '\0');
    for (char& byte : text) {
      byte = rng.Below(2) == 0 ? "abc \xc3\xa4"[rng.Below(6)] : static_cast<char>(rng.Next32());
    }
    const auto tokens = tokenizer->Encode(text);
    for (const int32_t token : tokens) ASSERT_LT(token, tokenizer->size());
    ASSERT_EQ(tokenizer->Decode(tokens), text);
  }
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(" a"), true), "  a");
  EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{1, -5, 9999, kSpaceA, 2}), "a");
}

TEST(Llama2cTokenizerTest, DamagedFilesAreRefused) {
  const std::string file = Llama2cFile({{"a", -1}});
  const auto reason = [](const std::string& bytes) {
    return base::ReasonOf(ParseLlama2cTokenizer(bytes).status());
  };
  EXPECT_EQ(reason(file), "");
  for (size_t size = 0; size < file.size(); size += 7) {
    EXPECT_EQ(reason(file.substr(0, size)), "TOKENIZER_INVALID") << size;
  }
  std::string huge = file;
  const int32_t length = 0x7fffffff;
  std::memcpy(huge.data() + 8, &length, 4);
  EXPECT_EQ(reason(huge), "TOKENIZER_INVALID");
  std::string nan = file;
  std::memset(nan.data() + 4, 0xff, 4);
  EXPECT_EQ(reason(nan), "TOKENIZER_INVALID");
}

TEST(ByteTokenizerTest, AnyBytesSurvive) {
  const auto tokenizer = MakeByteTokenizer();
  std::string text;
  for (int i = 0; i < 256; ++i) text += static_cast<char>(i);
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
  EXPECT_EQ(tokenizer->size(), 256);
  EXPECT_EQ(tokenizer->bos(), -1);
}

using google::protobuf::UnknownFieldSet;

// A model of SentencePiece with <unk>, <s>, </s>, all bytes and some pieces.
std::string SentencePieceFile(uint64_t model_type = 2, uint64_t extra_type = 1) {
  UnknownFieldSet model;
  const auto add = [&](const std::string& text, float score, uint64_t type) {
    UnknownFieldSet piece;
    piece.AddLengthDelimited(1, text);
    piece.AddFixed32(2, std::bit_cast<uint32_t>(score));
    piece.AddVarint(3, type);
    piece.SerializeToString(model.AddLengthDelimited(1));
  };
  add("<unk>", 0, 2);
  add("<s>", 0, 3);
  add("</s>", 0, 3);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    add(text, 0, 6 - 1);
  }
  float score = -9;
  const std::string space = "\xe2\x96\x81";
  for (const std::string& text :
       {space, std::string("a"), std::string("b"), std::string("c"), std::string("ab"),
        std::string("bc"), std::string("abc"), space + "a"}) {
    add(text, score++, extra_type);
  }
  UnknownFieldSet trainer;
  trainer.AddVarint(3, model_type);
  trainer.SerializeToString(model.AddLengthDelimited(2));
  UnknownFieldSet normalizer;
  normalizer.AddVarint(4, 0);
  normalizer.SerializeToString(model.AddLengthDelimited(3));
  std::string bytes;
  model.SerializeToString(&bytes);
  return bytes;
}

TEST(SentencePieceTest, ModelsOfTypeBpeEncodeLikeLlama2c) {
  const auto tokenizer = ParseSentencePiece(SentencePieceFile()).value();
  EXPECT_EQ(tokenizer->bos(), 1);
  EXPECT_EQ(tokenizer->eos(), 2);
  EXPECT_THAT(tokenizer->Encode("abc"), ElementsAre(kSpaceA, kBc));
  EXPECT_THAT(tokenizer->Encode("a"), ElementsAre(kSpaceA));
  EXPECT_THAT(tokenizer->Encode("b a"), ElementsAre(kSpace, 261, kSpaceA));
  const std::string text = " x\xc3\xa4  abca\n";
  EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
}

TEST(SentencePieceTest, OtherModelsAreRefused) {
  EXPECT_EQ(base::ReasonOf(ParseSentencePiece(SentencePieceFile(1)).status()), "TOKENIZER_INVALID");
  EXPECT_EQ(base::ReasonOf(ParseSentencePiece(SentencePieceFile(2, 4)).status()),
            "TOKENIZER_INVALID");
  const std::string file = SentencePieceFile();
  for (size_t size = 0; size < file.size(); size += 13) {
    const absl::Status status = ParseSentencePiece(file.substr(0, size)).status();
    EXPECT_EQ(base::ReasonOf(status), "TOKENIZER_INVALID") << size;
  }
}

TEST(SentencePieceTest, OtherFilesAreRefused) {
  EXPECT_EQ(base::ReasonOf(ParseSentencePiece("").status()), "TOKENIZER_INVALID");
  EXPECT_EQ(base::ReasonOf(ParseSentencePiece("not a model").status()), "TOKENIZER_INVALID");
}

TEST(TokenizerFileTest, IsFoundByName) {
  EXPECT_EQ(TokenizerFileAmong(std::vector<std::string>{"config.json", "tok512.bin"}),
            "tok512.bin");
  EXPECT_EQ(TokenizerFileAmong(std::vector<std::string>{"tok512.bin", "tokenizer.model"}),
            "tokenizer.model");
  EXPECT_EQ(TokenizerFileAmong(std::vector<std::string>{"token.bin", "tok.bin"}), "");
  const std::string empty = testing::TempDir() + "espalier_no_tokenizer";
  std::filesystem::create_directories(empty);
  EXPECT_EQ(base::ReasonOf(LoadTokenizer(empty).status()), "TOKENIZER_NOT_FOUND");
  EXPECT_THAT(base::MessageOf(LoadTokenizer(empty).status()), testing::HasSubstr(empty));
  EXPECT_EQ(base::ReasonOf(LoadTokenizer(empty + "/none.bin").status()), "TOKENIZER_NOT_FOUND");
}

TEST(TokenizerFileTest, FolderFileOrBytes) {
  const std::string folder = testing::TempDir() + "espalier_tokenizer";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/tok1.bin", std::ios::binary) << Llama2cFile({{"a", -1}});
  for (const std::string& path : {folder, folder + "/tok1.bin"}) {
    EXPECT_EQ(LoadTokenizer(path).value()->size(), 260) << path;
  }
  EXPECT_EQ(LoadTokenizer("bytes").value()->size(), 256);
}

TEST(TokenFileTest, FixedWidthTokensAreReadAndChecked) {
  std::string bytes;
  for (const uint16_t token : {3, 511, 0}) Put(bytes, token);
  EXPECT_THAT(ParseTokenFile(bytes, 2, 512).value(), ElementsAre(3, 511, 0));
  EXPECT_EQ(base::ReasonOf(ParseTokenFile(bytes, 2, 511).status()), "TOKENS_INVALID");
  EXPECT_EQ(base::ReasonOf(ParseTokenFile(bytes, 4, 512).status()), "TOKENS_INVALID");
  EXPECT_EQ(base::ReasonOf(ParseTokenFile(bytes, 3, 512).status()), "TOKENS_INVALID");
}

std::string Npy(const std::string& header, const std::string& data) {
  std::string bytes("\x93NUMPY\x01\x00", 8);
  Put(bytes, static_cast<uint16_t>(header.size()));
  return bytes + header + data;
}

TEST(TokenFileTest, NpyVectorsAreReadAndChecked) {
  std::string data;
  for (const int32_t token : {3, 500, 0}) Put(data, token);
  const std::string header = "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }\n";
  EXPECT_THAT(ParseTokenNpy(Npy(header, data), 512).value(), ElementsAre(3, 500, 0));
  const auto reason = [](const std::string& bytes) {
    return base::ReasonOf(ParseTokenNpy(bytes, 512).status());
  };
  EXPECT_EQ(reason(""), "TOKENS_INVALID");
  EXPECT_EQ(reason(Npy(header, data).substr(0, 30)), "TOKENS_INVALID");
  EXPECT_EQ(reason(Npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", data)),
            "TOKENS_INVALID");
  EXPECT_EQ(reason(Npy("{'descr': '<i4', 'fortran_order': False, 'shape': (3, 1), }", data)),
            "TOKENS_INVALID");
  EXPECT_EQ(reason(Npy("{'descr': '<i4', 'shape': (3,), }", data)), "TOKENS_INVALID");
  std::string negative;
  Put<int32_t>(negative, -1);
  EXPECT_EQ(reason(Npy(header, negative)), "TOKENS_INVALID");
}

}  // namespace
}  // namespace espalier::language
