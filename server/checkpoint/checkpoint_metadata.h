// The metadata strings of a checkpoint file. Internal to server/checkpoint.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "server/checkpoint/checkpoint_file.h"

namespace espalier::server::checkpoint {

using MetadataStrings = std::map<std::string, std::string>;

struct DecodedMetadata {
  CheckpointMetadata metadata;
  double density = 0;
  std::string topology_hash;
  std::string data_sha256;
  tensor::ModelLayout layout;
  std::vector<bool> sparse;  // for each tensor of the layout
};

absl::StatusOr<MetadataStrings> EncodeMetadata(const CheckpointMetadata& metadata,
                                               const tensor::ModelTopology& topology,
                                               const std::string& data_sha256);

// Errors: InvalidArgument (CHECKPOINT_INVALID) for missing, unknown-version or malformed entries.
absl::StatusOr<DecodedMetadata> DecodeMetadata(const MetadataStrings& strings);

}  // namespace espalier::server::checkpoint
