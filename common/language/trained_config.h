// The configuration of a transformer that a training job describes: with it, the job's checkpoint
// is a language model, since its tensors have LLaMA's names.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "common/language/transformer_config.h"
#include "espalier/v1/model.pb.h"

namespace espalier::language {

// `spec` with its defaults filled in; `context` is data.text.context, the longest text the model
// was trained on. The result's json is set.
TransformerConfig LlamaConfigOf(const v1::TransformerSpec& spec, int64_t context);

// Of checkpoints that do not say what text they were trained on.
inline constexpr int64_t kUnknownContext = 2048;

// The configuration of the model in one of Espalier's checkpoint files, by the file's metadata: a
// language model that a job pruned, or a transformer that a job trained.
// Errors: InvalidArgument NOT_A_LANGUAGE_MODEL for checkpoints of other networks and other files;
// those of ParseTransformerConfig().
absl::StatusOr<TransformerConfig> ConfigOfCheckpoint(
    const std::map<std::string, std::string>& metadata);

}  // namespace espalier::language
