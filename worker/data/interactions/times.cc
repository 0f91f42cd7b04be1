#include "worker/data/interactions/times.h"

#include <absl/time/civil_time.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <string>

namespace espalier::worker::data {
namespace {

constexpr size_t kPlaces = 18;
constexpr int kMostExponent = 400;  // beyond any double

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string_view TakeDigits(std::string_view& text) {
  const auto* const end = std::find_if_not(text.begin(), text.end(), IsDigit);
  const std::string_view digits = text.substr(0, static_cast<size_t>(end - text.begin()));
  text.remove_prefix(digits.size());
  return digits;
}

bool Take(std::string_view& text, char c) {
  if (!text.starts_with(c)) return false;
  text.remove_prefix(1);
  return true;
}

// A number of up to 18 digits, or none.
std::optional<int64_t> Number(std::string_view digits) {
  int64_t value = 0;
  if (digits.empty()) return value;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

// The first 18 digits after the point as a number of 10^−18.
int64_t Fraction(std::string_view digits) {
  std::string padded(digits.substr(0, kPlaces));
  padded.resize(kPlaces, '0');
  return *Number(padded);
}

std::optional<Time> Signed(bool negative, int64_t whole, int64_t fraction) {
  if (!negative) return Time{whole, fraction};
  if (fraction == 0) return Time{-whole, 0};
  constexpr int64_t kOne = 1'000'000'000'000'000'000;
  return Time{-whole - 1, kOne - fraction};
}

// Digits around a point that `exponent` moves.
std::optional<Time> WithExponent(bool negative, std::string_view before, std::string_view after,
                                 int exponent) {
  std::string digits = std::string(before) + std::string(after);
  int64_t point = static_cast<int64_t>(before.size()) + exponent;
  if (point < 0) {
    digits.insert(0, static_cast<size_t>(-point), '0');
    point = 0;
  }
  if (point > static_cast<int64_t>(digits.size())) digits.resize(static_cast<size_t>(point), '0');
  std::string_view whole = std::string_view(digits).substr(0, static_cast<size_t>(point));
  whole.remove_prefix(std::min(whole.find_first_not_of('0'), whole.size()));
  const auto number = Number(whole);
  if (!number.has_value()) return std::nullopt;
  return Signed(negative, *number,
                Fraction(std::string_view(digits).substr(static_cast<size_t>(point))));
}

// "e-05"; none for what is no exponent.
std::optional<int> ParseExponent(std::string_view text) {
  if (!Take(text, 'e') && !Take(text, 'E')) return std::nullopt;
  const bool negative = Take(text, '-');
  if (!negative) Take(text, '+');
  const std::string_view digits = TakeDigits(text);
  const auto value = Number(digits);
  if (digits.empty() || !text.empty() || !value.has_value() || *value > kMostExponent) {
    return std::nullopt;
  }
  return negative ? -static_cast<int>(*value) : static_cast<int>(*value);
}

std::optional<Time> ParseDecimal(std::string_view text) {
  const bool negative = Take(text, '-');
  if (!negative) Take(text, '+');
  const std::string_view before = TakeDigits(text);
  const std::string_view after = Take(text, '.') ? TakeDigits(text) : std::string_view();
  if (before.empty() && after.empty()) return std::nullopt;
  if (text.empty()) {
    const auto whole = Number(before);
    return whole.has_value() ? Signed(negative, *whole, Fraction(after)) : std::nullopt;
  }
  const auto exponent = ParseExponent(text);
  if (!exponent.has_value()) return std::nullopt;
  return WithExponent(negative, before, after, *exponent);
}

// Exactly `width` digits.
std::optional<int> TakeField(std::string_view& text, size_t width) {
  const std::string_view field = text.substr(0, width);
  if (field.size() != width || !std::all_of(field.begin(), field.end(), IsDigit)) {
    return std::nullopt;
  }
  text.remove_prefix(width);
  return static_cast<int>(*Number(field));
}

// Seconds that a zone is ahead of UTC; none for what is no zone.
std::optional<int> ParseZone(std::string_view text) {
  if (text.empty() || text == "Z" || text == "z") return 0;
  const bool behind = text.front() == '-';
  if (!Take(text, '-') && !Take(text, '+')) return std::nullopt;
  const auto hours = TakeField(text, 2);
  Take(text, ':');
  const auto minutes = text.empty() ? std::optional(0) : TakeField(text, 2);
  if (!hours.has_value() || !minutes.has_value() || !text.empty()) return std::nullopt;
  if (*hours > 23 || *minutes > 59) return std::nullopt;
  const int seconds = 3600 * *hours + 60 * *minutes;
  return behind ? -seconds : seconds;
}

struct Clock {
  int hours = 0;
  int minutes = 0;
  int seconds = 0;
  int64_t fraction = 0;
};

// "12:30", "12:30:00" or "12:30:00.250".
std::optional<Clock> TakeClock(std::string_view& text) {
  Clock clock;
  const auto hours = TakeField(text, 2);
  if (!hours.has_value() || !Take(text, ':')) return std::nullopt;
  const auto minutes = TakeField(text, 2);
  if (!minutes.has_value()) return std::nullopt;
  clock.hours = *hours;
  clock.minutes = *minutes;
  if (!Take(text, ':')) return clock;
  const auto seconds = TakeField(text, 2);
  if (!seconds.has_value()) return std::nullopt;
  clock.seconds = *seconds;
  if (Take(text, '.')) clock.fraction = Fraction(TakeDigits(text));
  return clock;
}

std::optional<Time> ParseDate(std::string_view text) {
  const auto year = TakeField(text, 4);
  if (!year.has_value() || !Take(text, '-')) return std::nullopt;
  const auto month = TakeField(text, 2);
  if (!month.has_value() || !Take(text, '-')) return std::nullopt;
  const auto day = TakeField(text, 2);
  if (!day.has_value()) return std::nullopt;
  Clock clock;
  int ahead = 0;
  if (!text.empty()) {
    if (!Take(text, 'T') && !Take(text, 't') && !Take(text, ' ')) return std::nullopt;
    const auto taken = TakeClock(text);
    if (taken.has_value()) Take(text, ' ');
    const auto zone = ParseZone(text);
    if (!taken.has_value() || !zone.has_value()) return std::nullopt;
    clock = *taken;
    ahead = *zone;
  }
  const absl::CivilSecond second(*year, *month, *day, clock.hours, clock.minutes, clock.seconds);
  // A 31st of February would become a day of March.
  if (second.month() != *month || second.day() != *day || second.hour() != clock.hours ||
      second.minute() != clock.minutes || second.second() != clock.seconds) {
    return std::nullopt;
  }
  return Time{second - absl::CivilSecond() - ahead, clock.fraction};
}

}  // namespace

std::optional<WrittenTime> ParseTime(std::string_view text) {
  if (const auto number = ParseDecimal(text)) return WrittenTime{*number, false};
  if (const auto date = ParseDate(text)) return WrittenTime{*date, true};
  return std::nullopt;
}

}  // namespace espalier::worker::data
