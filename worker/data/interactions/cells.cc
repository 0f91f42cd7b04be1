#include "worker/data/interactions/cells.h"

namespace espalier::worker::data {
namespace {

constexpr std::string_view kBlank = " \t";

std::string_view Unquoted(std::string_view cell) {
  cell = Trim(cell);
  if (cell.size() >= 2 && cell.front() == '"' && cell.back() == '"') {
    return cell.substr(1, cell.size() - 2);
  }
  return cell;
}

}  // namespace

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

std::string Lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

void Split(std::string_view line, std::string_view separator,
           std::vector<std::string_view>& cells) {
  cells.clear();
  for (;;) {
    const size_t end = line.find(separator);
    cells.push_back(Unquoted(line.substr(0, end)));
    if (end == std::string_view::npos) return;
    line.remove_prefix(end + separator.size());
  }
}

std::string_view CsvSeparator(std::string_view line) {
  for (const std::string_view candidate : {",", ";", "\t"}) {
    if (line.find(candidate) != std::string_view::npos) return candidate;
  }
  return ",";
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
