// A checkpoint from arbitrary bytes, for tests of hostile files.
#pragma once

#include <fstream>
#include <string>
#include <string_view>

#include "common/language/checkpoint_reader.h"

namespace espalier::support {

// Reads all weights.
inline absl::Status ReadAll(const language::CheckpointReader& reader) {
  if (const auto outer = reader.ReadOuter(); !outer.ok()) return outer.status();
  for (int64_t block = 0; block < reader.config().blocks; ++block) {
    if (const auto weights = reader.ReadBlock(block); !weights.ok()) return weights.status();
  }
  return absl::OkStatus();
}

// Opens `directory`, which must have a config.json, with `bytes` as model.safetensors and reads all
// weights. Whatever the bytes are, this must return.
inline absl::Status ReadAllWeights(const std::string& directory, std::string_view bytes) {
  std::ofstream(directory + "/model.safetensors", std::ios::binary) << bytes;
  const auto reader = language::CheckpointReader::Open(directory);
  return reader.ok() ? ReadAll(**reader) : reader.status();
}

}  // namespace espalier::support
