#include "common/log/log.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <cstdio>
#include <ctime>

#include "common/base/printable.h"

namespace espalier::log {
namespace {

std::function<void(Level)>& Counter() {
  static auto* counter = new std::function<void(Level)>();
  return *counter;
}

// Sorted as the enumerators are.
constexpr std::array<std::string_view, 4> kWords = {"debug", "info", "warning", "error"};

std::atomic<Level> least_level = Level::kInfo;
std::atomic<Format> format = Format::kText;

// `2026-01-31T12:00:00.123Z`.
std::string Now() {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  gmtime_r(&now.tv_sec, &parts);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", parts.tm_year + 1900,
                     parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                     now.tv_nsec / 1'000'000);
}

// A longer value is cut: whoever writes to the log for others cannot fill a disk with one line.
constexpr size_t kMaxValueBytes = 2048;

bool IsPlain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("-_./:+%,").find(c) != std::string_view::npos;
}

// A text in quotes. What cannot be printed is escaped twice, so that it still is when the JSON has been read.
std::string Quoted(std::string_view text) {
  const std::string printable = base::PrintablePrefix(text, kMaxValueBytes, {});
  std::string quoted = "\"";
  for (const char c : printable) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += c;
  }
  return quoted + '"';
}

}  // namespace

std::string FormatLine(std::string_view event, std::initializer_list<Field> fields) {
  std::string line(event);
  for (const Field& field : fields) {
    line += ' ';
    line += field.key();
    line += '=';
    const std::string_view value = field.value();
    if (!value.empty() && value.size() <= kMaxValueBytes &&
        std::all_of(value.begin(), value.end(), IsPlain)) {
      line += value;
    } else {
      line += '"';
      line += base::PrintablePrefix(value, kMaxValueBytes, {.with_backslash = "\"\\"});
      line += '"';
    }
  }
  return line;
}

std::string FormatMembers(std::string_view event, std::initializer_list<Field> fields) {
  std::string members = "\"event\":" + Quoted(event);
  for (const Field& field : fields) {
    members += fmt::format(",\"{}\":{}", field.key(), Quoted(field.value()));
  }
  return members;
}

void Write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (Counter()) Counter()(level);
  if (level < least_level) return;
  const std::string_view word = kWords[static_cast<size_t>(level)];
  const std::string line = format == Format::kJson
                               ? fmt::format("{{\"time\":\"{}\",\"level\":\"{}\",{}}}\n", Now(),
                                             word, FormatMembers(event, fields))
                               : fmt::format("{} {} {}\n", Now(), word, FormatLine(event, fields));
  // One call writes one line: stdio locks the stream, and stderr has no buffer to be flushed.
  std::fwrite(line.data(), 1, line.size(), stderr);
}

bool SetLevel(std::string_view word) {
  const auto found = std::find(kWords.begin(), kWords.end(), word);
  if (found == kWords.end()) return false;
  least_level = static_cast<Level>(found - kWords.begin());
  return true;
}

bool SetFormat(std::string_view word) {
  if (word != "text" && word != "json") return false;
  format = word == "json" ? Format::kJson : Format::kText;
  return true;
}

void SetCounter(std::function<void(Level)> counter) { Counter() = std::move(counter); }

}  // namespace espalier::log
