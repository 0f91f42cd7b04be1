// The tokenizer of llama2.c: SentencePiece's BPE with byte fallback, in a flat file. The merges are
// those of its encode(): always the adjacent pair whose union has the highest score, the leftmost
// on ties.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <queue>
#include <unordered_map>
#include <utility>

#include "common/base/status.h"
#include "common/language/tokenizer.h"

namespace espalier::language {
namespace {

constexpr int32_t kBos = 1;
constexpr int32_t kEos = 2;
// Tokens for the bytes 0..255 follow <unk>, <s> and </s>.
constexpr int32_t kFirstByte = 3;
constexpr int32_t kFirstPiece = kFirstByte + 256;
constexpr int32_t kMaxPieceBytes = 4096;
constexpr size_t kMaxCodePointBytes = 4;

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("TOKENIZER_INVALID", "tokenizer of llama2.c: " + what);
}

// Little-endian values from the front of `bytes`; false at the end.
template <typename T>
bool Take(std::string_view& bytes, T& value) {
  if (bytes.size() < sizeof(T)) return false;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return true;
}

struct Piece {
  std::string text;
  float score = 0;
};

// Text as a chain of tokens in which neighbours are merged.
class Merger {
 public:
  Merger(const std::vector<Piece>& pieces,
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

  const std::string& TextOf(int32_t token) const { return pieces_[token].text; }

  void Propose(int32_t left) {
    const int32_t right = next_[left];
    if (right < 0) return;
    const auto found = numbers_.find(TextOf(tokens_[left]) + TextOf(tokens_[right]));
    if (found == numbers_.end()) return;
    candidates_.push(
        {pieces_[found->second].score, left, tokens_[left], tokens_[right], found->second});
  }

  const std::vector<Piece>& pieces_;
  const std::unordered_map<std::string_view, int32_t>& numbers_;
  std::vector<int32_t> tokens_;
  std::vector<int32_t> previous_;
  std::vector<int32_t> next_;
  std::priority_queue<Candidate> candidates_;
};

class Llama2cTokenizer final : public Tokenizer {
 public:
  explicit Llama2cTokenizer(std::vector<Piece> pieces) : pieces_(std::move(pieces)) {
    for (auto token = kFirstPiece; token < static_cast<int32_t>(pieces_.size()); ++token) {
      numbers_.try_emplace(pieces_[token].text, token);
    }
  }

  int64_t size() const override { return static_cast<int64_t>(pieces_.size()); }
  int32_t bos() const override { return kBos; }
  int32_t eos() const override { return kEos; }

  std::vector<int32_t> Encode(std::string_view text) const override {
    if (text.empty()) return {};
    std::vector<int32_t> tokens;
    AddCodePoint(" ", tokens);
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

  std::string Decode(std::span<const int32_t> tokens, bool continues) const override {
    std::string text;
    for (const int32_t token : tokens) {
      if (token < kFirstByte || token >= size()) continue;
      if (token < kFirstPiece) {
        text += static_cast<char>(token - kFirstByte);
      } else {
        text += pieces_[token].text;
      }
    }
    if (!continues && text.starts_with(' ')) text.erase(0, 1);
    return text;
  }

 private:
  void AddCodePoint(std::string_view text, std::vector<int32_t>& tokens) const {
    const auto found = numbers_.find(text);
    if (found != numbers_.end()) {
      tokens.push_back(found->second);
      return;
    }
    for (const char byte : text) tokens.push_back(kFirstByte + static_cast<unsigned char>(byte));
  }

  std::vector<Piece> pieces_;
  std::unordered_map<std::string_view, int32_t> numbers_;  // of pieces; views of pieces_
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseLlama2cTokenizer(std::string_view bytes) {
  int32_t longest = 0;
  if (!Take(bytes, longest) || longest < 1 || longest > kMaxPieceBytes) {
    return Invalid(fmt::format("expected the length of the longest piece, 1..{}, first; found {}",
                               kMaxPieceBytes, longest));
  }
  std::vector<Piece> pieces;
  while (!bytes.empty()) {
    Piece piece;
    int32_t size = 0;
    if (!Take(bytes, piece.score) || !Take(bytes, size)) {
      return Invalid(fmt::format("token {} is cut off; copy the file again", pieces.size()));
    }
    if (size < 0 || size > kMaxPieceBytes || static_cast<size_t>(size) > bytes.size() ||
        !std::isfinite(piece.score)) {
      return Invalid(fmt::format(
          "expected token {} with a finite score and at most {} bytes, found score {} and {} bytes",
          pieces.size(), std::min<size_t>(kMaxPieceBytes, bytes.size()), piece.score, size));
    }
    piece.text = bytes.substr(0, static_cast<size_t>(size));
    bytes.remove_prefix(static_cast<size_t>(size));
    pieces.push_back(std::move(piece));
  }
  for (int32_t byte = 0; byte < 256; ++byte) {
    const auto token = static_cast<size_t>(kFirstByte + byte);
    if (token >= pieces.size() || pieces[token].text != fmt::format("<0x{:02X}>", byte)) {
      return Invalid(fmt::format("expected token {} to be <0x{:02X}>, found {}", token, byte,
                                 token < pieces.size() ? "another" : "none"));
    }
  }
  return std::make_unique<Llama2cTokenizer>(std::move(pieces));
}

}  // namespace espalier::language
