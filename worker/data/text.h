// Text as examples for language models.
//
// Files:       train.txt, train.jsonl, train.bin or train.npy, optionally test.txt, test.jsonl,
//              test.bin or test.npy, each perhaps with .gz; or one single .txt or .jsonl file. .txt
//              and .jsonl are tokenised as DataSpec.text says, .bin and .npy hold tokens. A
//              tokenizer that has a begin-of-sequence token begins each .txt file with it. Each
//              line of a .jsonl is a document; what stands between them: json_lines.h.
// Examples:    row i holds tokens [i · stride, i · stride + context) and is labelled with the one
//              that follows; a rest that fills no row is left out. num_classes() is the largest
//              token + 1.
// Memory:      one byte per token of a row when all tokens are below 256, otherwise four; while it
//              is read the text and its tokens are in memory too.
// Errors:      as load.h; TOKENIZER_INVALID, TOKENIZER_NOT_FOUND, TOKENS_INVALID; DATASET_INVALID
//              for a text shorter than one example.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/load.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

struct TextTokens {
  std::vector<int32_t> train;
  std::vector<int32_t> test;  // empty: no test file
};

// The files of a folder that hold text. Errors: DATASET_INVALID.
struct TextLayout {
  std::string train;
  std::string test;       // empty: none
  std::string tokenizer;  // empty: none
};
absl::StatusOr<TextLayout> DetectTextLayout(const std::string& dataset,
                                            const std::vector<FileEntry>& files);

// All tokens of spec.dataset(), for a spec with `text`; `context` and `stride` do not matter.
absl::StatusOr<TextTokens> LoadTextTokens(const DataRoot& root, const v1::DataSpec& spec,
                                          const LoadOptions& options = {});

// The examples of spec.dataset().
absl::StatusOr<Dataset> LoadText(const DataRoot& root, const v1::DataSpec& spec,
                                 const LoadOptions& options);

}  // namespace espalier::worker::data
