// ModelLibrary: the trained models that jobs of a coordinator can begin with.
//
// Names:       "NAME" is a folder under the models' root in Hugging Face's layout, with letters,
//              digits, '-', '_' and '.'; "checkpoints/{job}-{round}" is a checkpoint written here,
//              of a network or of a language model. A job never gives a path. ("jobs/{job}" is
//              resolved when a job is created.)
// Threading:   thread-safe.
// Errors:      InvalidArgument MODEL_NAME; FailedPrecondition MODELS_UNSET; NotFound
//              MODEL_NOT_FOUND (the message lists what there is); those of the reader and of the
//              store.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/language/checkpoint_reader.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/pretrained/part_store.h"

namespace espalier::server::pretrained {

// Whether `name` means a checkpoint of this coordinator.
inline bool IsCheckpointName(std::string_view name) { return name.starts_with("checkpoints/"); }

class ModelLibrary {
 public:
  // `models_root` "" = none; `parts_directory` must exist. Everything else is borrowed.
  ModelLibrary(io::FileSystem& files, std::string models_root, const std::string& parts_directory,
               const checkpoint::CheckpointStore& checkpoints)
      : files_(files),
        models_root_(std::move(models_root)),
        parts_(files, parts_directory),
        checkpoints_(checkpoints) {}

  absl::StatusOr<std::unique_ptr<language::CheckpointReader>> OpenLanguageModel(
      const std::string& name) const;
  // A checkpoint's.
  absl::StatusOr<checkpoint::LoadedCheckpoint> LoadNetwork(const std::string& name) const;
  // What a checkpoint's header says, whatever it is of.
  absl::StatusOr<checkpoint::CheckpointMetadata> ReadMetadata(const std::string& name) const;
  // To be read tensor by tensor.
  absl::StatusOr<std::unique_ptr<checkpoint::CheckpointReader>> OpenNetwork(
      const std::string& name) const;
  PartStore& parts() const { return parts_; }

 private:
  io::FileSystem& files_;
  const std::string models_root_;
  mutable PartStore parts_;
  const checkpoint::CheckpointStore& checkpoints_;
};

}  // namespace espalier::server::pretrained
