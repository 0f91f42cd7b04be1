// Words for error messages about configuration: quoting, lists, "did you mean".
//
// User text is shortened and what is not printable is escaped, so that a message stays one readable
// line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::config {

// At most 60 bytes of `text` (cut between UTF-8 characters, "…" appended), as base::Printable()
// writes them.
std::string Shortened(std::string_view text);

// Shortened() in double quotes.
std::string Quoted(std::string_view text);

// `words` with `separator` between them.
std::string Joined(const std::vector<std::string>& words, std::string_view separator);

// "; did you mean \"x\"?" when a known word is near, else "".
std::string DidYouMean(const std::string& word, const std::vector<std::string>& known);

// "unknown field \"desnity\"; did you mean \"density\"?", or the list of known names when none is
// near.
std::string UnknownName(std::string_view what, const std::string& name,
                        const std::vector<std::string>& known);

// 1234567 → "1,234,567".
std::string Grouped(int64_t value);

}  // namespace espalier::config
