#include "worker/data/interactions/cells.h"

#include <algorithm>

namespace espalier::worker::data {
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
