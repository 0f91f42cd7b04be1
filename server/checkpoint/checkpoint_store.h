// CheckpointStore: the folder of checkpoint files and an index of it.
//
// The folder is the truth: the index is rebuilt at start by reading and verifying every file,
// damaged ones are left where they are but not listed, and temporary files of a crash are removed.
// One store per folder. A name is "checkpoints/{job}-{round}", its file
// "{job}-{round}.safetensors".
//
// Threading: all members may be called from any thread; Write() and Prune() of one job by one at a
//            time.
// Ownership: the store outlives its pins.
// Errors:    CHECKPOINT_NOT_FOUND (NotFound); INVALID_NAME (InvalidArgument); those of
//            checkpoint_file.h.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/checkpoint/checkpoint_file.h"
#include "common/io/file_system.h"
#include "common/tensor/model.h"

namespace espalier::server::checkpoint {

// What files hold is said by common/checkpoint.
using espalier::checkpoint::AttachedFile;
using espalier::checkpoint::CheckpointMetadata;
using espalier::checkpoint::CheckpointReader;
using espalier::checkpoint::LoadedCheckpoint;
using espalier::checkpoint::WrittenFile;

struct CheckpointInfo {
  std::string name;  // "checkpoints/{job}-{round}"
  std::string job;   // id without "jobs/"
  int32_t round = 0;
  std::string run;    // of the job's runs; "" where it trained one model
  std::string owner;  // the user whose job it was; "" where the cluster does not know its users
  uint64_t size_bytes = 0;
  std::string sha256;  // of the file, hex
  std::string main_metric_name;
  std::optional<double> main_metric;
  double density = 0;
  absl::Time create_time;
};

// ^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$
bool IsValidJobId(std::string_view job);

class CheckpointStore {
 public:
  // A file that could not be used, and why.
  struct Damaged {
    std::string file;
    absl::Status reason;
  };

  // Creates `directory` if need be. `files` is borrowed for the life of the store.
  static absl::StatusOr<std::unique_ptr<CheckpointStore>> Open(io::FileSystem& files,
                                                               std::string directory);

  // Durable and verified when it returns. Replaces a checkpoint of the same job and round.
  absl::StatusOr<CheckpointInfo> Write(const tensor::ModelState& state,
                                       const CheckpointMetadata& metadata,
                                       std::span<const AttachedFile> attached = {});
  // Likewise of a language model, which `write` writes as `directory`/model.safetensors with
  // `metadata` in its header (common/language/checkpoint_writer.h).
  using LanguageWriter =
      std::function<absl::Status(io::FileSystem& files, const std::string& directory,
                                 std::map<std::string, std::string> metadata)>;
  absl::StatusOr<CheckpointInfo> WriteLanguageModel(const CheckpointMetadata& metadata,
                                                    double density, const LanguageWriter& write);
  // Of one job, or of all when `job` is empty; by job, newest round first.
  std::vector<CheckpointInfo> List(std::string_view job) const;
  absl::StatusOr<CheckpointInfo> Get(std::string_view name) const;
  // What all checkpoints of jobs of this user take, also of jobs that nobody knows any more.
  int64_t BytesOf(std::string_view owner) const;
  // For reading in pieces; stays readable when the checkpoint is pruned meanwhile.
  absl::StatusOr<std::unique_ptr<io::ReadableFile>> OpenFile(std::string_view name) const;
  absl::StatusOr<LoadedCheckpoint> Load(std::string_view name) const;
  // Of a network, to be read tensor by tensor.
  absl::StatusOr<std::unique_ptr<CheckpointReader>> OpenNetwork(std::string_view name) const;
  absl::StatusOr<CheckpointMetadata> ReadMetadata(std::string_view name) const;
  // Its file in the operating system, for mapping; it may be pruned at any time.
  absl::StatusOr<std::string> FilePath(std::string_view name) const;
  // Removes all checkpoints of a job but, of each of its runs, the newest `keep` ≥ 1 and the one of
  // the best main metric (the earliest of equals). Returns the names removed.
  absl::StatusOr<std::vector<std::string>> Prune(std::string_view job, int32_t keep);
  // Removes all of these, or none where one of them is in use. Errors: FailedPrecondition
  // CHECKPOINT_IN_USE.
  absl::Status Remove(const std::vector<std::string>& names);
  // Reads the whole file again. Errors: DataLoss CHECKPOINT_CORRUPT when it is not what was written.
  absl::Status Verify(std::string_view name) const;
  // Prune() and Remove() leave the checkpoint of this name where it is as long as the pin lives.
  using Pin = std::shared_ptr<void>;
  Pin Use(std::string_view name);
  // Files that Open() found but could not use.
  const std::vector<Damaged>& damaged() const { return damaged_; }

 private:
  // Job and round; rounds in falling order.
  struct Key {
    std::string job;
    int32_t round = 0;
    bool operator<(const Key& other) const {
      return job != other.job ? job < other.job : round > other.round;
    }
  };
  using Index = std::map<Key, CheckpointInfo>;

  CheckpointStore(io::FileSystem& files, std::string directory)
      : files_(files), directory_(std::move(directory)) {}

  static absl::Status CheckName(const CheckpointMetadata& metadata);
  static std::string FileName(const Key& key);
  static std::optional<Key> ParseFileName(std::string_view file);
  std::string PathOf(const Key& key) const;
  absl::Status Scan();
  void RemoveLeftovers(const std::string& folder);
  void AddFile(const std::string& file);
  // The key of a name that is in the index.
  absl::StatusOr<Key> Find(std::string_view name) const;
  std::vector<Key> Superfluous(std::string_view job, int32_t keep) const;

  io::FileSystem& files_;
  const std::string directory_;
  std::vector<Damaged> damaged_;
  base::Mutex language_mutex_;  // one language model is written at a time
  mutable base::Mutex mutex_;
  Index index_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, int> in_use_ ABSL_GUARDED_BY(mutex_);  // names and pins
};

}  // namespace espalier::server::checkpoint
