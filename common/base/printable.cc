#include "common/base/printable.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>

namespace espalier::base {
namespace {

struct Range {
  uint32_t first;
  uint32_t last;
};

// Ascending. What steers a terminal, changes the direction of text, or cannot be seen.
constexpr Range kUnprintable[] = {
    {0x00, 0x1F},        // C0 controls
    {0x7F, 0x9F},        // DEL and C1 controls
    {0xAD, 0xAD},        // soft hyphen
    {0x34F, 0x34F},      // combining grapheme joiner
    {0x61C, 0x61C},      // Arabic letter mark
    {0x115F, 0x1160},    // Hangul fillers
    {0x17B4, 0x17B5},    // Khmer vowels without a shape
    {0x180B, 0x180F},    // Mongolian selectors and vowel separator
    {0x200B, 0x200F},    // zero width, direction marks
    {0x2028, 0x202E},    // line and paragraph separators, embeddings and overrides
    {0x2060, 0x206F},    // word joiner, isolates, invisible operators
    {0x3164, 0x3164},    // Hangul filler
    {0xFEFF, 0xFEFF},    // byte order mark
    {0xFFA0, 0xFFA0},    // halfwidth Hangul filler
    {0xFFF0, 0xFFFB},    // unassigned, interlinear annotation
    {0xE0000, 0xE0FFF},  // tags and selectors
};

bool IsUnprintable(uint32_t point) {
  return std::any_of(std::begin(kUnprintable), std::end(kUnprintable), [point](const Range& range) {
    return point >= range.first && point <= range.last;
  });
}

// The code point of the character of `length` bytes at the front of `text`.
uint32_t Decode(std::string_view text, size_t length) {
  constexpr uint32_t kLeadBits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  uint32_t point = static_cast<unsigned char>(text[0]) & kLeadBits[length];
  for (size_t i = 1; i < length; ++i) {
    point = point << 6 | (static_cast<unsigned char>(text[i]) & 0x3F);
  }
  return point;
}

void AppendHex(const char* format, uint32_t number, std::string& out) {
  char escape[16];
  std::snprintf(escape, sizeof(escape), format, number);
  out += escape;
}

void AppendEscape(uint32_t point, std::string& out) {
  if (point == '\n') {
    out += "\\n";
  } else if (point == '\t') {
    out += "\\t";
  } else if (point == '\r') {
    out += "\\r";
  } else if (point < 0x80) {
    AppendHex("\\x%02x", point, out);
  } else {
    AppendHex(point <= 0xFFFF ? "\\u%04x" : "\\U%08x", point, out);
  }
}

}  // namespace

size_t Utf8Length(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool surrogate = lead == 0xED && byte(1) >= 0xA0;
  const bool beyond = lead == 0xF4 && byte(1) >= 0x90;
  return overlong || surrogate || beyond ? 0 : length;
}

std::string_view Utf8Prefix(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text;
  size_t end = max_bytes;
  // Continuation bytes are 10xxxxxx.
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return text.substr(0, end);
}

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

void AppendLatin1(std::string_view text, std::string& out) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x80) {
      out += c;
      continue;
    }
    out += static_cast<char>(0xC0 | (byte >> 6));
    out += static_cast<char>(0x80 | (byte & 0x3F));
  }
}

std::string AsUtf8(std::string_view text) {
  if (IsUtf8(text)) return std::string(text);
  std::string latin1;
  AppendLatin1(text, latin1);
  return latin1;
}

std::string Printable(std::string_view text, const PrintableOptions& options) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = Utf8Length(text);
    if (length == 0) {
      AppendHex("\\x%02x", static_cast<unsigned char>(text[0]), out);
      text.remove_prefix(1);
      continue;
    }
    const uint32_t point = Decode(text, length);
    const bool ascii = length == 1;
    if (IsUnprintable(point) && !(ascii && options.keep.find(text[0]) != std::string_view::npos)) {
      AppendEscape(point, out);
    } else {
      if (ascii && options.with_backslash.find(text[0]) != std::string_view::npos) out += '\\';
      out += text.substr(0, length);
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string PrintablePrefix(std::string_view text, size_t max_bytes,
                            const PrintableOptions& options) {
  const std::string_view prefix = Utf8Prefix(text, max_bytes);
  return Printable(prefix, options) + (prefix.size() < text.size() ? "…" : "");
}

std::string PrintableQuoted(std::string_view text, Notation notation) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const size_t length = std::max<size_t>(Utf8Length(text), 1);
    const uint32_t point = Decode(text, length);
    // What is left of C0 lies between strings: newlines and spaces of the language itself.
    if (point < 0x7F || !IsUnprintable(point)) {
      out += text.substr(0, length);
    } else if (point <= 0xFFFF) {
      AppendHex("\\u%04x", point, out);
    } else if (notation == Notation::kYaml) {
      AppendHex("\\U%08x", point, out);
    } else {
      AppendHex("\\u%04x", 0xD800 + ((point - 0x10000) >> 10), out);
      AppendHex("\\u%04x", 0xDC00 + ((point - 0x10000) & 0x3FF), out);
    }
    text.remove_prefix(length);
  }
  return out;
}

}  // namespace espalier::base
