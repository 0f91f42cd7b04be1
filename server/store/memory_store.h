// MemoryStore: a store that lives as long as its process: for simulations, in which coordinators
// die and others go on with what they had written.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/store/store.h"

namespace espalier::server::store {

class MemoryStore : public Store {
 public:
  absl::StatusOr<uint64_t> Begin(uint64_t first) override;
  absl::Status Commit(std::span<const JobWrite> writes) override;
  absl::StatusOr<std::vector<StoredJob>> Load() override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> CountedUpdates() override;

 private:
  std::optional<uint64_t> incarnation_;
  std::vector<StoredJob> jobs_;
  std::map<std::string, size_t> by_name_;
  std::deque<std::pair<std::string, std::string>> counted_;
};

}  // namespace espalier::server::store
