#include "server/pretrained/model_library.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "common/base/names.h"
#include "common/base/status.h"

namespace espalier::server::pretrained {
absl::StatusOr<std::unique_ptr<language::CheckpointReader>> ModelLibrary::OpenLanguageModel(
    const std::string& name) const {
  if (IsCheckpointName(name)) {
    ESPALIER_ASSIGN_OR_RETURN(const std::string path, checkpoints_.FilePath(name));
    return language::CheckpointReader::OpenFile(path);
  }
  if (!base::IsModelName(name)) {
    return base::InvalidArgument(
        "MODEL_NAME",
        fmt::format("expected the name of a folder under the coordinator's --models (letters, "
                    "digits, '-', '_', '.'; no path), found '{}'",
                    name));
  }
  if (models_root_.empty()) {
    return base::FailedPrecondition(
        "MODELS_UNSET", fmt::format("expected a coordinator with a folder of trained models, found "
                                    "none for '{}'; start it with --models DIR",
                                    name));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> known, files_.List(models_root_));
  if (std::find(known.begin(), known.end(), name) == known.end()) {
    return base::NotFound(
        "MODEL_NOT_FOUND",
        fmt::format("expected a model under the coordinator's --models ({}), "
                    "found '{}'",
                    known.empty() ? "none" : fmt::format("{}", fmt::join(known, ", ")), name));
  }
  return language::CheckpointReader::Open(models_root_ + "/" + name);
}

absl::StatusOr<checkpoint::LoadedCheckpoint> ModelLibrary::LoadNetwork(
    const std::string& name) const {
  return checkpoints_.Load(name);
}

absl::StatusOr<checkpoint::CheckpointMetadata> ModelLibrary::ReadMetadata(
    const std::string& name) const {
  return checkpoints_.ReadMetadata(name);
}

absl::StatusOr<std::unique_ptr<checkpoint::CheckpointReader>> ModelLibrary::OpenNetwork(
    const std::string& name) const {
  return checkpoints_.OpenNetwork(name);
}

}  // namespace espalier::server::pretrained
