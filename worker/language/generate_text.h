// Greedy continuation of a text by a model in a folder, for a look at what it writes.
//
// Memory:      the whole model. Errors: those of reader, tokenizer and engine; InvalidArgument
//              PROMPT_EMPTY when the prompt has no tokens.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace espalier::worker::language {

struct GenerateOptions {
  std::string model;      // folder in Hugging Face's layout
  std::string tokenizer;  // folder with its tokenizer
  std::string prompt;
  int tokens = 100;
  int threads = 1;
};

// The prompt and what follows it.
absl::StatusOr<std::string> GenerateText(const GenerateOptions& options);

}  // namespace espalier::worker::language
