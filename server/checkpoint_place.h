// CheckpointPlace: where a coordinator's checkpoints are: a folder, or a folder of its own and a bucket
// of an object store that has a copy of it and is what counts.
//
// Threading: one thread.
// Ownership: the place outlives the store that it opens.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/entropy.h"
#include "common/io/file_system.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/flags.h"
#include "server/tenure.h"

namespace espalier::server::object_store {
class MirroredFileSystem;
}  // namespace espalier::server::object_store

namespace espalier::server {

class CheckpointPlace {
 public:
  // `tenure` is borrowed. Sends nothing to a bucket yet. Errors: those of S3Options.
  static absl::StatusOr<std::unique_ptr<CheckpointPlace>> Make(const Flags& flags, Tenure& tenure,
                                                               base::Entropy& entropy);
  ~CheckpointPlace();

  // While another coordinator works: fetches its checkpoints from the bucket as they come, on a thread
  // of its own, so that there is little left to be fetched when this one takes over.
  void Follow();
  // What is there, now that this coordinator works. Ends Follow(). Errors: those of the store and of the
  // bucket.
  absl::StatusOr<std::unique_ptr<checkpoint::CheckpointStore>> Open();

 private:
  explicit CheckpointPlace(std::string directory);
  absl::Status Pull();
  // Whether any file that is damaged here was fetched again.
  absl::StatusOr<bool> Mend(const checkpoint::CheckpointStore& checkpoints);

  const std::string directory_;
  io::FileSystem* files_ = nullptr;
  std::unique_ptr<io::FileSystem> bucket_;
  std::unique_ptr<io::FileSystem> guarded_bucket_;
  std::unique_ptr<object_store::MirroredFileSystem> mirror_;
  std::jthread follower_;
};

}  // namespace espalier::server
