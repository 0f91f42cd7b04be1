// MirroredFileSystem: a folder of this machine of which an object store has a copy.
//
// Files are written and read here, so that nobody who reads waits for a network. A file that gets its
// name by Rename() is sent to the store before that returns; one that is removed is removed there,
// too, first. So what is in the store is what was finished, and the store is what counts: Pull() makes
// the folder the same as it, when a coordinator begins. Nothing is destroyed by that of which it is not
// known that the store had it: such files are put aside. Only names with `suffix` are looked at;
// temporary ones, and what lies in a folder "*.work", stay here.
//
// Records:   "mirror-state" beside the folder says which bucket it is a copy of, what this folder is
//            called there as a writer, and which files it has sent or fetched. An object in the store says
//            which folder was written from last; each Pull() gives the folder a new name, so that one
//            that was copied, or that another one has overtaken, is compared file by file.
// Writers:   one at a time, which the caller sees to.
// Ownership: everything is borrowed for ever.
// Threading: as FileSystem; Pull() and Prefetch() by one thread at a time, and not beside Rename() or
//            Remove().
// Errors:    those of both file systems. After an error of Rename() the file has its new name here,
//            and the same may be done again.
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "common/base/mutex.h"
#include "common/io/file_system.h"

namespace espalier::server::object_store {

class MirroredFileSystem : public io::FileSystem {
 public:
  struct Options {
    std::string root;       // a folder of this machine
    std::string directory;  // the one below it of which the store has a copy: "checkpoints"
    std::string suffix;     // of the names of its files
    std::string bucket;     // what the store is called
    std::function<std::string()> new_id;
  };
  MirroredFileSystem(io::FileSystem& local, io::FileSystem& store, Options options);

  absl::StatusOr<std::unique_ptr<io::WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<io::ReadableFile>> Open(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& directory) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override;
  absl::Status CreateDirectories(const std::string& directory) override;

  struct Pulled {
    int64_t fetched = 0;
    int64_t removed = 0;    // the store had them once
    int64_t put_aside = 0;  // it is not known that it had them
    int64_t sent = 0;
  };
  // While another one writes: fetches what the store has and this machine has not, or had otherwise
  // when it was looked at first, and removes what it has fetched and the store has no more. Changes
  // nothing in the store. Ends early, with Cancelled, when `stop` is requested.
  absl::StatusOr<Pulled> Prefetch(const std::stop_token& stop);
  // Makes the folder the same as the store, or, where nothing was ever in that, the store the same as the
  // folder.
  absl::StatusOr<Pulled> Pull();
  // Whether a file that is damaged here was fetched again.
  absl::StatusOr<bool> Mend(const std::string& name);

 private:
  // What "mirror-state" says.
  struct State {
    std::string id;
    std::set<std::string> known;
  };

  std::string PathOf(const std::string& name) const;
  bool IsMirrored(const std::string& path) const;
  std::string InStore(const std::string& path) const;
  absl::StatusOr<std::vector<std::string>> Files(io::FileSystem& files,
                                                 const std::string& directory) const;
  absl::StatusOr<bool> IsSame(const std::string& name) const;
  absl::Status Send(const std::string& path);
  absl::Status Fetch(const std::string& name, const std::stop_token& stop);
  absl::Status PutAside(const std::string& name);
  absl::StatusOr<std::string> LastWriter();
  absl::Status BecomeLastWriter();
  // Of this folder, as the state says.
  std::string Id();
  bool IsKnown(const std::string& name);
  absl::Status ReadState();
  absl::Status WriteState() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Says so in the state as well.
  absl::Status Note(const std::string& name, bool known);

  io::FileSystem& local_;
  io::FileSystem& store_;
  const Options options_;
  const std::string folder_;
  base::Mutex mutex_;
  State state_ ABSL_GUARDED_BY(mutex_);
  bool has_state_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::string> prefetched_;  // files that Prefetch() need not look at again
};

}  // namespace espalier::server::object_store
