// tokenizer.json. What texts encode to is what Hugging Face's `tokenizers` says of the same files.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/language/tokenizer.h"

namespace espalier::language {
namespace {

using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kLlama3Words[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::string Utf8(int code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | code >> 6), static_cast<char>(0x80 | (code & 0x3f))};
}

json Special(const std::string& content, int id) {
  return {{"id", id}, {"content", content}, {"special", true}};
}

// Tokens 0 to 255 are the bytes, then the unions of `merges`, then two more.
json ByteLevel() {
  json vocabulary = json::object();
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool own = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte != 0xad);
    vocabulary[Utf8(own ? byte : next++)] = byte;
  }
  const std::vector<std::vector<std::string>> merges = {
      {"l", "l"}, {"h", "e"}, {"he", "ll"}, {"hell", "o"}, {"Ġ", "w"}, {"o", "r"}, {"Ġw", "or"},
      {"1", "2"}, {"3", "4"}, {"12", "34"}, {"Ġ", "Ġ"},    {"'", "s"}, {"Ã", "¤"}};
  for (const auto& merge : merges) {
    vocabulary[merge[0] + merge[1]] = static_cast<int>(vocabulary.size());
  }
  vocabulary["<|endoftext|>"] = 269;
  vocabulary["Ġworld"] = 270;  // no merge makes it
  return {{"added_tokens", {Special("<|endoftext|>", 269)}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
}

json Llama3(bool whole_words) {
  json file = ByteLevel();
  const json split = {{"type", "Split"},
                      {"pattern", {{"Regex", kLlama3Words}}},
                      {"behavior", "Isolated"},
                      {"invert", false}};
  json bytes = file["pre_tokenizer"];
  bytes["use_regex"] = false;
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
  file["model"]["ignore_merges"] = whole_words;
  return file;
}

// Tokens 3 to 258 are the bytes; spaces are written ▁.
json Llama2(bool metaspace) {
  json vocabulary = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof(text), "<0x%02X>", byte);
    vocabulary[text] = 3 + byte;
  }
  for (const char* piece : {"▁", "a", "b", "c", "ä", "▁a", "bc", "ab", "abc", "▁ab"}) {
    vocabulary[piece] = static_cast<int>(vocabulary.size());
  }
  const json merges = {"▁ a", "b c", "a b", "ab c", "▁a b"};
  const json prepend = {{"type", "Prepend"}, {"prepend", "▁"}};
  const json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "▁"}};
  json file = {{"added_tokens", {Special("<unk>", 0), Special("<s>", 1), Special("</s>", 2)}},
               {"post_processor",
                {{"type", "TemplateProcessing"},
                 {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}}},
               {"model",
                {{"type", "BPE"},
                 {"unk_token", "<unk>"},
                 {"byte_fallback", true},
                 {"vocab", vocabulary},
                 {"merges", merges}}}};
  if (metaspace) {
    file["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  } else {
    file["normalizer"] = {{"type", "Sequence"}, {"normalizers", {prepend, replace}}};
  }
  return file;
}

std::unique_ptr<Tokenizer> Parse(const json& file) {
  auto tokenizer = ParseTokenizer("tokenizer.json", file.dump());
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return *std::move(tokenizer);
}

std::string Refusal(const json& file) {
  const auto tokenizer = ParseTokenizerJson(file.dump());
  EXPECT_EQ(base::ReasonOf(tokenizer.status()), "TOKENIZER_INVALID");
  return std::string(base::MessageOf(tokenizer.status()));
}

TEST(TokenizerJsonTest, BytesAreMergedWithinTheWordsOfGpt2) {
  const auto tokenizer = Parse(ByteLevel());
  EXPECT_EQ(tokenizer->size(), 271);
  EXPECT_EQ(tokenizer->bos(), -1);
  EXPECT_EQ(tokenizer->eos(), 269);
  EXPECT_THAT(tokenizer->Encode("hello world"), ElementsAre(259, 262, 108, 100));
  EXPECT_THAT(tokenizer->Encode("hello's ä  1234 \n\n x"),
              ElementsAre(259, 267, 32, 268, 32, 32, 265, 32, 10, 10, 32, 120));
  EXPECT_THAT(tokenizer->Encode(" world 12345"), ElementsAre(262, 108, 100, 32, 265, 53));
}

TEST(TokenizerJsonTest, Llama3HasOtherWordsAndTakesWholeOnes) {
  const auto merging = Parse(Llama3(false));
  EXPECT_THAT(merging->Encode("hello world"), ElementsAre(259, 262, 108, 100));
  EXPECT_THAT(merging->Encode("hello's ä  1234 \n\n x"),
              ElementsAre(259, 267, 32, 268, 32, 32, 263, 51, 52, 32, 10, 10, 32, 120));
  const auto whole = Parse(Llama3(true));
  EXPECT_THAT(whole->Encode("hello world"), ElementsAre(259, 270));
  EXPECT_THAT(whole->Encode(" world 12345"), ElementsAre(270, 32, 263, 51, 52, 53));
}

TEST(TokenizerJsonTest, CodePointsFallBackToBytesAsInLlama2) {
  const auto always = Parse(Llama2(false));
  EXPECT_EQ(always->bos(), 1);
  EXPECT_EQ(always->eos(), 2);
  EXPECT_THAT(always->Encode("abc ab"), ElementsAre(264, 265, 268));
  EXPECT_THAT(always->Encode("a ä é"), ElementsAre(264, 259, 263, 259, 198, 172));
  EXPECT_THAT(always->Encode(" abc"), ElementsAre(259, 264, 265));
  const auto unless_there = Parse(Llama2(true));
  EXPECT_THAT(unless_there->Encode("abc ab"), ElementsAre(264, 265, 268));
  EXPECT_THAT(unless_there->Encode(" abc"), ElementsAre(264, 265));
}

TEST(TokenizerJsonTest, AnyBytesSurvive) {
  base::Rng rng(base::StreamKey(3, "bytes", {}));
  for (const json& file : {ByteLevel(), Llama3(true), Llama2(false)}) {
    const auto tokenizer = Parse(file);
    for (int length = 0; length < 200; ++length) {
      std::string text;
      // Text, spaces and bytes that are no UTF-8.
      for (int i = 0; i < length; ++i) {
        const char* const some[] = {"he", "ll", " ",  "\n",   "1",
                                    "'s", "ä",  "漢", "\xc3", "\xed\xa0"};
        text += rng.Below(4) == 0 ? std::string(1, static_cast<char>(rng.Below(256)))
                                  : some[rng.Below(10)];
      }
      EXPECT_EQ(tokenizer->Decode(tokenizer->Encode(text)), text);
    }
    EXPECT_EQ(tokenizer->Decode(std::vector<int32_t>{-1, 100'000}), "");
  }
}

TEST(TokenizerJsonTest, WhatIsNotComputedIsNamed) {
  const auto changed = [](json file, const char* pointer, const json& value) {
    file[json::json_pointer(pointer)] = value;
    return Refusal(file);
  };
  EXPECT_THAT(changed(ByteLevel(), "/model/type", "Unigram"), HasSubstr("found 'Unigram'"));
  EXPECT_THAT(changed(ByteLevel(), "/normalizer", {{"type", "NFC"}}), HasSubstr("found 'NFC'"));
  EXPECT_THAT(changed(ByteLevel(), "/pre_tokenizer/add_prefix_space", true),
              HasSubstr("add_prefix_space: false"));
  EXPECT_THAT(changed(ByteLevel(), "/model/continuing_subword_prefix", "##"),
              HasSubstr("continuing_subword_prefix"));
  EXPECT_THAT(changed(ByteLevel(), "/added_tokens/0/special", false),
              HasSubstr("found '<|endoftext|>'"));
  EXPECT_THAT(changed(Llama3(true), "/pre_tokenizer/pretokenizers/0/pattern/Regex", "(a+)+$"),
              HasSubstr("found the pattern '(a+)+$'"));
  EXPECT_THAT(changed(Llama3(true), "/pre_tokenizer/pretokenizers/0/behavior", "Removed"),
              HasSubstr("behavior Isolated"));
  EXPECT_THAT(changed(Llama2(false), "/model/byte_fallback", false), HasSubstr("byte_fallback"));
  EXPECT_THAT(changed(Llama2(true), "/pre_tokenizer/split", true), HasSubstr("split: false"));
  EXPECT_THAT(changed(Llama2(false), "/normalizer/normalizers/0/prepend", "_"),
              HasSubstr("found 'Prepend'"));
}

TEST(TokenizerJsonTest, DamagedFilesAreRefused) {
  const auto changed = [](json file, const char* pointer, const json& value) {
    file[json::json_pointer(pointer)] = value;
    return Refusal(file);
  };
  EXPECT_THAT(changed(ByteLevel(), "/model/vocab/h", 101), HasSubstr("twice"));
  EXPECT_THAT(changed(ByteLevel(), "/model/vocab/h", 4'000'000'000), HasSubstr("4000000000"));
  EXPECT_THAT(changed(ByteLevel(), "/model/vocab/h", -1), HasSubstr("number of token 'h'"));
  EXPECT_THAT(changed(ByteLevel(), "/model/vocab/漢", 271), HasSubstr("found '漢'"));
  EXPECT_THAT(changed(ByteLevel(), "/added_tokens/0/id", 5), HasSubstr("two numbers"));
  EXPECT_THAT(changed(ByteLevel(), "/model/merges/0", {"l", "x"}), HasSubstr("'l' and 'x'"));
  EXPECT_THAT(changed(ByteLevel(), "/model/merges/0", "ll"), HasSubstr("merge 0"));
  EXPECT_THAT(changed(ByteLevel(), "/model/merges", 3), HasSubstr("model.merges"));
  json short_of_bytes = Llama2(false);
  short_of_bytes["model"]["vocab"].erase("<0x41>");
  EXPECT_THAT(Refusal(short_of_bytes), HasSubstr("byte 65"));
  for (const char* text : {"", "[]", "{}", "{\"model\": 1}", "{\"model\": {}, \"model\": {}}"}) {
    EXPECT_FALSE(ParseTokenizerJson(text).ok()) << text;
  }
}

}  // namespace
}  // namespace espalier::language
