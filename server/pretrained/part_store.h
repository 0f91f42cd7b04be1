// PartStore: bytes in mapped files that exist as long as somebody holds them.
//
// Memory:      pages of a part are the operating system's to drop: a model in parts may be larger
//              than memory. A file loses its name as soon as it is mapped, so that nothing is left
//              behind by a crash.
// Threading:   Put() may be called from several threads; parts are immutable.
// Errors:      those of the file system.
#pragma once

#include <atomic>
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
  // `directory` must exist; `files` is borrowed.
  PartStore(io::FileSystem& files, std::string directory)
      : files_(files), directory_(std::move(directory)) {}
  absl::StatusOr<Part> Put(std::string_view bytes);

 private:
  io::FileSystem& files_;
  const std::string directory_;
  std::atomic<uint64_t> next_{0};
};

}  // namespace espalier::server::pretrained
