#include "client/cli/init/shell.h"

#include <algorithm>
#include <string_view>

#include "absl/strings/ascii.h"
#include "absl/strings/str_replace.h"

namespace espalier::cli::init {

std::string ShellWord(const std::string& word) {
  constexpr std::string_view kPlain = "_./:@%+,=-";
  const bool plain = !word.empty() && std::all_of(word.begin(), word.end(), [&](char c) {
    return absl::ascii_isalnum(c) || kPlain.find(c) != std::string_view::npos;
  });
  return plain ? word : "'" + absl::StrReplaceAll(word, {{"'", "'\\''"}}) + "'";
}

}  // namespace espalier::cli::init
