// Checksums of what stores keep: a value carries the CRC-32C of itself and of the row that it belongs
// to at its end, so that one that changed, or that stands in another row, is found when it is read.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace espalier::server::store {

// `of_row`: what else the row says.
std::string Seal(std::string_view bytes, std::string_view of_row);
// The value of what Seal() made for the same row. Absent when it is something else.
std::optional<std::string> Unseal(std::string_view sealed, std::string_view of_row);

}  // namespace espalier::server::store
