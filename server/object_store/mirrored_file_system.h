// MirroredFileSystem: a folder of this machine of which an object store has a copy.
//
// Files are written and read here, so that nobody who reads waits for a network. A file that gets its
// name by Rename() is sent to the store before that returns; one that is removed is removed there,
// too, first. So what is in the store is what was finished, and the store is what counts: Pull() makes
// the folder the same as it, when a coordinator begins. What is named like a temporary file stays here.
//
// Paths:     "<root>/directory/file" is "directory/file" in the store.
// Writers:   one at a time, which the caller sees to. An object in the store says which folder was
//            written from last, so that a folder that another one has overtaken is compared file by
//            file.
// Ownership: everything is borrowed for ever.
// Threading: as FileSystem; Pull() by one thread at a time, and not beside Rename() or Remove().
// Errors:    those of both file systems. After an error of Rename() the file has its new name here,
//            and the same may be done again.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include "common/io/file_system.h"

namespace espalier::server::object_store {

class MirroredFileSystem : public io::FileSystem {
 public:
  // `id`: of the folder `root`, so that no other one has the same.
  MirroredFileSystem(io::FileSystem& local, io::FileSystem& store, std::string root,
                     std::string id);

  absl::StatusOr<std::unique_ptr<io::WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<io::ReadableFile>> Open(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& directory) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override;
  absl::Status CreateDirectories(const std::string& directory) override;

  struct Pulled {
    int64_t fetched = 0;
    int64_t removed = 0;
    int64_t sent = 0;
  };
  // While another one writes: fetches what the store has of a folder and this machine has not, or had
  // otherwise when it was looked at first. Changes nothing in the store. Ends early, with OK, when `stop`
  // is requested.
  absl::StatusOr<Pulled> Prefetch(const std::string& directory, const std::stop_token& stop);
  // The same, and removes here what the store does not have. From now on this folder is the one that was
  // written last. Where the store has never been written to, all files of the folder are sent to it
  // instead.
  absl::StatusOr<Pulled> Pull(const std::string& directory);

 private:
  absl::StatusOr<std::string> InStore(const std::string& path) const;
  absl::StatusOr<std::vector<std::string>> Files(io::FileSystem& files,
                                                 const std::string& directory) const;
  absl::StatusOr<bool> IsSame(const std::string& path) const;
  absl::StatusOr<Pulled> Bring(const std::string& directory, const std::stop_token& stop,
                               std::set<std::string>& known);
  absl::Status Send(const std::string& path);
  absl::Status Fetch(const std::string& path);
  absl::StatusOr<std::string> LastWriter(const std::string& directory);
  absl::Status NoteWriter(const std::string& directory);

  io::FileSystem& local_;
  io::FileSystem& store_;
  const std::string root_;
  const std::string id_;
  std::set<std::string> prefetched_;  // files that Prefetch() need not look at again
};

}  // namespace espalier::server::object_store
