// Cells of CSV (RFC 4180). Pure functions.
#pragma once

#include <string>

namespace espalier::cli {

// `text` without control characters, in quotes where it has a comma or quotes.
std::string CsvCell(const std::string& text);

}  // namespace espalier::cli
