#include "client/dashboard/http/target.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

constexpr size_t kShown = 200;

absl::Status Invalid(std::string_view raw, std::string_view why) {
  return base::InvalidArgument(
      "TARGET_INVALID",
      fmt::format(
          "expected a path like /api/v1/jobs/my-job?max_points=500 whose names are UTF-8 and "
          "escaped with %, found {} in \"{}\"",
          why, base::PrintablePrefix(raw, kShown, {.with_backslash = "\""})));
}

int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  c = absl::ascii_tolower(static_cast<unsigned char>(c));
  return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Nothing: an escape is broken.
std::optional<std::string> Decoded(std::string_view text, bool plus_is_space) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+' && plus_is_space) {
      decoded += ' ';
    } else if (text[i] != '%') {
      decoded += text[i];
    } else {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = DigitOf(text[i + 1]);
      const int low = DigitOf(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      decoded += static_cast<char>(high * 16 + low);
      i += 2;
    }
  }
  return decoded;
}

// What is wrong with a decoded text; "" when nothing is.
std::string_view FaultOf(const std::string& text) {
  if (!base::IsUtf8(text)) return "bytes that are not UTF-8";
  const bool controls = std::any_of(text.begin(), text.end(), [](char c) {
    return absl::ascii_iscntrl(static_cast<unsigned char>(c));
  });
  return controls ? "control characters" : "";
}

}  // namespace

std::optional<std::string> Target::Value(std::string_view name) const {
  const auto found = std::find_if(query.begin(), query.end(),
                                  [name](const auto& entry) { return entry.first == name; });
  return found == query.end() ? std::nullopt : std::optional(found->second);
}

std::vector<std::string> Target::Values(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [key, value] : query) {
    if (key == name) values.push_back(value);
  }
  return values;
}

absl::StatusOr<Target> ParseTarget(std::string_view raw) {
  if (raw.empty() || raw.front() != '/') return Invalid(raw, "no slash at its front");
  const size_t question = raw.find('?');
  std::string_view path =
      raw.substr(1, question == std::string_view::npos ? question : question - 1);
  Target target;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const auto part = Decoded(path.substr(0, slash), false);
    if (!part.has_value()) return Invalid(raw, "a broken escape");
    if (const auto fault = FaultOf(*part); !fault.empty()) return Invalid(raw, fault);
    if (*part == "." || *part == "..") return Invalid(raw, "a step to another folder");
    if (part->find_first_of("/\\") != std::string::npos) return Invalid(raw, "a slash in a name");
    target.parts.push_back(*part);
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  std::string_view query = question == std::string_view::npos ? "" : raw.substr(question + 1);
  while (!query.empty()) {
    const size_t end = std::min(query.find('&'), query.size());
    const std::string_view entry = query.substr(0, end);
    const size_t equals = std::min(entry.find('='), entry.size());
    const auto name = Decoded(entry.substr(0, equals), true);
    const auto value = Decoded(entry.substr(std::min(equals + 1, entry.size())), true);
    if (!name.has_value() || !value.has_value()) return Invalid(raw, "a broken escape");
    for (const std::string& text : {*name, *value}) {
      if (const auto fault = FaultOf(text); !fault.empty()) return Invalid(raw, fault);
    }
    if (!entry.empty()) target.query.emplace_back(*name, *value);
    query.remove_prefix(std::min(end + 1, query.size()));
  }
  return target;
}

}  // namespace espalier::dashboard
