// UpdateLedger: which updates were counted and which are being counted, so that an update that is
// sent again counts once and is answered as the first one is, and another one under the same id is
// refused.
//
// Bounds:    the newest kRemembered updates of all jobs together, about 300 bytes each.
// Threading: lives on the core executor.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::jobs {

class UpdateLedger {
 public:
  static constexpr size_t kRemembered = 65'536;

  // Whether this update was counted before. Errors: AlreadyExists UPDATE_ID_REUSED when one of the
  // same id, but for another task or with other bytes, was or is being counted.
  absl::StatusOr<bool> WasCounted(const v1::PartialHeader& header) const;
  void Count(const v1::PartialHeader& header);

  using Done = std::function<void(absl::Status)>;
  // Whether the update of that id is being counted: Begin() was called with it, and End() was not.
  bool IsBeingCounted(const std::string& update_id) const;
  void Begin(const v1::PartialHeader& header);
  // `done` waits for the update of that id, which is being counted, beside whoever sent it first.
  void Wait(const std::string& update_id, Done done);
  // What became of it is known. Returns who waits.
  std::vector<Done> End(const std::string& update_id);

  // One that another process had counted.
  void Restore(const std::string& update_id, const std::string& fingerprint);
  // What must be the same when an update is sent again.
  static std::string Fingerprint(const v1::PartialHeader& header);

 private:
  struct BeingCounted {
    std::string fingerprint;
    std::vector<Done> waiting;
  };

  std::map<std::string, std::string> counted_;         // update id -> fingerprint
  std::map<std::string, BeingCounted> being_counted_;  // by update id
  std::deque<std::string> order_;                      // oldest first
};

}  // namespace espalier::server::jobs
