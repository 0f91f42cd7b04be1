// Backups: a copy of a coordinator's data folder that another coordinator can begin with.
//
// A backup is a folder of the same form as the data folder: the store, the parts that it names, and
// the checkpoints. Files that never change are linked where both folders are on one file system, and
// copied otherwise.
//
// Consistency: the store is copied, and its parts are linked or copied, while nothing can be written
//              to it; a coordinator that runs waits for that with what it would write, and goes on.
// Verified:    everything in the backup is read again before it gets its name.
// Errors:      FailedPrecondition BACKUP_TARGET_USED, RESTORE_TARGET_USED, STORE_NOT_FOUND; DataLoss
//              BACKUP_DAMAGED, which names the file; those of the store and of the file system.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace espalier::server::backup {

struct Contents {
  int64_t jobs = 0;
  int64_t parts = 0;
  int64_t checkpoints = 0;
};

// Makes the folder `target_folder`, which must not exist or be empty, from the data folder `data_dir`.
absl::StatusOr<Contents> BackUp(const std::string& data_dir, const std::string& target_folder);

// Fills `data_dir`, which must have no store, from the backup in `source_folder`, which stays as it is. The
// lives that follow are told apart from those of any other coordinator by `incarnation`, which is
// to be drawn at random.
absl::StatusOr<Contents> Restore(const std::string& source_folder, const std::string& data_dir,
                                 uint64_t incarnation);

}  // namespace espalier::server::backup
