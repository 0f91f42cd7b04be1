// UpdateLedger: which updates were counted, so that an update that is sent again counts once, and
// another one under the same id is refused.
//
// Bounds:    the newest kRemembered updates of all jobs together, about 300 bytes each.
// Threading: lives on the core executor.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::jobs {

class UpdateLedger {
 public:
  static constexpr size_t kRemembered = 65'536;

  // Whether this update was counted before. Errors: AlreadyExists UPDATE_ID_REUSED when one of the
  // same id, but for another task or with other bytes, was.
  absl::StatusOr<bool> WasCounted(const v1::PartialHeader& header) const;
  void Count(const v1::PartialHeader& header);
  // One that another process had counted.
  void Restore(const std::string& update_id, const std::string& fingerprint);
  // What must be the same when an update is sent again.
  static std::string Fingerprint(const v1::PartialHeader& header);

 private:
  std::map<std::string, std::string> counted_;  // update id -> fingerprint
  std::deque<std::string> order_;               // oldest first
};

}  // namespace espalier::server::jobs
