// What a file asks a model, by the model's kind.
//
// Threading:   pure functions.
// Errors:      DATASET_INVALID and FILE_NOT_FOUND name the file; TOKENIZER_NOT_FOUND and those of
//              language::LoadTokenizer().
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/language/tokenizer.h"
#include "espalier/v1/predict.pb.h"
#include "worker/data/load_options.h"

namespace espalier::worker::predict {

// Each line of a text as the tokens that fit into `context`, its last ones; a file without line
// ends is one text. Empty lines are left out.
absl::StatusOr<v1::Examples> TextQuestions(const std::string& path,
                                           const language::Tokenizer& tokenizer, int64_t context,
                                           const data::LoadOptions& options);

// Each row of a table as a user and an item: columns of these names, or the first two.
absl::StatusOr<v1::Examples> PairQuestions(const std::string& path,
                                           const data::LoadOptions& options);

}  // namespace espalier::worker::predict
