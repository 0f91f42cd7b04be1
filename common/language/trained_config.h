// The configuration of the transformer in a checkpoint, whether a job pruned or trained it: with
// it, the checkpoint is a language model, since its tensors have Hugging Face's names.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/language/architecture/transformer_config.h"

namespace espalier::language {

// Of checkpoints that do not say what text they were trained on.
inline constexpr int64_t kUnknownContext = 2048;

// Whether a training job wrote the checkpoint with these metadata, rather than one that prunes.
bool IsTrained(const std::map<std::string, std::string>& metadata);

// The configuration of the model in one of Espalier's checkpoint files, by the file's metadata: a
// language model that a job pruned, or a transformer that a job trained.
// Errors: InvalidArgument NOT_A_LANGUAGE_MODEL for checkpoints of other networks and other files;
// those of ParseTransformerConfig().
absl::StatusOr<TransformerConfig> ConfigOfCheckpoint(
    const std::map<std::string, std::string>& metadata);

}  // namespace espalier::language
