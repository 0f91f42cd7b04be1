#include "worker/data/errors.h"

#include <fmt/format.h>

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

std::string Quote(std::string_view text) {
  constexpr size_t kLongest = 40;
  std::string quoted = "'";
  for (const char c : text.substr(0, kLongest)) quoted += (c >= ' ' && c <= '~') ? c : '?';
  if (text.size() > kLongest) quoted += "...";
  return quoted + "'";
}

}  // namespace espalier::worker::data
