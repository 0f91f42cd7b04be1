// YamlTree: a YAML document as a plain tree with line numbers. The only place that sees the YAML
// library and its exceptions.
//
// Words are read as in YAML 1.2's core schema: null, ~ and nothing are nothing.
// Limits:  1 MiB of text, 32 levels, 100,000 nodes. Aliases are refused, so a small file cannot
//          grow; so are merge keys and tags, which programs read differently.
// Errors:  one violation, with line and column, for a document that cannot be read; else one for
//          each repeated key, alias, merge key, tag, key that is not a word, and word with a space
//          or quote that only looks like one.
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

// The single document in `text`; a kNothing node when a violation was appended.
YamlNode ParseYaml(std::string_view text, std::vector<Violation>& violations);

}  // namespace espalier::config
