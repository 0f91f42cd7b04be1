// PrivateRows: tensors with rows of users that never leave this worker (federated recommendation).
//
// Files:       <state dir>/<job>/<participant>-<round>.rows: structure, values and optimizer state
//              as the round's training left them, written aside, synced and renamed, with a
//              checksum. The newest three rounds are kept: a round that is begun again, after a crash
//              or a lost answer, starts from the same rows, also where the coordinator comes back
//              with the round before the one that is in work here.
// Threading:   one task at a time. One process per state directory.
// Errors:      STATE_DIR_MISSING (FailedPrecondition) without a directory; STATE_CORRUPT (DataLoss)
//              for a file that is not what was written; those of io.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::worker::tasks {

class PrivateRows {
 public:
  explicit PrivateRows(std::string state_dir) : state_dir_(std::move(state_dir)) {}

  // The rows that the newest round up to `round` left; nothing when there is none.
  absl::StatusOr<std::optional<tensor::ModelState>> Load(
      const v1::Task& task, int32_t round,
      const std::shared_ptr<const tensor::ModelLayout>& layout) const;

  // Participants of the task's job whose rows are here, with the rounds of them, ascending.
  absl::StatusOr<std::map<std::string, std::vector<int32_t>>> Kept(const v1::Task& task) const;

  // Keeps what round `task.round` left, and removes what is older than the two rounds before.
  absl::Status Save(const v1::Task& task, const tensor::ModelState& rows) const;

  // First rows of `users` users: uniform random structure, the values of the model's initialiser.
  static absl::StatusOr<tensor::ModelState> Initial(
      const v1::Task& task, const std::shared_ptr<const tensor::ModelLayout>& layout,
      int64_t users);

 private:
  absl::StatusOr<std::string> DirectoryOf(const v1::Task& task) const;

  std::string state_dir_;
};

}  // namespace espalier::worker::tasks
