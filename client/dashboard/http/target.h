// Target: what the first line of a request asks for, path and query, decoded.
//
// Errors:    InvalidArgument TARGET_INVALID for what no page and no call could mean: a broken escape,
//            bytes that are not UTF-8, control characters, "." and ".." as a part of the path, a slash
//            inside of a part.
// Threading: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::dashboard {

struct Target {
  std::vector<std::string> parts;  // of the path: "/jobs/a" has two, "/" has none
  std::vector<std::pair<std::string, std::string>> query;

  // The first value of that name in the query.
  std::optional<std::string> Value(std::string_view name) const;
  std::vector<std::string> Values(std::string_view name) const;
};

absl::StatusOr<Target> ParseTarget(std::string_view raw);

}  // namespace espalier::dashboard
