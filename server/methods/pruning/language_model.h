// A language model in parts, as a program hands it from step to step.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/part_codec.h"
#include "server/pretrained/part_store.h"

namespace espalier::server::methods {

// Immutable; a changed block makes a new one that shares the other parts.
struct LanguageModel {
  language::TransformerConfig config;
  pretrained::Part outer;
  std::vector<pretrained::Part> blocks;
  // Tokenizer and what else belongs to the model, by file name: they go into its checkpoints.
  std::vector<std::pair<std::string, pretrained::Part>> companions;
  std::vector<int64_t> active;  // stored weights of each block's linear layers
  int64_t block_weights = 0;    // weights of one block's linear layers if they were dense
  int64_t outer_weights = 0;    // everything else

  int64_t active_weights() const {
    int64_t sum = 0;
    for (const int64_t block : active) sum += block;
    return sum;
  }
  int64_t linear_weights() const { return block_weights * static_cast<int64_t>(blocks.size()); }
};

// All parts of `reader`'s model, one block in memory at a time.
absl::StatusOr<std::shared_ptr<const LanguageModel>> PublishModel(
    const language::CheckpointReader& reader, pretrained::PartStore& parts);

// `model` with another block.
absl::StatusOr<std::shared_ptr<const LanguageModel>> ReplaceBlock(
    const LanguageModel& model, int64_t block, const language::BlockWeights& weights,
    pretrained::PartStore& parts);

}  // namespace espalier::server::methods
