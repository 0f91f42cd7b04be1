#include "client/cli/init/shell.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"

namespace espalier::cli::init {
namespace {

bool IsNameLetter(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }

}  // namespace

std::string ShellWord(const std::string& word) {
  constexpr std::string_view kPlain = "_./:@%+,=-";
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [&](char c) {
    return absl::ascii_isalnum(c) || kPlain.find(c) != std::string_view::npos;
  });
  return plain ? word : "'" + absl::StrReplaceAll(word, {{"'", "'\\''"}}) + "'";
}

std::string AsName(const std::string& text) {
  constexpr size_t kLongest = 50;
  std::string name;
  for (const char c : text) {
    const char lower = absl::ascii_tolower(static_cast<unsigned char>(c));
    if (IsNameLetter(lower)) {
      name += lower;
    } else if (!name.empty() && name.back() != '-') {
      name += '-';
    }
    if (name.size() == kLongest) break;
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  return name.empty() ? "mine" : name;
}

bool IsDatasetName(const std::string& name) {
  constexpr size_t kLongest = 63;
  return !name.empty() && name.size() <= kLongest && name.find("..") == std::string::npos &&
         IsNameLetter(name.front()) && IsNameLetter(name.back()) &&
         std::all_of(name.begin(), name.end(),
                     [](char c) { return IsNameLetter(c) || c == '.' || c == '_' || c == '-'; });
}

}  // namespace espalier::cli::init
