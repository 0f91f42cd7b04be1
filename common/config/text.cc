#include "common/config/text.h"

#include "common/base/printable.h"
#include "common/config/parameters.h"
#include "fmt/format.h"

namespace espalier::config {

std::string Shortened(std::string_view text) {
  constexpr size_t kMaxBytes = 60;
  return base::PrintablePrefix(text, kMaxBytes);
}

std::string Quoted(std::string_view text) { return fmt::format("\"{}\"", Shortened(text)); }

std::string Joined(const std::vector<std::string>& words, std::string_view separator) {
  return fmt::format("{}", fmt::join(words, separator));
}

std::string DidYouMean(const std::string& word, const std::vector<std::string>& known) {
  const std::string nearest = Nearest(word, known);
  return nearest.empty() ? "" : fmt::format("; did you mean {}?", Quoted(nearest));
}

std::string UnknownName(std::string_view what, const std::string& name,
                        const std::vector<std::string>& known) {
  const std::string hint = DidYouMean(name, known);
  if (!hint.empty()) return fmt::format("unknown {} {}{}", what, Quoted(name), hint);
  if (known.empty()) return fmt::format("unknown {} {}; there is none here", what, Quoted(name));
  return fmt::format("unknown {} {}; known: {}", what, Quoted(name), Joined(known, ", "));
}

std::string Grouped(int64_t value) {
  const std::string digits = std::to_string(value);
  std::string grouped;
  for (size_t i = 0; i < digits.size(); ++i) {
    const size_t left = digits.size() - i;
    if (i > 0 && left % 3 == 0 && digits[i - 1] != '-') grouped += ',';
    grouped += digits[i];
  }
  return grouped;
}

}  // namespace espalier::config
