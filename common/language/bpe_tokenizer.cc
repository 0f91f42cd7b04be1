#include "common/language/bpe_tokenizer.h"

#include <queue>
#include <utility>

namespace espalier::language {
namespace {

constexpr size_t kMaxCodePointBytes = 4;

// Text as a chain of tokens in which neighbours are merged.
class Merger {
 public:
  Merger(const std::vector<BpePiece>& pieces,
         const std::unordered_map<std::string_view, int32_t>& numbers, std::vector<int32_t> tokens)
      : pieces_(pieces), numbers_(numbers), tokens_(std::move(tokens)) {
    const auto size = static_cast<int32_t>(tokens_.size());
    for (int32_t i = 0; i < size; ++i) {
      previous_.push_back(i - 1);
      next_.push_back(i + 1 < size ? i + 1 : -1);
    }
    for (int32_t i = 0; i + 1 < size; ++i) Propose(i);
  }

  std::vector<int32_t> Run() {
    while (!candidates_.empty()) {
      const Candidate best = candidates_.top();
      candidates_.pop();
      const int32_t right = next_[best.left];
      // Either may have been merged with something else since.
      if (right < 0 || tokens_[best.left] != best.left_token ||
          tokens_[right] != best.right_token) {
        continue;
      }
      tokens_[best.left] = best.merged;
      tokens_[right] = kGone;
      next_[best.left] = next_[right];
      if (next_[right] >= 0) previous_[next_[right]] = best.left;
      if (previous_[best.left] >= 0) Propose(previous_[best.left]);
      Propose(best.left);
    }
    std::erase(tokens_, kGone);
    return std::move(tokens_);
  }

 private:
  static constexpr int32_t kGone = -1;

  struct Candidate {
    float score = 0;
    int32_t left = 0;
    int32_t left_token = 0;
    int32_t right_token = 0;
    int32_t merged = 0;
    bool operator<(const Candidate& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };

  void Propose(int32_t left) {
    const int32_t right = next_[left];
    if (right < 0) return;
    const BpePiece& a = pieces_[tokens_[left]];
    const BpePiece& b = pieces_[tokens_[right]];
    if (a.kind != BpePiece::Kind::kNormal || b.kind != BpePiece::Kind::kNormal) return;
    const auto found = numbers_.find(a.text + b.text);
    if (found == numbers_.end()) return;
    candidates_.push(
        {pieces_[found->second].score, left, tokens_[left], tokens_[right], found->second});
  }

  const std::vector<BpePiece>& pieces_;
  const std::unordered_map<std::string_view, int32_t>& numbers_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> previous_;
  std::vector<int32_t> next_;
  std::priority_queue<Candidate> candidates_;
};

}  // namespace

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
    size_t size = 1;
    while (size < text.size() && size < kMaxCodePointBytes &&
           (static_cast<unsigned char>(text[size]) & 0xc0) == 0x80) {
      ++size;
    }
    AddCodePoint(text.substr(0, size), tokens);
    text.remove_prefix(size);
  }
  return Merger(pieces_, numbers_, std::move(tokens)).Run();
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
