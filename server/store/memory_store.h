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
  absl::Status Jobs(const Visit& visit) override;
  absl::StatusOr<std::string> ReadRecord(const std::string& job) override;
  absl::StatusOr<StoredJob> Read(const std::string& job) override;
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> CountedUpdates() override;
  absl::StatusOr<std::map<std::string, std::string>> AccessRecords() override;

 private:
  void Delete(const std::string& job);

  std::optional<uint64_t> incarnation_;
  std::map<int64_t, StoredJob> jobs_;  // by their numbers, which rise
  std::map<std::string, int64_t> by_name_;
  int64_t next_number_ = 0;
  std::deque<std::pair<std::string, std::string>> counted_;
  std::map<std::string, std::string> access_;
};

}  // namespace espalier::server::store
