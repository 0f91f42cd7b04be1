#include "server/checkpoint/structure/stored_tensors.h"

#include <fmt/format.h>

#include <map>
#include <utility>

#include "common/base/status.h"
#include "common/checkpoint/checkpoint_metadata.h"
#include "common/language/architecture/transformer_config.h"
#include "common/language/trained_config.h"

namespace espalier::server::checkpoint {
namespace {

// As of those who read models (common/checkpoint): a forged length must not take the memory.
constexpr uint64_t kMaxHeaderBytes = 32 * 1024 * 1024;
constexpr std::string_view kAttachedPrefix = "files/";
constexpr std::string_view kBitmapSuffix = ".bitmap";
constexpr std::string_view kValuesSuffix = ".values";

using LinearLayers = std::map<std::string, language::LinearLayerSpec, std::less<>>;

void SetShape(std::vector<int64_t> shape, StoredTensor& tensor) {
  tensor.rows = shape.front();
  tensor.columns = 1;
  for (size_t i = 1; i < shape.size(); ++i) tensor.columns *= shape[i];
  tensor.shape = std::move(shape);
}

absl::StatusOr<int64_t> CountOf(const wire::SafetensorsHeader& header, const std::string& name) {
  const wire::TensorInfo* info = header.Find(name);
  if (info == nullptr || info->shape.size() != 1) {
    return CorruptTensor(name, "it is missing or has more than one dimension");
  }
  return info->shape[0];
}

absl::StatusOr<std::vector<StoredTensor>> OfNetwork(
    const wire::SafetensorsHeader& header, const espalier::checkpoint::DecodedMetadata& metadata) {
  std::vector<StoredTensor> tensors;
  for (size_t i = 0; i < metadata.layout.size(); ++i) {
    const tensor::TensorSpec& spec = metadata.layout[i];
    if (spec.shape.size() < 2 || spec.buffer) continue;
    StoredTensor& stored = tensors.emplace_back();
    stored.name = spec.name;
    SetShape(spec.shape, stored);
    stored.stored = spec.size();
    if (!metadata.sparse[i]) continue;
    stored.form = StoredTensor::Form::kCsr;
    ESPALIER_ASSIGN_OR_RETURN(stored.stored,
                              CountOf(header, spec.name + std::string(kValuesSuffix)));
  }
  return tensors;
}

// By the names under which files have them: the first part may be left out.
LinearLayers LinearsOf(const language::TransformerConfig& config) {
  LinearLayers layers;
  const std::vector<language::LinearLayerSpec> linears = language::BlockLinears(config);
  for (int64_t block = 0; block < config.blocks; ++block) {
    const std::string prefix = language::BlockPrefix(config, block);
    for (const language::LinearLayerSpec& linear : linears) {
      const std::string name = prefix + linear.name + ".weight";
      layers[name] = linear;
      layers[name.substr(name.find('.') + 1)] = linear;
    }
  }
  return layers;
}

absl::StatusOr<StoredTensor> SparseLinear(const wire::SafetensorsHeader& header,
                                          const LinearLayers& linears, const std::string& name) {
  const auto linear = linears.find(name);
  if (linear == linears.end()) return CorruptTensor(name, "its model has no layer of that name");
  StoredTensor stored;
  stored.name = name;
  stored.form = StoredTensor::Form::kBitmap;
  stored.transposed = linear->second.transposed;
  SetShape({linear->second.outputs, linear->second.inputs}, stored);
  ESPALIER_ASSIGN_OR_RETURN(stored.stored, CountOf(header, name + std::string(kValuesSuffix)));
  return stored;
}

absl::StatusOr<std::vector<StoredTensor>> OfLanguageModel(const wire::SafetensorsHeader& header) {
  ESPALIER_ASSIGN_OR_RETURN(const language::TransformerConfig config,
                            language::ConfigOfCheckpoint(header.metadata));
  const LinearLayers linears = LinearsOf(config);
  std::vector<StoredTensor> tensors;
  for (const wire::TensorInfo& info : header.tensors) {
    if (info.name.starts_with(kAttachedPrefix)) continue;
    if (info.name.ends_with(kBitmapSuffix)) {
      ESPALIER_ASSIGN_OR_RETURN(
          tensors.emplace_back(),
          SparseLinear(header, linears,
                       info.name.substr(0, info.name.size() - kBitmapSuffix.size())));
      continue;
    }
    if (info.shape.size() < 2) continue;
    StoredTensor& stored = tensors.emplace_back();
    stored.name = info.name;
    SetShape(info.shape, stored);
    const auto linear = linears.find(info.name);
    if (linear != linears.end() && linear->second.transposed) {
      stored.transposed = true;
      SetShape({info.shape.rbegin(), info.shape.rend()}, stored);
    }
    stored.stored = stored.rows * stored.columns;
  }
  return tensors;
}

}  // namespace

absl::Status CorruptTensor(const std::string& tensor, const std::string& what) {
  return base::MakeError(absl::StatusCode::kDataLoss, "CHECKPOINT_CORRUPT",
                         fmt::format("the checkpoint is damaged, as its tensor '{}' shows: {}; use "
                                     "an earlier one",
                                     tensor, what));
}

absl::StatusOr<StoredModel> ReadStoredModel(const io::ReadableFile& file) {
  StoredModel model;
  auto header = wire::ReadSafetensorsHeader(file, kMaxHeaderBytes);
  if (absl::IsInvalidArgument(header.status())) {
    return base::MakeError(
        absl::StatusCode::kDataLoss, "CHECKPOINT_CORRUPT",
        "the checkpoint is damaged: " + base::MessageOf(header.status()) + "; use an earlier one");
  }
  ESPALIER_ASSIGN_OR_RETURN(model.header, std::move(header));
  ESPALIER_ASSIGN_OR_RETURN(const espalier::checkpoint::DecodedMetadata decoded,
                            espalier::checkpoint::DecodeMetadata(model.header.metadata));
  if (decoded.metadata.kind == espalier::checkpoint::CheckpointKind::kLanguageModel) {
    ESPALIER_ASSIGN_OR_RETURN(model.tensors, OfLanguageModel(model.header));
    return model;
  }
  ESPALIER_ASSIGN_OR_RETURN(model.tensors, OfNetwork(model.header, decoded));
  const v1::ModelSpec& spec = decoded.metadata.model_spec;
  if (!spec.has_recommender() && !spec.has_transformer()) model.input = wire::InputShape(spec);
  return model;
}

}  // namespace espalier::server::checkpoint
