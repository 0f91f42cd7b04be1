// What a program beside this one is given to work with.
//
// Threading:   use from the main thread.
// Errors:      FailedPrecondition FOLDER_UNUSABLE; those of the client.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/cli/context.h"

namespace espalier::cli {

// A folder that goes when this does.
class TemporaryFolder {
 public:
  TemporaryFolder() = default;
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();

  absl::Status Create();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Downloads a checkpoint of the coordinator, "checkpoints/NAME" or only NAME, into `folder`.
// Returns the path of the file.
absl::StatusOr<std::string> DownloadTo(Context& context, const std::string& name,
                                       const std::string& folder);

}  // namespace espalier::cli
