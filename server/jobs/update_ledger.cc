#include "server/jobs/update_ledger.h"

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
  const auto it = counted_.find(header.update_id());
  if (it == counted_.end()) return false;
  if (it->second == Fingerprint(header)) return true;
  return base::MakeError(absl::StatusCode::kAlreadyExists, "UPDATE_ID_REUSED",
                         "expected the same update under the same id, found another one; the first "
                         "stands; give every finished task an update id of its own");
}

void UpdateLedger::Count(const v1::PartialHeader& header) {
  Restore(header.update_id(), Fingerprint(header));
}

void UpdateLedger::Restore(const std::string& update_id, const std::string& fingerprint) {
  if (!counted_.emplace(update_id, fingerprint).second) return;
  order_.push_back(update_id);
  if (order_.size() <= kRemembered) return;
  counted_.erase(order_.front());
  order_.pop_front();
}

}  // namespace espalier::server::jobs
