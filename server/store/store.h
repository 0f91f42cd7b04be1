// Store: what a coordinator has to remember of its jobs when its process ends, whenever that is.
//
// Everything is written by Commit(), all of it or nothing, and is on stable storage when Commit()
// returns. What is kept of a job are bytes that the store does not look into (records/records.proto and
// methods/program_state_codec.h say what they are), and checks when it reads them.
//
// Ownership:   one store for one coordinator at a time; where several may come, Begin() finds out whose
//              it is.
// Threading:   all calls of one store come from one thread at a time.
// Errors:      Commit(): ResourceExhausted STORAGE_FULL and Unavailable STORAGE_ERROR, after which the
//              same is tried again, and nothing else, until it is written: once, however often it is
//              tried. After all others the process must end: DataLoss SYNC_FAILED when it is not
//              known what the disk has, and the next process finds out; DataLoss STORE_CORRUPT;
//              Aborted STORE_LEASE_LOST when the store is another coordinator's by now.
//              Reading: DataLoss STORE_CORRUPT, which names the file and the way back.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace espalier::server::store {

// An event of a job by its number.
struct StoredEvent {
  int64_t sequence = 0;
  std::string bytes;  // v1::JobEvent
};

// An update that counts, of the step in work.
struct StoredUpdate {
  std::string id;           // update_id, which never returns with other bytes
  std::string fingerprint;  // of all that must be the same when it is sent again
  std::string bytes;        // UpdateRecord
};

// A record on who may use the cluster, by its name; absent where it is deleted.
struct AccessWrite {
  std::string name;
  std::optional<std::string> record;
};

// What changed of one job. Absent fields stay as they are.
struct JobWrite {
  std::string job;                      // "jobs/{id}"
  std::optional<std::string> accepted;  // AcceptedJob; with a job's first write, and only then
  bool deleted = false;                 // nothing of the job stays; all other fields are absent
  std::optional<std::string> record;    // JobRecord
  std::optional<std::string> progress;  // ProgressRecord
  std::optional<std::string> state;     // StateRecord; "": its program has none (any more)
  std::vector<StoredEvent> events;      // come after those that are there
  bool new_step = false;                // the updates that were there are of an earlier step
  std::vector<StoredUpdate> updates;    // of the step in work, come to those that are there
  // Ids and fingerprints of updates of an earlier step, of which it is remembered that they counted.
  std::vector<std::pair<std::string, std::string>> counted_before = {};
  // Belongs to no job; where `job` is "", nothing else changes.
  std::vector<AccessWrite> access = {};
};

// A job as it was written last.
struct StoredJob {
  std::string job;
  std::string accepted;
  std::string record;
  std::string progress;
  std::string state;
  std::vector<StoredEvent> events;    // by their numbers
  std::vector<StoredUpdate> updates;  // of the step in work, in the order in which they came
};

// Of a store that has no job of this name.
absl::Status NoSuchJob(const std::string& job);

class Store {
 public:
  // Of how many updates it is remembered at least that they were counted, also after their step.
  static constexpr int64_t kRememberedUpdates = 65'536;

  virtual ~Store() = default;
  // A coordinator begins to use the store. Returns its incarnation: `first` in a new store, or one
  // more than the last one had. Errors: Unavailable STORE_LEASE_HELD while it is another coordinator's.
  virtual absl::StatusOr<uint64_t> Begin(uint64_t first) = 0;
  virtual absl::Status Commit(std::span<const JobWrite> writes) = 0;
  // Shows all jobs, in the order in which they were accepted, with what was accepted and the record
  // alone. Ends with the first error of `visit`.
  using Visit = std::function<absl::Status(StoredJob job)>;
  virtual absl::Status Jobs(const Visit& visit) = 0;
  // The record alone, and all of one job. Errors: NotFound JOB_NOT_FOUND.
  virtual absl::StatusOr<std::string> ReadRecord(const std::string& job) = 0;
  virtual absl::StatusOr<StoredJob> Read(const std::string& job) = 0;
  // Ids and fingerprints of the newest updates that were counted, the oldest first.
  virtual absl::StatusOr<std::vector<std::pair<std::string, std::string>>> CountedUpdates() = 0;
  // All records on who may use the cluster, by their names.
  virtual absl::StatusOr<std::map<std::string, std::string>> AccessRecords() = 0;
};

}  // namespace espalier::server::store
