#include "client/cli/programs/temporary_folder.h"

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp is POSIX

#include <filesystem>
#include <system_error>
#include <utility>

#include "common/base/status.h"

namespace espalier::cli {

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

absl::Status TemporaryFolder::Create() {
  std::error_code error;
  std::string pattern = (std::filesystem::temp_directory_path(error) / "espalier-XXXXXX").string();
  if (error || mkdtemp(pattern.data()) == nullptr) {
    return base::FailedPrecondition("FOLDER_UNUSABLE",
                                    "expected a folder for temporary files that can be written, "
                                    "found none; set TMPDIR to one");
  }
  path_ = std::move(pattern);
  return absl::OkStatus();
}

absl::StatusOr<std::string> DownloadTo(Context& context, const std::string& name,
                                       const std::string& folder) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint,
                            client->GetCheckpoint(ResourceName("checkpoints", name)));
  std::string file = folder + "/.download.safetensors";
  ESPALIER_RETURN_IF_ERROR(client->DownloadCheckpoint(
      checkpoint, file, [](int64_t) {}, context.stop()));
  return file;
}

}  // namespace espalier::cli
