// Structured log lines:
//
//   2026-01-31T12:00:00.123Z info round_committed job=jobs/a round=3 loss=0.25
//
// or, for programs that collect logs, the same as one JSON object, whose values are all texts:
//
//   {"time":"2026-01-31T12:00:00.123Z","level":"info","event":"round_committed","job":"jobs/a","round":"3",…}
//
// Event names are lower_snake_case constants; whatever comes from outside goes into field values,
// which are quoted and escaped (as base::Printable does, quotes and backslashes, too) when they
// need it, and cut after 2,048 bytes. Lines go to stderr.
// Threading: thread-safe.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>

namespace espalier::log {

enum class Level { kDebug, kInfo, kWarning, kError };

class Field {
 public:
  template <typename T>
  Field(std::string_view key, const T& value) : key_(key) {
    if constexpr (std::is_convertible_v<T, std::string_view>) {
      value_ = std::string(std::string_view(value));
    } else {
      value_ = fmt::format("{}", value);
    }
  }
  std::string_view key() const { return key_; }
  std::string_view value() const { return value_; }

 private:
  std::string_view key_;
  std::string value_;
};

void Write(Level level, std::string_view event, std::initializer_list<Field> fields);

inline void Debug(std::string_view event, std::initializer_list<Field> fields = {}) {
  Write(Level::kDebug, event, fields);
}
inline void Info(std::string_view event, std::initializer_list<Field> fields = {}) {
  Write(Level::kInfo, event, fields);
}
inline void Warning(std::string_view event, std::initializer_list<Field> fields = {}) {
  Write(Level::kWarning, event, fields);
}
inline void Error(std::string_view event, std::initializer_list<Field> fields = {}) {
  Write(Level::kError, event, fields);
}

// Least level that is written; default kInfo. False for an unknown word (debug, info, warning,
// error).
bool SetLevel(std::string_view word);

enum class Format { kText, kJson };
// How lines are written; default kText. False for an unknown word (text, json).
bool SetFormat(std::string_view word);

// Called for every message, written or not. Set once at start.
void SetCounter(std::function<void(Level)> counter);

// The line without time and level; what tests look at.
std::string FormatLine(std::string_view event, std::initializer_list<Field> fields);
// The members "event" and those of the fields of a line in JSON; the same.
std::string FormatMembers(std::string_view event, std::initializer_list<Field> fields);

}  // namespace espalier::log
