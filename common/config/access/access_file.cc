#include "common/config/access/access_file.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::config {

YamlNode ParseAccessFile(std::string_view text, const std::string& expected,
                         std::vector<Violation>& violations) {
  const size_t before = violations.size();
  YamlNode root = ParseYaml(text, violations);
  if (violations.size() == before && root.kind != YamlNode::Kind::kMap) {
    const char* found = root.kind == YamlNode::Kind::kNothing ? "nothing" : "something else";
    violations.push_back({"", fmt::format("expected {}, found {}", expected, found)});
  }
  return violations.size() == before ? root : YamlNode();
}

absl::Status AccessFileStatus(const std::string& file, const std::string& reason,
                              const std::vector<Violation>& violations) {
  constexpr size_t kShown = 10;
  if (violations.empty()) return absl::OkStatus();
  std::string text = fmt::format("{} has {} problem{}:", Quoted(file), violations.size(),
                                 violations.size() == 1 ? "" : "s");
  for (size_t i = 0; i < std::min(kShown, violations.size()); ++i) {
    const Violation& violation = violations[i];
    text += fmt::format("{} {}{}{}", i == 0 ? "" : ";", violation.field,
                        violation.field.empty() ? "" : ": ", violation.description);
  }
  if (violations.size() > kShown) {
    text += fmt::format("; and {} more", violations.size() - kShown);
  }
  return base::InvalidArgument(reason, text);
}

}  // namespace espalier::config
