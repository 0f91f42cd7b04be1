// Numbering: names as the numbers 0, 1, … in the order in which they are met.
//
// Threading:   not thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace espalier::worker::data {

class Numbering {
 public:
  int32_t Of(std::string_view name);
  bool Has(std::string_view name) const { return numbers_.contains(name); }
  std::optional<int32_t> Find(std::string_view name) const;
  std::vector<std::string> Take() { return std::move(names_); }
  int32_t size() const { return static_cast<int32_t>(names_.size()); }
  // Memory of the names, about.
  int64_t bytes() const { return bytes_; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> numbers_;
  std::vector<std::string> names_;
  int64_t bytes_ = 0;
};

}  // namespace espalier::worker::data
