// What the path after `espalier init` is.
//
// Errors:      NotFound PATH_NOT_FOUND; FailedPrecondition DATA_UNUSABLE, which says what was
//              looked for and found, and the command that helps.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace espalier::cli::init {

struct Source {
  std::string folder;     // the data set's, or the model's
  std::string root;       // the folder around it: --data-root, or --models
  std::string name;       // of the folder: data.dataset, or model.pretrained
  bool is_model = false;  // a trained language model in Hugging Face's layout
};

// `path`: a folder, or a file that is the data of the folder that it is in.
absl::StatusOr<Source> FindSource(const std::string& path);

}  // namespace espalier::cli::init
