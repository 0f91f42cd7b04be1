// A language model's checkpoint as a folder that other programs load.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::client {

// Turns `file`, a downloaded checkpoint, into config.json and model.safetensors in Hugging Face's
// layout in `directory`, absent weights being zeros, and takes `file` away. The files that belong
// to the model (tokenizer, generation_config.json) are those that the checkpoint has, or, if
// `tokenizer_folder` is not "", that folder's; the result names them. The checkpoint is that of a
// pruned language model, or of a transformer that a job trained; for the latter config.json names
// as many positions as an example had tokens.
// Memory: one block.
// Errors: InvalidArgument NOT_A_LANGUAGE_MODEL; those of common/language.
absl::StatusOr<std::vector<std::string>> ExportHuggingFace(const std::string& file,
                                                           const std::string& directory,
                                                           const std::string& tokenizer_folder);

}  // namespace espalier::client
