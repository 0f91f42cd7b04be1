#include "worker/data/interactions/lines.h"

#include <fmt/format.h>

#include "common/base/status.h"
#include "worker/data/interactions/cells.h"
#include "worker/data/table/delimiter.h"
#include "worker/data/table/encoding.h"

namespace espalier::worker::data {

TableLines TableLines::Csv(ByteStream& stream, char delimiter) {
  TableLines lines;
  lines.csv_.emplace(stream, delimiter);
  return lines;
}

TableLines TableLines::Plain(ByteStream& stream, std::string_view separator) {
  TableLines lines;
  lines.lines_.emplace(stream);
  lines.separator_ = separator;
  return lines;
}

absl::StatusOr<bool> TableLines::Next() {
  if (csv_.has_value()) return csv_->Next();
  do {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines_->Next(&text_));
    if (!more) return false;
    if (lines_->line_number() == 1 && text_.starts_with(kUtf8ByteOrderMark)) {
      text_.remove_prefix(kUtf8ByteOrderMark.size());
    }
  } while (Trim(text_).empty());
  if (separator_.empty()) separator_ = text_.find("::") != std::string_view::npos ? "::" : "\t";
  Split();
  return true;
}

void TableLines::Split() {
  SplitCells(text_, separator_, cells_);
  MakeUtf8(cells_, text_.size(), converted_);
}

std::string TableLines::separator_word() const {
  if (csv_.has_value()) return DelimiterWord(csv_->delimiter());
  return separator_ == "\t" ? "a tab" : fmt::format("'{}'", separator_);
}

}  // namespace espalier::worker::data
