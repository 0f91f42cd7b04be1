// Byte-pair encoding with scores and byte fallback, as llama2.c and SentencePiece (model type BPE)
// do it: text is cut into code points, and then always the adjacent pair whose union has the
// highest score is merged, the leftmost on ties. Internal to this folder; use tokenizer.h.
//
// Cost:      O(n log n) for n bytes of text.
// Threading: immutable after construction.
// Source:    Sennrich, Haddow and Birch 2016; Kudo and Richardson 2018.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/language/bpe_merger.h"
#include "common/language/tokenizer.h"

namespace espalier::language {

struct BpePiece {
  enum class Kind { kNormal, kControl, kByte };
  std::string text;  // of a byte token: that byte
  float score = 0;
  Kind kind = Kind::kNormal;
};

class BpeTokenizer final : public Tokenizer {
 public:
  struct Special {
    int32_t bos = -1;
    int32_t eos = -1;
    int32_t unknown = 0;        // for what neither pieces nor byte tokens have
    bool leading_space = true;  // texts begin with a space of the tokenizer's own
  };
  BpeTokenizer(std::vector<BpePiece> pieces, const Special& special);

  int64_t size() const override { return static_cast<int64_t>(pieces_.size()); }
  int32_t bos() const override { return special_.bos; }
  int32_t eos() const override { return special_.eos; }
  std::vector<int32_t> Encode(std::string_view text) const override;
  std::string Decode(std::span<const int32_t> tokens, bool continues) const override;

 private:
  void AddCodePoint(std::string_view text, std::vector<int32_t>& tokens) const;
  // The token of the two texts together.
  std::optional<BpeMerge> FindMerge(int32_t left, int32_t right) const;

  std::vector<BpePiece> pieces_;
  Special special_;
  std::array<int32_t, 256> bytes_;                         // −1: none
  std::unordered_map<std::string_view, int32_t> numbers_;  // of normal pieces; views of pieces_
};

}  // namespace espalier::language
