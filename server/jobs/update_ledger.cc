#include "server/jobs/update_ledger.h"

#include <utility>

#include "common/base/status.h"
#include "common/io/sha256.h"

namespace espalier::server::jobs {

// The session may be another one: a worker that comes back sends what it still has again.
std::string UpdateLedger::Fingerprint(const v1::PartialHeader& header) {
  v1::PartialHeader same = header;
  same.clear_session();
  same.clear_compute_time();
  same.clear_peak_memory_bytes();
  return io::Sha256Hex(same.SerializeAsString());
}

absl::StatusOr<bool> UpdateLedger::WasCounted(const v1::PartialHeader& header) const {
  const auto counted = counted_.find(header.update_id());
  const auto being_counted = being_counted_.find(header.update_id());
  const bool was_counted = counted != counted_.end();
  if (!was_counted && being_counted == being_counted_.end()) return false;
  const std::string& first = was_counted ? counted->second : being_counted->second.fingerprint;
  if (first == Fingerprint(header)) return was_counted;
  return base::MakeError(absl::StatusCode::kAlreadyExists, "UPDATE_ID_REUSED",
                         "expected the same update under the same id, found another one; the first "
                         "stands; give every finished task an update id of its own");
}

void UpdateLedger::Count(const v1::PartialHeader& header) {
  Restore(header.update_id(), Fingerprint(header));
}

bool UpdateLedger::IsBeingCounted(const std::string& update_id) const {
  return being_counted_.contains(update_id);
}

void UpdateLedger::Begin(const v1::PartialHeader& header) {
  being_counted_[header.update_id()].fingerprint = Fingerprint(header);
}

void UpdateLedger::Wait(const std::string& update_id, Done done) {
  being_counted_.at(update_id).waiting.push_back(std::move(done));
}

std::vector<UpdateLedger::Done> UpdateLedger::End(const std::string& update_id) {
  const auto node = being_counted_.extract(update_id);
  if (node.empty()) return {};
  return std::move(node.mapped().waiting);
}

void UpdateLedger::Restore(const std::string& update_id, const std::string& fingerprint) {
  if (!counted_.emplace(update_id, fingerprint).second) return;
  order_.push_back(update_id);
  if (order_.size() <= kRemembered) return;
  counted_.erase(order_.front());
  order_.pop_front();
}

}  // namespace espalier::server::jobs
