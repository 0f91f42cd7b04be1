#include "common/language/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/base/status.h"
#include "common/io/file_system.h"

namespace espalier::language {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  int64_t size() const override { return 256; }
  std::vector<int32_t> Encode(std::string_view text) const override {
    std::vector<int32_t> tokens;
    tokens.reserve(text.size());
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
    return tokens;
  }
  std::string Decode(std::span<const int32_t> tokens, bool) const override {
    std::string text;
    for (const int32_t token : tokens) {
      if (token >= 0 && token < 256) text += static_cast<char>(token);
    }
    return text;
  }
};

absl::Status TokenizerNotFound(const std::string& found) {
  return base::NotFound(
      "TOKENIZER_NOT_FOUND",
      fmt::format(
          "expected \"bytes\", or a file or a folder with tokenizer.model of SentencePiece, "
          "tokenizer.json of Hugging Face, or tokenizer.bin or tok<N>.bin of llama2.c; "
          "found {}",
          found));
}

absl::Status InvalidTokens(const std::string& what) {
  return base::InvalidArgument("TOKENS_INVALID", "file of tokens: " + what);
}

// A token of `bytes_per_token` at the front of `bytes`; negative ones become too large.
uint64_t TokenAt(const char* bytes, int bytes_per_token) {
  uint64_t token = 0;
  std::memcpy(&token, bytes, static_cast<size_t>(bytes_per_token));
  return token;
}

absl::StatusOr<std::vector<int32_t>> ParseTokens(std::string_view bytes, int bytes_per_token,
                                                 int64_t vocabulary) {
  const auto width = static_cast<size_t>(bytes_per_token);
  if (bytes.size() % width != 0) {
    return InvalidTokens(
        fmt::format("expected whole tokens of {} bytes, found {} bytes in all; is "
                    "it cut off, or of another width?",
                    bytes_per_token, bytes.size()));
  }
  std::vector<int32_t> tokens;
  tokens.reserve(bytes.size() / width);
  for (size_t at = 0; at < bytes.size(); at += width) {
    const uint64_t token = TokenAt(bytes.data() + at, bytes_per_token);
    if (token >= static_cast<uint64_t>(vocabulary)) {
      return InvalidTokens(fmt::format(
          "expected tokens below {}, the vocabulary, found {} at position {}; use the tokens of "
          "this model's tokenizer, and the right width",
          vocabulary, token, at / width));
    }
    tokens.push_back(static_cast<int32_t>(token));
  }
  return tokens;
}

// The text between `key` and the next comma or brace of a .npy header, without spaces.
std::string_view NpyField(std::string_view header, std::string_view key) {
  const size_t at = header.find(key);
  if (at == std::string_view::npos) return "";
  std::string_view rest = header.substr(at + key.size());
  const size_t begin = rest.find_first_not_of(" :");
  if (begin == std::string_view::npos) return "";
  rest.remove_prefix(begin);
  const size_t end = rest.starts_with('(') ? rest.find(')') + 1 : rest.find_first_of(",}");
  return rest.substr(0, end);
}

}  // namespace

std::unique_ptr<Tokenizer> MakeByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

absl::StatusOr<std::unique_ptr<Tokenizer>> ParseTokenizer(std::string_view file_name,
                                                          std::string_view bytes) {
  if (file_name.ends_with(".model")) return ParseSentencePiece(bytes);
  if (file_name.ends_with(".json")) return ParseTokenizerJson(bytes);
  return ParseLlama2cTokenizer(bytes);
}

std::string TokenizerFileAmong(std::span<const std::string> names) {
  for (const std::string_view known : {"tokenizer.model", "tokenizer.json", "tokenizer.bin"}) {
    if (std::ranges::find(names, known) != names.end()) return std::string(known);
  }
  const auto numbered = std::ranges::find_if(names, [](const std::string& name) {
    return name.size() > 7 && name.starts_with("tok") && name.ends_with(".bin") &&
           std::all_of(name.begin() + 3, name.end() - 4,
                       [](char c) { return c >= '0' && c <= '9'; });
  });
  return numbered == names.end() ? "" : *numbered;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path) {
  if (path == "bytes") return MakeByteTokenizer();
  io::FileSystem& files = io::PosixFileSystem();
  std::error_code ignored;
  std::string file = path;
  if (!std::filesystem::exists(path, ignored)) {
    return TokenizerNotFound(fmt::format("nothing at '{}'", path));
  }
  if (std::filesystem::is_directory(path, ignored)) {
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(path));
    const std::string name = TokenizerFileAmong(names);
    if (name.empty()) return TokenizerNotFound(fmt::format("none in the folder '{}'", path));
    file = path + "/" + name;
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, io::ReadFile(files, file, kMaxTokenizerBytes));
  auto tokenizer = ParseTokenizer(file, bytes);
  if (!tokenizer.ok()) return base::Annotate(tokenizer.status(), file);
  return tokenizer;
}

absl::StatusOr<std::vector<int32_t>> ParseTokenFile(std::string_view bytes, int bytes_per_token,
                                                    int64_t vocabulary) {
  if (bytes_per_token != 2 && bytes_per_token != 4) {
    return InvalidTokens(fmt::format("expected 2 or 4 bytes per token, found {}", bytes_per_token));
  }
  return ParseTokens(bytes, bytes_per_token, vocabulary);
}

absl::StatusOr<std::vector<int32_t>> ParseTokenNpy(std::string_view bytes, int64_t vocabulary) {
  constexpr std::string_view kMagic("\x93NUMPY", 6);
  constexpr size_t kFixed = 10;
  if (bytes.size() < kFixed + 2 || !bytes.starts_with(kMagic)) {
    return InvalidTokens("expected a .npy file, found something else");
  }
  const bool wide = bytes[6] >= 2;
  const size_t begin = wide ? kFixed + 2 : kFixed;
  const uint64_t length = TokenAt(bytes.data() + 8, wide ? 4 : 2);
  if (length > bytes.size() - begin) return InvalidTokens("the header of the .npy is cut off");
  const std::string_view header = bytes.substr(begin, length);
  const std::string_view type = NpyField(header, "'descr'");
  constexpr std::array<std::pair<std::string_view, int>, 6> kTypes = {
      {{"'|u1'", 1}, {"'<u2'", 2}, {"'<i2'", 2}, {"'<u4'", 4}, {"'<i4'", 4}, {"'<i8'", 8}}};
  const auto* known =
      std::ranges::find_if(kTypes, [&](const auto& entry) { return entry.first == type; });
  const std::string_view shape = NpyField(header, "'shape'");
  const bool vector = std::ranges::count(shape, ',') == 1 && shape.ends_with(",)");
  if (known == kTypes.end() || !vector || NpyField(header, "'fortran_order'") != "False") {
    return InvalidTokens(
        fmt::format("expected one dimension of u1, u2, u4, i2, i4 or i8 in C "
                    "order, found type {} and shape {}; save "
                    "tokens.astype(numpy.uint16)",
                    type, shape));
  }
  return ParseTokens(bytes.substr(begin + length), known->second, vocabulary);
}

}  // namespace espalier::language
