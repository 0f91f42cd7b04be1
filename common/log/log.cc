#include "common/log/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cctype>
#include <memory>

#include "common/base/printable.h"

namespace espalier::log {
namespace {

std::function<void(Level)>& Counter() {
  static auto* counter = new std::function<void(Level)>();
  return *counter;
}

spdlog::logger& Logger() {
  static auto* logger = [] {
    auto* created =
        new spdlog::logger("espalier", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    created->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %l %v", spdlog::pattern_time_type::utc);
    created->flush_on(spdlog::level::debug);
    return created;
  }();
  return *logger;
}

spdlog::level::level_enum ToSpdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

// A longer value is cut: whoever writes to the log for others cannot fill a disk with one line.
constexpr size_t kMaxValueBytes = 2048;

bool IsPlain(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) ||
         std::string_view("-_./:+%,").find(c) != std::string_view::npos;
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

void Write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (Counter()) Counter()(level);
  const auto spd_level = ToSpdlog(level);
  if (Logger().should_log(spd_level)) Logger().log(spd_level, "{}", FormatLine(event, fields));
}

bool SetLevel(std::string_view word) {
  if (word != "debug" && word != "info" && word != "warning" && word != "error") return false;
  Logger().set_level(word == "error" ? spdlog::level::err
                                     : spdlog::level::from_str(std::string(word)));
  return true;
}

void SetCounter(std::function<void(Level)> counter) { Counter() = std::move(counter); }

}  // namespace espalier::log
