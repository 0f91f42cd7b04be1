// PredictFile: what a checkpoint's model says of each example in a file, on this machine alone.
//
// Threading:   one caller at a time.
// Determinism: as worker/tasks/network/example_form.h.
// Errors:      those of ReadCheckpointFile(), of worker/data/prediction.h and of the model's tasks;
//              InvalidArgument USAGE for options that do not go together.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace espalier::worker::predict {

struct PredictOptions {
  std::string checkpoint;      // a file, as jobs write it
  std::string input;           // a file, or a folder of images
  std::string format = "csv";  // csv, json or npy
  std::string dataset;         // recommenders: the folder of the data set
  std::string tokenizer;       // language models: file or folder, or "bytes"; "": the job's
  int32_t top = 0;             // so many most probable outputs of each example; 0: all
  int threads = 1;
  int64_t max_memory_bytes = 0;  // for the examples
};

// The result as bytes of that format, which docs/predict.md describes.
absl::StatusOr<std::string> PredictFile(const PredictOptions& options);

}  // namespace espalier::worker::predict
