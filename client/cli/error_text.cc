#include "client/cli/error_text.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_split.h"
#include "client/lib/client.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"
#include "nlohmann/json.hpp"

namespace espalier::cli {
namespace {

constexpr char kLinesUrl[] = "espalier/further_lines";

// Already printable, without line feeds of their own.
std::vector<std::string> FurtherLines(const absl::Status& status) {
  const auto payload = status.GetPayload(kLinesUrl);
  if (!payload.has_value()) return {};
  return absl::StrSplit(std::string(*payload), '\n');
}

std::string TextForPeople(const absl::Status& status, const Terminal& terminal) {
  constexpr size_t kShown = 50;
  // An interruption is what the user wanted.
  std::string text = status.code() == absl::StatusCode::kCancelled
                         ? std::string()
                         : Styled(terminal, "31", "error:") + " ";
  text += base::Printable(base::MessageOf(status)) + "\n";
  for (const std::string& line : FurtherLines(status)) text += fmt::format("  {}\n", line);
  const auto violations = client::ViolationsOf(status);
  for (size_t i = 0; i < std::min(violations.size(), kShown); ++i) {
    text += fmt::format("  {}{}{}\n", base::Printable(violations[i].field),
                        violations[i].field.empty() ? "" : ": ",
                        base::Printable(violations[i].description));
  }
  const size_t more =
      violations.size() - std::min(violations.size(), kShown) + client::ViolationsLeftOut(status);
  if (more > 0) text += fmt::format("  … and {} more\n", more);
  return text;
}

}  // namespace

absl::Status WithFurtherLines(const absl::Status& status, const std::vector<std::string>& lines) {
  std::vector<std::string> printable;
  printable.reserve(lines.size());
  for (const std::string& line : lines) printable.push_back(base::Printable(line));
  absl::Status result = status;
  result.SetPayload(kLinesUrl, absl::Cord(fmt::format("{}", fmt::join(printable, "\n"))));
  return result;
}

absl::Status OutputUnwritable() {
  return base::MakeError(
      absl::StatusCode::kResourceExhausted, "OUTPUT_UNWRITABLE",
      "standard output could not be written to its end; is the disk full, or did its reader end?");
}

std::string ErrorText(const absl::Status& status, Format format, const Terminal& terminal) {
  if (format == Format::kTable) return TextForPeople(status, terminal);
  nlohmann::ordered_json json;
  json["code"] = absl::StatusCodeToString(status.code());
  json["reason"] = base::ReasonOf(status);
  std::string message = base::MessageOf(status);
  for (const std::string& line : FurtherLines(status)) message += "\n" + line;
  json["message"] = message;
  json["violations"] = nlohmann::ordered_json::array();
  for (const config::Violation& violation : client::ViolationsOf(status)) {
    json["violations"].push_back(
        {{"field", violation.field}, {"description", violation.description}});
  }
  if (const size_t left_out = client::ViolationsLeftOut(status); left_out > 0) {
    json["violations_left_out"] = left_out;
  }
  // Text that came from elsewhere may hold any bytes; they are replaced instead of thrown at.
  return base::PrintableQuoted(
             json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace),
             base::Notation::kJson) +
         "\n";
}

}  // namespace espalier::cli
