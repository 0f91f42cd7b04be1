// Byte-pair encoding by a list of pairs, as in a tokenizer.json: of the adjacent pairs in the list
// the one that stands first there is merged, the leftmost on ties. Internal to this folder; use
// tokenizer.h.
//
// Threading: immutable after construction.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/language/bpe_merger.h"
#include "common/language/tokenizer.h"
#include "common/language/word_splitter.h"

namespace espalier::language {

// What a file says, checked: every byte has a token, and token numbers are below pieces.size().
struct PairBpeTables {
  // Of the space that a text begins with when it is encoded.
  enum class Prefix { kNone, kAlways, kUnlessThere };

  std::vector<std::string> pieces;                   // the text of each token; control tokens: ""
  std::unordered_map<std::string, int32_t> numbers;  // by text, without control and byte tokens
  std::unordered_map<uint64_t, BpeMerge> merges;     // by PairKey()
  std::array<int32_t, 256> bytes = {};
  bool byte_level = false;   // text is bytes at first; else code points, of unknown ones the bytes
  bool whole_words = false;  // a word that is a token is not merged together
  std::vector<std::unique_ptr<WordSplitter>> splitters;  // one after the other
  Prefix prefix = Prefix::kNone;
  int32_t bos = -1;
  int32_t eos = -1;
};

inline uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

class PairBpeTokenizer final : public Tokenizer {
 public:
  explicit PairBpeTokenizer(PairBpeTables tables) : tables_(std::move(tables)) {}

  int64_t size() const override { return static_cast<int64_t>(tables_.pieces.size()); }
  int32_t bos() const override { return tables_.bos; }
  int32_t eos() const override { return tables_.eos; }
  std::vector<int32_t> Encode(std::string_view text) const override;
  std::string Decode(std::span<const int32_t> tokens, bool continues) const override;

 private:
  void EncodeSplit(std::string_view text, size_t splitter, std::vector<int32_t>& tokens) const;
  void EncodeWord(std::string_view word, std::vector<int32_t>& tokens) const;
  // `word` before anything is merged.
  std::vector<int32_t> Symbols(std::string_view word) const;

  PairBpeTables tables_;
};

}  // namespace espalier::language
