// What files about access have in common: YAML of one map, read strictly.
//
// Threading, determinism: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "common/config/parameters.h"
#include "common/config/yaml_tree.h"

namespace espalier::config {

// The map in `text`; a kNothing node when a violation was appended. A file without content is one.
// `expected` says what the file should hold: "rules: a map with the list allow".
YamlNode ParseAccessFile(std::string_view text, const std::string& expected,
                         std::vector<Violation>& violations);

// OK without violations; else InvalidArgument `reason`, which lists them under the file's name.
absl::Status AccessFileStatus(const std::string& file, const std::string& reason,
                              const std::vector<Violation>& violations);

}  // namespace espalier::config
