#include "server/methods/pruning/language_model.h"

#include <utility>

#include "common/base/status.h"

namespace espalier::server::methods {
namespace {

int64_t StoredWeights(const language::BlockWeights& block) {
  int64_t stored = 0;
  for (const language::LinearWeights& linear : block.linears) {
    stored += static_cast<int64_t>(linear.values.size());
  }
  return stored;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const LanguageModel>> PublishModel(
    const language::CheckpointReader& reader, pretrained::PartStore& parts) {
  auto model = std::make_shared<LanguageModel>();
  model->config = reader.config();
  for (const language::LinearLayerSpec& spec : language::BlockLinears(model->config)) {
    model->block_weights += spec.outputs * spec.inputs;
  }
  {
    ESPALIER_ASSIGN_OR_RETURN(const language::OuterWeights outer, reader.ReadOuter());
    model->outer_weights =
        static_cast<int64_t>(outer.embedding.size() + outer.positions.size() + outer.output.size());
    ESPALIER_ASSIGN_OR_RETURN(model->outer, parts.Put(language::EncodeOuter(outer)));
  }
  for (int64_t b = 0; b < model->config.blocks; ++b) {
    ESPALIER_ASSIGN_OR_RETURN(const language::BlockWeights block, reader.ReadBlock(b));
    ESPALIER_ASSIGN_OR_RETURN(pretrained::Part part, parts.Put(language::EncodeBlock(block)));
    model->blocks.push_back(std::move(part));
    model->active.push_back(StoredWeights(block));
  }
  for (const language::CompanionFile& file : reader.companions()) {
    ESPALIER_ASSIGN_OR_RETURN(pretrained::Part part, parts.Put(file.bytes));
    model->companions.emplace_back(file.name, std::move(part));
  }
  return model;
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> ReplaceBlock(
    const LanguageModel& model, int64_t block, const language::BlockWeights& weights,
    pretrained::PartStore& parts) {
  auto changed = std::make_shared<LanguageModel>(model);
  ESPALIER_ASSIGN_OR_RETURN(changed->blocks[block], parts.Put(language::EncodeBlock(weights)));
  changed->active[block] = StoredWeights(weights);
  return changed;
}

}  // namespace espalier::server::methods
