// A language model's checkpoint as a folder that other programs load.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace espalier::cli {

// Turns `file`, a downloaded checkpoint of a pruned language model, into config.json and
// model.safetensors in Hugging Face's layout, pruned weights being zeros, in `directory`. `file` is
// taken away. Errors: InvalidArgument NOT_A_LANGUAGE_MODEL; those of common/language.
absl::Status ExportHuggingFace(const std::string& file, const std::string& directory);

}  // namespace espalier::cli
