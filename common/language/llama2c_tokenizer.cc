// tokenizer.bin of llama2.c: scores and pieces in a flat file.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/language/bpe_tokenizer.h"

namespace espalier::language {
namespace {

constexpr int32_t kBos = 1;
constexpr int32_t kEos = 2;
// Tokens for the bytes 0..255 follow <unk>, <s> and </s>.
constexpr int32_t kFirstByte = 3;
constexpr int32_t kMaxPieceBytes = 4096;

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

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseLlama2cTokenizer(std::string_view bytes) {
  int32_t longest = 0;
  if (!Take(bytes, longest) || longest < 1 || longest > kMaxPieceBytes) {
    return Invalid(fmt::format("expected the length of the longest piece, 1..{}, first; found {}",
                               kMaxPieceBytes, longest));
  }
  std::vector<BpePiece> pieces;
  while (!bytes.empty()) {
    BpePiece piece;
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
  for (int32_t token = 0; token < std::min<int32_t>(kFirstByte, pieces.size()); ++token) {
    pieces[token].kind = BpePiece::Kind::kControl;
  }
  for (int32_t byte = 0; byte < 256; ++byte) {
    const auto token = static_cast<size_t>(kFirstByte + byte);
    if (token >= pieces.size() || pieces[token].text != fmt::format("<0x{:02X}>", byte)) {
      return Invalid(fmt::format("expected token {} to be <0x{:02X}>, found {}", token, byte,
                                 token < pieces.size() ? "another" : "none"));
    }
    pieces[token].kind = BpePiece::Kind::kByte;
    pieces[token].text = std::string(1, static_cast<char>(byte));
  }
  return std::make_unique<BpeTokenizer>(std::move(pieces),
                                        BpeTokenizer::Special{.bos = kBos, .eos = kEos});
}

}  // namespace espalier::language
