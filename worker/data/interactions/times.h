// Points in time as interaction files write them, compared exactly.
//
// Numbers:     of any unit: seconds, milliseconds, nanoseconds, days, or scaled to [0, 1]; only
//              their order matters. Digits are read as they stand, never through floating point:
//              1700000000123456789 and …788 are two times, and so are 1700000000.123456789 and
//              …788. 18 decimal places count. "8.8e-05" is a number.
// Dates:       ISO 8601: 2014-07-01, 2014-07-01 12:30, 2014-07-01T12:30:00.250, with Z or an
//              offset such as +02:00 after the time; without one they are UTC.
// Threading:   pure functions.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string_view>

namespace espalier::worker::data {

struct Time {
  int64_t whole = 0;
  int64_t fraction = 0;  // of 10^−18, ≥ 0: −0.25 is −1 and 0.75

  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 takes the comparison's 0 for a pointer.
  auto operator<=>(const Time& other) const = default;
};

struct WrittenTime {
  Time time;
  bool is_date = false;  // then of seconds; numbers and dates do not compare
};

// Nothing for what is no time: also for an empty text, NaN, infinity and numbers beyond ±9.2·10^18.
std::optional<WrittenTime> ParseTime(std::string_view text);

}  // namespace espalier::worker::data
