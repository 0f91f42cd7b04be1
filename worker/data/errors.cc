#include "worker/data/errors.h"

#include <fmt/format.h>

#include "common/base/status.h"

namespace espalier::worker::data {

absl::Status DatasetInvalid(std::string_view file, const Complaint& complaint) {
  return base::FailedPrecondition(
      kDatasetInvalid, fmt::format("data set {}{}{}: expected {}, found {}; to fix it, {}", file,
                                   complaint.where.empty() ? "" : ", ", complaint.where,
                                   complaint.expected, complaint.found, complaint.fix));
}

std::string Quote(std::string_view text) {
  constexpr size_t kLongest = 40;
  std::string quoted = "'";
  for (const char c : text.substr(0, kLongest)) quoted += (c >= ' ' && c <= '~') ? c : '?';
  if (text.size() > kLongest) quoted += "...";
  return quoted + "'";
}

}  // namespace espalier::worker::data
