#include "common/base/names.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace espalier::base {
namespace {

bool IsLetterOrDigit(char c) { return absl::ascii_islower(c) || absl::ascii_isdigit(c); }

bool IsDatasetCharacter(char c) { return IsLetterOrDigit(c) || c == '.' || c == '_' || c == '-'; }

// In lower case, with one '-' for each run of what does not fit, and letters or digits at both
// ends.
template <typename Fits>
std::string Like(std::string_view text, size_t longest, Fits fits) {
  std::string result;
  for (const char given : text) {
    const char c = absl::ascii_tolower(static_cast<unsigned char>(given));
    if (fits(c) || !result.ends_with('-')) result += fits(c) ? c : '-';
  }
  result.erase(result.begin(), std::ranges::find_if(result, IsLetterOrDigit));
  result.resize(std::min(result.size(), longest));
  while (!result.empty() && !IsLetterOrDigit(result.back())) result.pop_back();
  return result;
}

}  // namespace

bool IsDatasetName(std::string_view name) {
  return !name.empty() && name.size() <= kLongestDatasetName &&
         name.find("..") == std::string_view::npos && IsLetterOrDigit(name.front()) &&
         IsLetterOrDigit(name.back()) && std::ranges::all_of(name, IsDatasetCharacter);
}

std::string DatasetNameLike(std::string_view text) {
  std::string name = Like(text, kLongestDatasetName, IsDatasetCharacter);
  return IsDatasetName(name) ? name : "";
}

bool IsValidId(std::string_view id) {
  constexpr size_t kLongest = 63;
  return !id.empty() && id.size() <= kLongest && absl::ascii_islower(id.front()) &&
         id.back() != '-' &&
         std::ranges::all_of(id, [](char c) { return IsLetterOrDigit(c) || c == '-'; });
}

std::string IdLike(std::string_view text, std::string_view kind) {
  constexpr size_t kLongest = 50;
  const std::string prefix = std::string(kind) + "-";
  const auto plain = [](char c) { return IsLetterOrDigit(c); };
  const std::string name = Like(text, kLongest - prefix.size(), plain);
  if (name.empty()) return "mine";
  return absl::ascii_islower(name.front()) ? name : prefix + name;
}

bool IsModelName(std::string_view name) {
  constexpr size_t kLongest = 200;
  return !name.empty() && name.size() <= kLongest && name.front() != '.' &&
         std::ranges::all_of(name, [](unsigned char c) {
           return absl::ascii_isalnum(c) || c == '-' || c == '_' || c == '.';
         });
}

}  // namespace espalier::base
