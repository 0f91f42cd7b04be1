#include "worker/data/errors.h"

#include <fmt/format.h>

#include <algorithm>

#include "common/base/printable.h"
#include "common/base/status.h"

namespace espalier::worker::data {

namespace {

std::string Sentence(std::string_view file, const Complaint& complaint) {
  return fmt::format("data set {}{}{}: expected {}, found {}; to fix it, {}", file,
                     complaint.where.empty() ? "" : ", ", complaint.where, complaint.expected,
                     complaint.found, complaint.fix);
}

}  // namespace

absl::Status DatasetInvalid(std::string_view file, const Complaint& complaint) {
  return base::FailedPrecondition(kDatasetInvalid, Sentence(file, complaint));
}

absl::Status DatasetTooLarge(std::string_view file, const Complaint& complaint) {
  return base::MakeError(absl::StatusCode::kResourceExhausted, kDatasetTooLarge,
                         Sentence(file, complaint));
}

std::string AtLine(int64_t line) { return fmt::format("line {}", line); }

std::string Quote(std::string_view text) {
  constexpr int kLongest = 40;
  std::string quoted = "'";
  for (int i = 0; i < kLongest && !text.empty(); ++i) {
    const size_t length = std::max(base::Utf8Length(text), size_t{1});
    const std::string_view character = text.substr(0, length);
    const bool shown = base::Utf8Length(text) > 0 && base::Printable(character) == character;
    quoted += shown ? character : "?";
    text.remove_prefix(length);
  }
  if (!text.empty()) quoted += "...";
  return quoted + "'";
}

}  // namespace espalier::worker::data
