// In which encoding the text of a table is written.
//
// Rule:        tables are UTF-8, with or without a byte order mark. A cell that is not valid UTF-8
//              is taken as ISO 8859-1 (Latin-1), in which every byte is the Unicode character of
//              the same number, and becomes UTF-8. So each cell has one meaning whatever its
//              neighbours hold, and equal text is equal at every worker. UTF-16 and UTF-32 are
//              refused: they are recognised by their byte order mark or by their zero bytes.
// Threading:   pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace espalier::worker::data {

inline constexpr std::string_view kUtf8ByteOrderMark = "\xEF\xBB\xBF";

// Error (DATASET_INVALID) that names the encoding when `beginning`, the first bytes of `file`, is
// UTF-16 or UTF-32 or has zero bytes as no text has.
absl::Status CheckTextEncoding(std::string_view beginning, std::string_view file);

// The error for a zero byte found later, on line `line`.
absl::Status ZeroByte(std::string_view file, int64_t line);

// Makes UTF-8 of the cells that are not: these then point into `converted`, which needs at most
// twice the `bytes` of all cells and moves none of them.
void MakeUtf8(std::vector<std::string_view>& cells, size_t bytes, std::string& converted);

}  // namespace espalier::worker::data
