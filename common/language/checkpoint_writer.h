// CheckpointWriter: saves a transformer in the layout it was read from, block by block.
//
// Formats:     kHuggingFace: config.json and one model.safetensors, every tensor dense in its
//              stored shape; pruned weights are zeros. kSparse: the same, but linear layers with
//              zeros are W.bitmap (one bit per position) and W.values; CheckpointReader reads both.
//              All tensors are saved as the type that is asked for.
// Memory:      one tensor at a time; data waits in a temporary file beside the result until all
//              sizes are known.
// Durability:  the directory has either all of the result or no model.safetensors.
// Threading:   one caller. Determinism: equal weights give equal bytes.
// Errors:      InvalidArgument BLOCK_ORDER, TENSOR_SHAPE, WEIGHT_NOT_FINITE; those of the file
//              system. After an error the writer is unusable and leaves nothing behind.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "common/io/spool_file.h"
#include "common/language/checkpoint_reader.h"

namespace espalier::language {

enum class CheckpointFormat { kHuggingFace, kSparse };

struct CheckpointWriterOptions {
  CheckpointFormat format = CheckpointFormat::kHuggingFace;
  wire::DataType type = wire::DataType::kF32;        // F32, F16 or BF16, of all tensors
  std::map<std::string, std::string> metadata = {};  // added to the header's __metadata__
};

class CheckpointWriter {
 public:
  using Options = CheckpointWriterOptions;

  // Creates `directory` when needed. `files` is borrowed for the life of the writer.
  static absl::StatusOr<std::unique_ptr<CheckpointWriter>> Create(io::FileSystem& files,
                                                                  const std::string& directory,
                                                                  const TransformerConfig& config,
                                                                  Options options = {});
  ~CheckpointWriter();

  // First the outer weights, then all blocks in order, then Finish(). Companion files at any time
  // before it: kHuggingFace has them beside the weights, kSparse as tensors of bytes.
  absl::Status WriteOuter(const OuterWeights& outer);
  absl::Status WriteBlock(const BlockWeights& block);
  absl::Status WriteCompanion(const CompanionFile& file);
  absl::Status Finish();

 private:
  CheckpointWriter(io::FileSystem& files, std::string directory, TransformerConfig config,
                   Options options)
      : files_(&files),
        directory_(std::move(directory)),
        config_(std::move(config)),
        options_(std::move(options)) {}

  absl::Status WriteFloats(const StoredTensor& tensor, std::span<const float> values);
  absl::Status WriteLinear(const std::string& name, const LinearWeights& linear);
  absl::Status WriteSparse(const std::string& name, LinearWeights linear);
  absl::Status Append(std::string name, wire::DataType type, std::vector<int64_t> shape,
                      std::span<const float> values);

  io::FileSystem* files_;
  std::string directory_;
  TransformerConfig config_;
  Options options_;
  std::unique_ptr<io::SpoolFile> data_;
  std::vector<wire::TensorInfo> tensors_;
  bool outer_written_ = false;
  int64_t blocks_written_ = 0;
};

}  // namespace espalier::language
