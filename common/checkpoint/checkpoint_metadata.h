// The metadata strings of a checkpoint file: for those who write and index such files.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/checkpoint/checkpoint_file.h"
#include "common/tensor/model.h"

namespace espalier::checkpoint {

using MetadataStrings = std::map<std::string, std::string>;

struct DecodedMetadata {
  CheckpointMetadata metadata;  // of a language model there is no layout
  double density = 0;
  std::string topology_hash;
  std::string data_sha256;
  tensor::ModelLayout layout;
  std::vector<bool> sparse;  // for each tensor of the layout
};

absl::StatusOr<MetadataStrings> EncodeMetadata(const CheckpointMetadata& metadata,
                                               const tensor::ModelTopology& topology,
                                               const std::string& data_sha256);

// Stands in the header of a language model's file until the digest of its data is known.
inline constexpr std::string_view kUnknownDigest =
    "0000000000000000000000000000000000000000000000000000000000000000";

// Of a file in the form of common/language/checkpoint_writer.h; data_sha256 is kUnknownDigest.
MetadataStrings EncodeLanguageMetadata(const CheckpointMetadata& metadata, double density);

// Errors: InvalidArgument (CHECKPOINT_INVALID) for missing, unknown-version or malformed entries.
absl::StatusOr<DecodedMetadata> DecodeMetadata(const MetadataStrings& strings);

}  // namespace espalier::checkpoint
