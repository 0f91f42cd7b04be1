// Text that came from elsewhere (another process, a file, a user) as it may be printed or logged.
//
// A terminal obeys control characters, and readers are misled by text that runs from right to left
// or by characters that nobody sees. Printable() writes all of them as escapes, so that one value
// stays one visible line: C0 and C1 controls (newline, tab and ESC among them), DEL, controls of
// direction, separators of lines and paragraphs, characters without width, and bytes that are not
// UTF-8. Backslashes stay as they are, so that what is printable already does not change again.
//
// Threading, determinism: pure functions.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace espalier::base {

// Length in bytes of the UTF-8 character at the front of `text`, which is not empty; 0 when the
// bytes there are not UTF-8.
size_t Utf8Length(std::string_view text);

// The longest front of `text` of at most `max_bytes` that does not end inside a character.
std::string_view Utf8Prefix(std::string_view text, size_t max_bytes);

bool IsUtf8(std::string_view text);

// Appends `text`, taken as ISO 8859-1 (Latin-1), to `out` as UTF-8: at most twice as many bytes.
void AppendLatin1(std::string_view text, std::string& out);

// `text` itself when it is UTF-8, else taken as ISO 8859-1 (Latin-1), whose bytes are the Unicode
// characters of the same numbers: the rule for all text from outside.
std::string AsUtf8(std::string_view text);

struct PrintableOptions {
  std::string_view with_backslash = {};  // ASCII characters that get a backslash in front
  std::string_view keep = {};            // controls that stay, such as "\n\t" in a longer text
};

// "a\nb\x1b" → R"(a\nb\x1b)"; U+202E → R"(\u202e)"; a byte that is not UTF-8 → R"(\xff)".
std::string Printable(std::string_view text, const PrintableOptions& options = {});

// At most `max_bytes` of `text` (cut between characters, "…" appended), printable.
std::string PrintablePrefix(std::string_view text, size_t max_bytes,
                            const PrintableOptions& options = {});

// JSON or YAML text whose strings are quoted and escaped by those languages' own rules, which leave
// C1, direction and invisible characters as they are: those become \uXXXX, too. Both languages read
// the same strings as before. Beyond U+FFFF JSON needs two escapes and YAML its own one.
enum class Notation { kJson, kYaml };
std::string PrintableQuoted(std::string_view text, Notation notation);

}  // namespace espalier::base
