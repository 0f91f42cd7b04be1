#include "common/language/word_splitter.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "common/base/check.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace espalier::language {
namespace {

constexpr std::array<std::string_view, 3> kKnownPatterns = {
    kGpt2Words,
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
};

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xc0) == 0x80; }

// Bytes of the well-formed code point at the front of `text`; 0 when there is none.
size_t CodePointSize(std::string_view text) {
  const auto first = static_cast<unsigned char>(text[0]);
  if (first < 0x80) return 1;
  const size_t size = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  if (size == 0 || text.size() < size ||
      !std::all_of(text.begin() + 1, text.begin() + static_cast<int64_t>(size), IsContinuation)) {
    return 0;
  }
  const auto second = static_cast<unsigned char>(text[1]);
  // Overlong forms, surrogates, and what lies beyond U+10FFFF.
  const bool outside = (first == 0xe0 && second < 0xa0) || (first == 0xed && second >= 0xa0) ||
                       (first == 0xf0 && second < 0x90) || (first == 0xf4 && second >= 0x90);
  return outside ? 0 : size;
}

// Bytes at the front of `text` that are UTF-8, or, when there are none, that are not.
std::pair<size_t, bool> Run(std::string_view text) {
  const bool valid = CodePointSize(text) > 0;
  size_t end = 0;
  while (end < text.size()) {
    const size_t size = CodePointSize(text.substr(end));
    if ((size > 0) != valid) break;
    end += std::max<size_t>(size, 1);
  }
  return {end, valid};
}

}  // namespace

struct WordSplitter::Code {
  pcre2_code* code = nullptr;
  Code() = default;
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  ~Code() { pcre2_code_free(code); }
};

WordSplitter::WordSplitter(std::unique_ptr<Code> code) : code_(std::move(code)) {}
WordSplitter::~WordSplitter() = default;

std::unique_ptr<WordSplitter> WordSplitter::Create(std::string_view pattern) {
  if (std::ranges::find(kKnownPatterns, pattern) == kKnownPatterns.end()) return nullptr;
  auto code = std::make_unique<Code>();
  int error = 0;
  PCRE2_SIZE place = 0;
  code->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP, &error, &place, nullptr);
  ESPALIER_CHECK(code->code != nullptr, "known patterns compile");
  return std::unique_ptr<WordSplitter>(new WordSplitter(std::move(code)));
}

void WordSplitter::Split(std::string_view text,
                         const std::function<void(std::string_view)>& visit) const {
  const std::unique_ptr<pcre2_match_data, void (*)(pcre2_match_data*)> match(
      pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
  while (!text.empty()) {
    const auto [size, valid] = Run(text);
    const std::string_view run = text.substr(0, size);
    text.remove_prefix(size);
    size_t at = 0;
    while (valid && at < run.size()) {
      const int found =
          pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(run.data()), run.size(), at,
                      PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, match.get(), nullptr);
      if (found < 0) break;
      const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match.get());
      if (ends[0] > at) visit(run.substr(at, ends[0] - at));
      visit(run.substr(ends[0], ends[1] - ends[0]));
      at = ends[1];
    }
    if (at < run.size()) visit(run.substr(at));
  }
}

}  // namespace espalier::language
