#include "common/language/bpe_tokenizer.h"

#include <utility>

namespace espalier::language {

BpeTokenizer::BpeTokenizer(std::vector<BpePiece> pieces, const Special& special)
    : pieces_(std::move(pieces)), special_(special) {
  bytes_.fill(-1);
  for (int32_t token = 0; token < static_cast<int32_t>(pieces_.size()); ++token) {
    const BpePiece& piece = pieces_[token];
    if (piece.kind == BpePiece::Kind::kNormal) numbers_.try_emplace(piece.text, token);
    if (piece.kind == BpePiece::Kind::kByte) {
      bytes_[static_cast<unsigned char>(piece.text[0])] = token;
    }
  }
}

void BpeTokenizer::AddCodePoint(std::string_view text, std::vector<int32_t>& tokens) const {
  const auto found = numbers_.find(text);
  if (found != numbers_.end()) {
    tokens.push_back(found->second);
    return;
  }
  for (const char byte : text) {
    const int32_t token = bytes_[static_cast<unsigned char>(byte)];
    tokens.push_back(token < 0 ? special_.unknown : token);
    if (token < 0) return;
  }
}

std::vector<int32_t> BpeTokenizer::Encode(std::string_view text) const {
  if (text.empty()) return {};
  std::vector<int32_t> tokens;
  if (special_.leading_space) AddCodePoint(" ", tokens);
  while (!text.empty()) {
    const size_t size = CodePointBytes(text);
    AddCodePoint(text.substr(0, size), tokens);
    text.remove_prefix(size);
  }
  return MergeTokens(std::move(tokens),
                     [this](int32_t left, int32_t right) { return FindMerge(left, right); });
}

std::optional<BpeMerge> BpeTokenizer::FindMerge(int32_t left, int32_t right) const {
  const BpePiece& a = pieces_[left];
  const BpePiece& b = pieces_[right];
  if (a.kind != BpePiece::Kind::kNormal || b.kind != BpePiece::Kind::kNormal) return std::nullopt;
  const auto found = numbers_.find(a.text + b.text);
  if (found == numbers_.end()) return std::nullopt;
  return BpeMerge{pieces_[found->second].score, found->second};
}

std::string BpeTokenizer::Decode(std::span<const int32_t> tokens, bool continues) const {
  std::string text;
  for (const int32_t token : tokens) {
    if (token < 0 || token >= size()) continue;
    if (pieces_[token].kind != BpePiece::Kind::kControl) text += pieces_[token].text;
  }
  if (special_.leading_space && !continues && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace espalier::language
