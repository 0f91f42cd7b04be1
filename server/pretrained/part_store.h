// PartStore: bytes in mapped files that are named by their digest and exist as long as somebody
// holds them, or for good once KeepFiles() was called.
//
// Files:       <directory>/<digest>; written aside and renamed, so that a name always has the whole
//              of its bytes. Equal bytes are one file. A process that is killed leaves its files to
//              the next one, which finds those that it needs, and then calls Sweep().
// Memory:      pages of a part are the operating system's to drop: a model in parts may be larger
//              than memory.
// Ownership:   parts may outlive the store.
// Threading:   any; parts are immutable.
// Errors:      those of the file system; Find(): NotFound (PART_MISSING), DataLoss (PART_CORRUPT)
//              for a file whose bytes are not those of its name.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "common/io/mapped_file.h"

namespace espalier::server::pretrained {

struct Part {
  std::string digest;  // SHA-256 of the bytes, hex
  std::shared_ptr<const io::MappedFile> file;
  std::string_view bytes() const { return file->bytes(); }
};

// Tokenizer and what else belongs to a model, by file name: it goes into the model's checkpoints.
struct Companions {
  std::vector<std::pair<std::string, Part>> files;
};

class PartStore {
 public:
  // `directory` must exist; `files` is borrowed for ever.
  PartStore(io::FileSystem& files, std::string directory);
  absl::StatusOr<Part> Put(std::string_view bytes);
  // Bytes that `source` gives piece by piece to its sink, and whose SHA-256 is `digest`. Errors:
  // those of `source`; DataLoss PART_CORRUPT for other bytes.
  using Sink = std::function<absl::Status(std::string_view piece)>;
  absl::StatusOr<Part> PutPieces(const std::string& digest,
                                 const std::function<absl::Status(const Sink& sink)>& source);
  // A part that somebody holds, or whose file another process left here.
  absl::StatusOr<Part> Find(const std::string& digest) const;
  // The same without a look at the bytes, which Find() then takes: so that the file stays.
  absl::StatusOr<Part> Hold(const std::string& digest) const;
  // From now on parts are on stable storage when Put() returns.
  void SyncFiles();
  // From now on files stay when nobody holds them any more: for jobs with which another process
  // goes on.
  void KeepFiles();
  // Removes what others left in the folder and nobody holds now. What cannot be removed stays, with
  // a line in the log.
  absl::Status Sweep();

 private:
  class Files;
  std::shared_ptr<Files> files_;
};

}  // namespace espalier::server::pretrained
