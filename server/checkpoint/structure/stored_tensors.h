// The tensors of weights in a checkpoint file, as matrices, by the file's header alone.
//
// Which:     of networks those with two dimensions or more, of language models the same; biases and
//            what normalises have one.
// Rows:      are the units that weights lead to, columns those that they come from, also where a
//            language model's file has a matrix the other way round (`transposed`).
// Errors:    those of the safetensors header and of DecodeMetadata(); DataLoss CHECKPOINT_CORRUPT where
//            the header does not fit itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/safetensors.h"

namespace espalier::server::checkpoint {

struct StoredTensor {
  enum class Form {
    kDense,
    kCsr,     // NAME.row_offsets, NAME.columns and NAME.values
    kBitmap,  // NAME.bitmap and NAME.values
  };
  std::string name;
  std::vector<int64_t> shape;
  int64_t rows = 0;
  int64_t columns = 0;
  Form form = Form::kDense;
  bool transposed = false;  // the file has columns × rows
  int64_t stored = 0;       // weights that exist
};

struct StoredModel {
  wire::SafetensorsHeader header;
  std::vector<StoredTensor> tensors;
  // Of a network told by layers; otherwise without features, since its first tensor takes none.
  wire::FeatureShape input = {};
};

absl::StatusOr<StoredModel> ReadStoredModel(const io::ReadableFile& file);

// What the errors of a damaged file say.
absl::Status CorruptTensor(const std::string& tensor, const std::string& what);

}  // namespace espalier::server::checkpoint
