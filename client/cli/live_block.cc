#include "client/cli/live_block.h"

#include <algorithm>
#include <utility>

#include "client/cli/format.h"
#include "common/base/printable.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace espalier::cli {
namespace {

// Both from the first column of the line.
constexpr char kEmptyLine[] = "\r\x1b[K";
constexpr char kEmptyBelow[] = "\r\x1b[J";
// What stays above the block may be wrapped, but ends.
constexpr size_t kMaxNoteBytes = 4096;

}  // namespace

std::string LiveBlock::ToFirstLine() const {
  return lines_.size() > 1 ? fmt::format("\x1b[{}A", lines_.size() - 1) : "";
}

void LiveBlock::Show(std::vector<std::string> lines) {
  if (lines.size() != lines_.size()) Clear();
  // The last column stays free: a full row would wrap on some terminals.
  for (std::string& line : lines) line = FitTo(base::Printable(line), std::max(columns_ - 1, 1));
  std::string frame = ToFirstLine();
  for (size_t i = 0; i < lines.size(); ++i) {
    frame += fmt::format("{}{}{}", i == 0 ? "" : "\n", kEmptyLine, lines[i]);
  }
  lines_ = std::move(lines);
  out_ << frame << std::flush;
}

void LiveBlock::Print(const std::string& text) {
  const std::string taken_away = lines_.empty() ? "" : ToFirstLine() + kEmptyBelow;
  out_ << fmt::format("{}{}\n{}", taken_away, base::PrintablePrefix(text, kMaxNoteBytes),
                      fmt::join(lines_, "\n"))
       << std::flush;
}

void LiveBlock::Clear() {
  if (!lines_.empty()) out_ << ToFirstLine() << kEmptyBelow << std::flush;
  lines_.clear();
}

void LiveBlock::Finish() {
  if (!lines_.empty()) out_ << "\n" << std::flush;
  lines_.clear();
}

}  // namespace espalier::cli
