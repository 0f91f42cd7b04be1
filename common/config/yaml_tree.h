// YamlTree: a YAML document as a plain tree with line numbers. The only place that sees the YAML
// library and its exceptions.
//
// Limits:  1 MiB of text, 32 levels, 100,000 nodes; aliases are refused, so a small file cannot
// grow. Errors:  ParseYaml() reports one violation for a document that cannot be read, and one for
// each
//          repeated key, alias or key that is not a word.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/config/parameters.h"

namespace espalier::config {

inline constexpr size_t kMaxYamlBytes = size_t{1} << 20;

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNothing, kScalar, kList, kMap };
  Kind kind = Kind::kNothing;
  int line = 0;         // 1-based
  std::string scalar;   // kScalar
  bool quoted = false;  // kScalar: was in quotes, so it is text even if it looks like a number
  std::vector<YamlNode> items;     // kList
  std::vector<YamlEntry> entries;  // kMap, in file order, names distinct
};

struct YamlEntry {
  std::string name;
  YamlNode value;
};

// The single document in `text`. Returns a kNothing node after a violation about the whole
// document.
YamlNode ParseYaml(std::string_view text, std::vector<Violation>& violations);

}  // namespace espalier::config
