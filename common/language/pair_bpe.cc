#include "common/language/pair_bpe.h"

#include <optional>

namespace espalier::language {

std::vector<int32_t> PairBpeTokenizer::Symbols(std::string_view word) const {
  std::vector<int32_t> symbols;
  while (!word.empty()) {
    const size_t size = tables_.byte_level ? 1 : CodePointBytes(word);
    const auto known = tables_.byte_level ? tables_.numbers.end()
                                          : tables_.numbers.find(std::string(word.substr(0, size)));
    if (known != tables_.numbers.end()) {
      symbols.push_back(known->second);
    } else {
      for (const char byte : word.substr(0, size)) {
        symbols.push_back(tables_.bytes[static_cast<unsigned char>(byte)]);
      }
    }
    word.remove_prefix(size);
  }
  return symbols;
}

void PairBpeTokenizer::EncodeWord(std::string_view word, std::vector<int32_t>& tokens) const {
  if (tables_.whole_words) {
    const auto whole = tables_.numbers.find(std::string(word));
    if (whole != tables_.numbers.end()) {
      tokens.push_back(whole->second);
      return;
    }
  }
  const auto find = [this](int32_t left, int32_t right) -> std::optional<BpeMerge> {
    const auto merge = tables_.merges.find(PairKey(left, right));
    return merge == tables_.merges.end() ? std::nullopt : std::optional(merge->second);
  };
  const std::vector<int32_t> merged = MergeTokens(Symbols(word), find);
  tokens.insert(tokens.end(), merged.begin(), merged.end());
}

void PairBpeTokenizer::EncodeSplit(std::string_view text, size_t splitter,
                                   std::vector<int32_t>& tokens) const {
  if (splitter == tables_.splitters.size()) return EncodeWord(text, tokens);
  tables_.splitters[splitter]->Split(
      text, [&](std::string_view word) { EncodeSplit(word, splitter + 1, tokens); });
}

std::vector<int32_t> PairBpeTokenizer::Encode(std::string_view text) const {
  std::vector<int32_t> tokens;
  if (text.empty()) return tokens;
  using Prefix = PairBpeTables::Prefix;
  const bool prefixed = tables_.prefix == Prefix::kAlways ||
                        (tables_.prefix == Prefix::kUnlessThere && !text.starts_with(' '));
  EncodeSplit(prefixed ? " " + std::string(text) : text, 0, tokens);
  return tokens;
}

std::string PairBpeTokenizer::Decode(std::span<const int32_t> tokens, bool continues) const {
  std::string text;
  for (const int32_t token : tokens) {
    if (token >= 0 && token < size()) text += tables_.pieces[token];
  }
  const bool prefixed = tables_.prefix != PairBpeTables::Prefix::kNone;
  if (prefixed && !continues && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace espalier::language
