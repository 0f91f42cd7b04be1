#include "client/cli/data/csv.h"

#include "absl/strings/str_replace.h"
#include "common/base/printable.h"

namespace espalier::cli {

std::string CsvCell(const std::string& text) {
  const std::string printable = base::Printable(text);
  if (printable.find_first_of(",\"") == std::string::npos) return printable;
  return "\"" + absl::StrReplaceAll(printable, {{"\"", "\"\""}}) + "\"";
}

}  // namespace espalier::cli
