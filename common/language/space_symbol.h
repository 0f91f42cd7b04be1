// The symbol that stands for a space in pieces of SentencePiece and of tokenizers made like it.
#pragma once

#include <string>
#include <string_view>

namespace espalier::language {

inline constexpr std::string_view kSpaceSymbol = "\xe2\x96\x81";  // ▁

inline std::string WithSpaces(std::string_view text) {
  std::string out;
  for (size_t at = 0; at < text.size();) {
    const bool is_space = text.substr(at, kSpaceSymbol.size()) == kSpaceSymbol;
    out += is_space ? ' ' : text[at];
    at += is_space ? kSpaceSymbol.size() : 1;
  }
  return out;
}

}  // namespace espalier::language
