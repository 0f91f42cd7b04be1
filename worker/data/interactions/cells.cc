#include "worker/data/interactions/cells.h"

#include <absl/strings/ascii.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace espalier::worker::data {
namespace {

constexpr std::string_view kBlank = " \t";
constexpr std::array<std::string_view, 7> kMissing = {"", "na", "n/a", "nan", "null", "none", "?"};

}  // namespace

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

void SplitCells(std::string_view line, std::string_view separator,
                std::vector<std::string_view>& cells) {
  cells.clear();
  for (;;) {
    const size_t end = line.find(separator);
    cells.push_back(Trim(line.substr(0, end)));
    if (end == std::string_view::npos) return;
    line.remove_prefix(end + separator.size());
  }
}

std::optional<double> ParseFinite(std::string_view text) {
  const auto value = ParseNumber<double>(text);
  return value.has_value() && std::isfinite(*value) ? value : std::nullopt;
}

bool IsMissing(std::string_view cell) {
  const std::string lower = absl::AsciiStrToLower(std::string(cell));
  return std::ranges::find(kMissing, lower) != kMissing.end();
}

std::optional<std::string> FindFile(const std::vector<FileEntry>& files, const std::string& name) {
  for (const std::string& candidate : {name, name + ".gz"}) {
    const auto same = [&](const FileEntry& file) { return file.name == candidate; };
    if (std::any_of(files.begin(), files.end(), same)) return candidate;
  }
  return std::nullopt;
}

bool IsFieldTable(std::string_view file) {
  if (file.ends_with(".gz")) file.remove_suffix(3);
  return file == "users.csv" || file == "items.csv";
}

}  // namespace espalier::worker::data
