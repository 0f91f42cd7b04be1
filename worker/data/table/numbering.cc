#include "worker/data/table/numbering.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kBytesBesideName = 112;

}  // namespace

int32_t Numbering::Of(std::string_view name) {
  const auto known = numbers_.find(name);
  if (known != numbers_.end()) return known->second;
  const auto number = static_cast<int32_t>(names_.size());
  names_.emplace_back(name);
  numbers_.emplace(names_.back(), number);
  // Twice, and what a vector and a hash table keep beside it.
  bytes_ += static_cast<int64_t>(2 * name.size() + kBytesBesideName);
  return number;
}

std::optional<int32_t> Numbering::Find(std::string_view name) const {
  const auto known = numbers_.find(name);
  return known == numbers_.end() ? std::nullopt : std::optional(known->second);
}

}  // namespace espalier::worker::data
