#include "common/language/checkpoint_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/language/architecture/strict_json.h"
#include "common/language/float_formats.h"
#include "common/language/sparse_form.h"
#include "common/language/tokenizer.h"
#include "common/language/trained_config.h"

namespace espalier::language {
namespace {

constexpr char kSingleFile[] = "model.safetensors";
constexpr char kIndexFile[] = "model.safetensors.index.json";
constexpr uint64_t kMaxIndexBytes = 64 << 20;
constexpr size_t kMaxFiles = 10'000;
constexpr int kIndexDepth = 4;
// A matrix whose positions are counted by 32-bit integers.
constexpr int64_t kMaxPositions = (int64_t{1} << 31) - 1;

bool IsFloat(wire::DataType type) {
  return type == wire::DataType::kF32 || type == wire::DataType::kF16 ||
         type == wire::DataType::kBF16;
}

std::string ShapeText(std::span<const int64_t> shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

absl::Status WrongShape(std::string_view name, std::span<const int64_t> expected,
                        std::span<const int64_t> found) {
  return base::InvalidArgument(
      "TENSOR_SHAPE",
      fmt::format("tensor '{}': expected shape {} by config.json, found {}; is this the "
                  "config.json of these weights?",
                  name, ShapeText(expected), ShapeText(found)));
}

absl::Status WrongType(std::string_view name, wire::DataType type) {
  return base::InvalidArgument(
      "TENSOR_TYPE", fmt::format("tensor '{}': expected type F32, F16 or BF16, found {}; convert "
                                 "the weights to one of these",
                                 name, wire::DataTypeName(type)));
}

// `count` floats of `type` at `bytes`.
void Decode(const char* bytes, wire::DataType type, size_t count, float* out) {
  if (type == wire::DataType::kF32) {
    std::memcpy(out, bytes, count * sizeof(float));
    return;
  }
  for (size_t i = 0; i < count; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, bytes + 2 * i, 2);
    out[i] = type == wire::DataType::kF16 ? FromF16(half) : FromBf16(half);
  }
}

absl::Status CheckFinite(std::string_view name, std::span<const float> values) {
  const auto bad = std::ranges::find_if_not(values, [](float v) { return std::isfinite(v); });
  if (bad == values.end()) return absl::OkStatus();
  return base::InvalidArgument(
      "WEIGHT_NOT_FINITE",
      fmt::format("tensor '{}': expected finite weights, found {} at position {}; the checkpoint "
                  "is damaged or its training diverged",
                  name, *bad, bad - values.begin()));
}

absl::Status BadIndex(const std::string& what) {
  return base::InvalidArgument("INDEX_INVALID", fmt::format("{}: {}", kIndexFile, what));
}

bool IsShardName(const std::string& name) {
  return name.size() <= 255 && name.ends_with(".safetensors") && !name.starts_with('.') &&
         name.find('/') == std::string::npos && name.find('\0') == std::string::npos;
}

std::string WeightName(const TransformerConfig& config, int64_t block,
                       const LinearLayerSpec& spec) {
  return BlockPrefix(config, block) + spec.name + ".weight";
}

// outputs × inputs from inputs × outputs.
std::vector<float> Transposed(std::span<const float> values, int64_t rows, int64_t cols) {
  std::vector<float> result(values.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col) result[col * rows + row] = values[row * cols + col];
  }
  return result;
}

absl::Status ReadConfig(const std::string& directory, TransformerConfig& config) {
  auto file = io::MappedFile::Open(directory + "/config.json");
  if (!file.ok()) {
    return base::NotFound(
        "CHECKPOINT_NOT_FOUND",
        fmt::format("expected a folder with config.json and model.safetensors, found: {}",
                    base::MessageOf(file.status())));
  }
  ESPALIER_ASSIGN_OR_RETURN(config, ParseTransformerConfig((*file)->bytes()));
  return absl::OkStatus();
}

}  // namespace

bool IsCompanion(std::string_view name) {
  constexpr std::string_view kNames[] = {"tokenizer.json",
                                         "tokenizer.model",
                                         "tokenizer_config.json",
                                         "special_tokens_map.json",
                                         "added_tokens.json",
                                         "vocab.json",
                                         "merges.txt",
                                         "chat_template.jinja",
                                         "generation_config.json"};
  if (std::ranges::find(kNames, name) != std::end(kNames)) return true;
  const std::string word(name);
  return word.find('/') == std::string::npos && TokenizerFileAmong(std::span(&word, 1)) == word;
}

CheckpointReader::~CheckpointReader() = default;

absl::Status CheckpointReader::AddCompanion(std::string name, std::string_view bytes) {
  uint64_t all = bytes.size();
  for (const CompanionFile& other : companions_) all += other.bytes.size();
  if (bytes.size() > kMaxCompanionBytes || all > kMaxCompanionsBytes) {
    return base::InvalidArgument(
        "COMPANION_TOO_LARGE",
        fmt::format("expected files beside the weights of at most {} bytes, and {} in all, found "
                    "{} of {}",
                    kMaxCompanionBytes, kMaxCompanionsBytes, name, bytes.size()));
  }
  companions_.push_back({std::move(name), bytes});
  return absl::OkStatus();
}

absl::Status CheckpointReader::AddCompanionsIn(const std::string& directory) {
  ESPALIER_ASSIGN_OR_RETURN(std::vector<std::string> names, io::PosixFileSystem().List(directory));
  std::ranges::sort(names);
  for (const std::string& name : names) {
    if (!IsCompanion(name)) continue;
    // What cannot be read is not needed for the weights; a folder of that name is none.
    std::string path = directory;
    path.append("/").append(name);
    auto file = io::MappedFile::Open(path);
    if (!file.ok()) continue;
    ESPALIER_RETURN_IF_ERROR(AddCompanion(name, (*file)->bytes()));
    companion_files_.push_back(*std::move(file));
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::AddStoredCompanions() {
  for (const auto& [stored, place] : tensors_) {
    if (!stored.starts_with(kCompanionPrefix)) continue;
    const std::string name = stored.substr(std::string_view(kCompanionPrefix).size());
    if (!IsCompanion(name) || place.info.type != wire::DataType::kU8) continue;
    ESPALIER_RETURN_IF_ERROR(AddCompanion(name, BytesOf(stored)));
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::TakeCompanionsFrom(const std::string& directory) {
  companions_.clear();
  companion_files_.clear();
  ESPALIER_RETURN_IF_ERROR(AddCompanionsIn(directory));
  if (!companions_.empty()) return absl::OkStatus();
  return base::NotFound("COMPANIONS_NOT_FOUND",
                        fmt::format("expected a folder with a tokenizer (tokenizer.json, "
                                    "tokenizer.model, tokenizer.bin, tok<N>.bin) at '{}', found "
                                    "none of these files",
                                    directory));
}

absl::StatusOr<std::unique_ptr<CheckpointReader>> CheckpointReader::Open(
    const std::string& directory) {
  std::unique_ptr<CheckpointReader> reader(new CheckpointReader(directory));
  ESPALIER_RETURN_IF_ERROR(ReadConfig(directory, reader->config_));
  const auto single = io::MappedFile::Open(directory + "/" + kSingleFile);
  if (single.ok()) {
    ESPALIER_RETURN_IF_ERROR(reader->AddFile(kSingleFile).status());
  } else if (absl::IsNotFound(single.status())) {
    ESPALIER_RETURN_IF_ERROR(reader->AddIndexedFiles());
  } else {
    return single.status();
  }
  ESPALIER_RETURN_IF_ERROR(reader->CheckTensors());
  ESPALIER_RETURN_IF_ERROR(reader->AddCompanionsIn(directory));
  return reader;
}

absl::StatusOr<std::unique_ptr<CheckpointReader>> CheckpointReader::OpenFile(
    const std::string& path) {
  const size_t slash = path.rfind('/');
  const bool bare = slash == std::string::npos;
  std::unique_ptr<CheckpointReader> reader(
      new CheckpointReader(bare ? "." : path.substr(0, slash)));
  ESPALIER_ASSIGN_OR_RETURN(const auto metadata,
                            reader->AddFile(bare ? path : path.substr(slash + 1)));
  ESPALIER_ASSIGN_OR_RETURN(reader->config_, ConfigOfCheckpoint(metadata));
  if (IsTrained(metadata)) reader->order_ = MatrixOrder::kOutputsFirst;
  ESPALIER_RETURN_IF_ERROR(reader->CheckTensors());
  ESPALIER_RETURN_IF_ERROR(reader->AddStoredCompanions());
  return reader;
}

absl::StatusOr<std::map<std::string, std::string>> CheckpointReader::AddFile(
    const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(auto file, io::MappedFile::Open(directory_ + "/" + name));
  auto header = wire::DecodeSafetensorsHeader(file->bytes(), file->bytes().size());
  if (!header.ok()) return base::Annotate(header.status(), name);
  for (wire::TensorInfo& tensor : header->tensors) {
    std::string tensor_name = tensor.name;
    const auto [place, added] =
        tensors_.try_emplace(std::move(tensor_name), Place{files_.size(), std::move(tensor)});
    if (!added) {
      return base::InvalidArgument(
          "INDEX_INVALID",
          fmt::format("tensor '{}' is in {} and in {}; expected it once: remove one of the files",
                      place->first, file_names_[place->second.file], name));
    }
  }
  file_names_.push_back(name);
  files_.push_back(std::move(file));
  return std::move(header->metadata);
}

absl::Status CheckpointReader::AddIndexedFiles() {
  const auto file = io::MappedFile::Open(directory_ + "/" + kIndexFile);
  if (!file.ok()) {
    return base::NotFound(
        "CHECKPOINT_NOT_FOUND",
        fmt::format("expected {} or {} beside config.json, found neither; weights "
                    "in another format must be converted to safetensors",
                    kSingleFile, kIndexFile));
  }
  if ((*file)->bytes().size() > kMaxIndexBytes) {
    return BadIndex(fmt::format("expected at most {} bytes, found {}", kMaxIndexBytes,
                                (*file)->bytes().size()));
  }
  const nlohmann::json index = ParseStrictObject((*file)->bytes(), kIndexDepth);
  if (index.is_discarded() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    return BadIndex("expected a JSON object with an object 'weight_map', found something else");
  }
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, value] : index["weight_map"].items()) {
    if (!value.is_string() || !IsShardName(value.get<std::string>())) {
      return BadIndex(fmt::format(
          "tensor '{}': expected the name of a .safetensors file in the same folder, found {}",
          tensor, value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace)));
    }
    weight_map[tensor] = value.get<std::string>();
  }
  std::set<std::string> names;
  for (const auto& [tensor, name] : weight_map) names.insert(name);
  if (names.size() > kMaxFiles) {
    return BadIndex(fmt::format("expected at most {} files, found {}", kMaxFiles, names.size()));
  }
  for (const std::string& name : names) ESPALIER_RETURN_IF_ERROR(AddFile(name).status());
  for (const auto& [tensor, name] : weight_map) {
    const auto place = tensors_.find(tensor);
    if (place == tensors_.end() || file_names_[place->second.file] != name) {
      return BadIndex(fmt::format(
          "expected tensor '{}' in {}, found it {}; the shards do not "
          "belong together, or one is damaged",
          tensor, name,
          place == tensors_.end() ? "nowhere" : "in " + file_names_[place->second.file]));
    }
  }
  return absl::OkStatus();
}

std::string CheckpointReader::StoredName(std::string_view name) const {
  if (tensors_.contains(name)) return std::string(name);
  const std::string_view prefix = config_.architecture == Architecture::kGpt2  ? "transformer."
                                  : config_.architecture == Architecture::kOpt ? "model."
                                                                               : "";
  if (!prefix.empty() && name.starts_with(prefix) &&
      tensors_.contains(name.substr(prefix.size()))) {
    return std::string(name.substr(prefix.size()));
  }
  return std::string(name);
}

const wire::TensorInfo* CheckpointReader::Find(std::string_view name) const {
  const auto place = tensors_.find(StoredName(name));
  return place == tensors_.end() ? nullptr : &place->second.info;
}

absl::Status CheckpointReader::CheckTensor(const StoredTensor& expected) const {
  const wire::TensorInfo* found = Find(expected.name);
  if (found == nullptr) {
    return base::InvalidArgument(
        "TENSOR_MISSING",
        fmt::format("expected tensor '{}' of shape {} by config.json, found none in {} tensors{}",
                    expected.name, ShapeText(expected.shape), tensors_.size(),
                    expected.name == "lm_head.weight"
                        ? "; set tie_word_embeddings to true if the embedding is used for outputs"
                        : "; the checkpoint is incomplete or of another model"));
  }
  if (found->shape != expected.shape) {
    return WrongShape(expected.name, expected.shape, found->shape);
  }
  return IsFloat(found->type) ? absl::OkStatus() : WrongType(expected.name, found->type);
}

bool CheckpointReader::IsSparse(const std::string& name) const {
  return Find(name + kBitmapSuffix) != nullptr || Find(name + kColumnsSuffix) != nullptr;
}

absl::Status CheckpointReader::CheckInteger(const std::string& name, wire::DataType type,
                                            int64_t size) const {
  const wire::TensorInfo* found = Find(name);
  const std::vector<int64_t> expected = {size};
  if (found == nullptr) return CheckTensor({name, expected});
  if (found->shape != expected) return WrongShape(name, expected, found->shape);
  if (found->type == type) return absl::OkStatus();
  return base::InvalidArgument(
      "TENSOR_TYPE",
      fmt::format("tensor '{}': expected type {}, found {}; it was saved by another program", name,
                  wire::DataTypeName(type), wire::DataTypeName(found->type)));
}

absl::Status CheckpointReader::CheckSparse(const StoredTensor& weight) const {
  const int64_t positions = weight.shape[0] * weight.shape[1];
  const wire::TensorInfo* values = Find(weight.name + kValuesSuffix);
  if (values == nullptr) return CheckTensor({weight.name + kValuesSuffix, {0}});
  if (values->shape.size() != 1 || values->shape[0] > positions) {
    return base::InvalidArgument(
        "TENSOR_SHAPE", fmt::format("tensor '{}': expected one dimension of at most {}, found {}",
                                    values->name, positions, ShapeText(values->shape)));
  }
  if (!IsFloat(values->type)) return WrongType(values->name, values->type);
  if (Find(weight.name + kBitmapSuffix) != nullptr) {
    return CheckInteger(weight.name + kBitmapSuffix, wire::DataType::kU8, (positions + 7) / 8);
  }
  ESPALIER_RETURN_IF_ERROR(
      CheckInteger(weight.name + kColumnsSuffix, wire::DataType::kI32, values->shape[0]));
  return CheckInteger(weight.name + kRowOffsetsSuffix, wire::DataType::kI32, weight.shape[0] + 1);
}

absl::Status CheckpointReader::CheckTensors() const {
  for (const StoredTensor& tensor : AllTensors(config_, order_)) {
    int64_t positions = 1;
    for (const int64_t size : tensor.shape) positions *= size;
    if (positions > kMaxPositions) {
      return base::InvalidArgument(
          "MODEL_UNSUPPORTED",
          fmt::format("tensor '{}': expected at most {} weights in one tensor, found shape {}",
                      tensor.name, kMaxPositions, ShapeText(tensor.shape)));
    }
    const bool sparse = tensor.shape.size() == 2 && IsSparse(tensor.name);
    ESPALIER_RETURN_IF_ERROR(sparse ? CheckSparse(tensor) : CheckTensor(tensor));
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::ReadFloats(std::string_view name, std::vector<float>& values) const {
  const auto place = tensors_.find(StoredName(name));
  if (place == tensors_.end()) {
    return base::InvalidArgument("TENSOR_MISSING",
                                 fmt::format("expected tensor '{}', found none", name));
  }
  const wire::TensorInfo& info = place->second.info;
  if (!IsFloat(info.type)) return WrongType(name, info.type);
  const io::MappedFile& file = *files_[place->second.file];
  const size_t count = info.bytes / wire::BytesPerElement(info.type);
  values.resize(count);
  Decode(file.bytes().data() + info.begin, info.type, count, values.data());
  file.Forget(info.begin, info.bytes);
  return CheckFinite(name, values);
}

absl::StatusOr<std::vector<float>> CheckpointReader::ReadTensor(std::string_view name) const {
  std::vector<float> values;
  ESPALIER_RETURN_IF_ERROR(ReadFloats(name, values));
  return values;
}

std::string_view CheckpointReader::BytesOf(const std::string& name) const {
  const Place& place = tensors_.find(StoredName(name))->second;
  return files_[place.file]->bytes().substr(place.info.begin, place.info.bytes);
}

absl::StatusOr<tensor::Topology> CheckpointReader::ReadTopology(const std::string& name,
                                                                int64_t rows, int64_t cols,
                                                                int64_t values) const {
  if (Find(name + kBitmapSuffix) != nullptr) {
    return TopologyFromBitmap(BytesOf(name + kBitmapSuffix), rows, cols, values);
  }
  const auto integers = [&](const std::string& part) {
    const std::string_view bytes = BytesOf(part);
    std::vector<int32_t> result(bytes.size() / sizeof(int32_t));
    std::memcpy(result.data(), bytes.data(), bytes.size());
    return result;
  };
  auto topology = tensor::Topology::FromCsr(rows, cols, integers(name + kRowOffsetsSuffix),
                                            integers(name + kColumnsSuffix));
  if (topology.ok()) return topology;
  return base::InvalidArgument("TENSOR_SPARSE_INVALID", base::MessageOf(topology.status()));
}

absl::Status CheckpointReader::ReadSparse(const std::string& name, LinearWeights& linear) const {
  ESPALIER_RETURN_IF_ERROR(ReadFloats(name + kValuesSuffix, linear.values));
  const LinearLayerSpec& spec = linear.spec;
  const bool is_transposed = IsTransposed(spec);
  auto topology = ReadTopology(name, is_transposed ? spec.inputs : spec.outputs,
                               is_transposed ? spec.outputs : spec.inputs,
                               static_cast<int64_t>(linear.values.size()));
  if (!topology.ok()) return base::Annotate(topology.status(), "tensor '" + name + "'");
  if (is_transposed) {
    tensor::TransposedTopology transposed = tensor::Transpose(*topology);
    std::vector<float> values(linear.values.size());
    for (size_t k = 0; k < values.size(); ++k) {
      values[k] = linear.values[transposed.permutation[k]];
    }
    linear.values = std::move(values);
    *topology = std::move(transposed.topology);
  }
  linear.topology = std::make_shared<const tensor::Topology>(*std::move(topology));
  return absl::OkStatus();
}

absl::StatusOr<LinearWeights> CheckpointReader::ReadLinear(int64_t block, size_t linear) const {
  LinearWeights weights;
  weights.spec = BlockLinears(config_)[linear];
  const LinearLayerSpec& spec = weights.spec;
  const std::string name = WeightName(config_, block, spec);
  if (IsSparse(name)) {
    ESPALIER_RETURN_IF_ERROR(ReadSparse(name, weights));
  } else {
    ESPALIER_RETURN_IF_ERROR(ReadFloats(name, weights.values));
    if (IsTransposed(spec)) {
      weights.values = Transposed(weights.values, spec.inputs, spec.outputs);
    }
  }
  if (spec.bias) {
    ESPALIER_RETURN_IF_ERROR(
        ReadFloats(BlockPrefix(config_, block) + spec.name + ".bias", weights.bias));
  }
  return weights;
}

absl::StatusOr<BlockWeights> CheckpointReader::ReadBlock(int64_t block) const {
  if (block < 0 || block >= config_.blocks) {
    return base::InvalidArgument(
        "BLOCK_OUT_OF_RANGE",
        fmt::format("expected a block in 0..{}, found {}", config_.blocks - 1, block));
  }
  BlockWeights weights;
  const std::vector<StoredTensor> norms = BlockNorms(config_, block);
  const std::vector<std::vector<float>*> targets =
      config_.rms_norm() ? std::vector{&weights.attention_norm, &weights.mlp_norm}
                         : std::vector{&weights.attention_norm, &weights.attention_norm_bias,
                                       &weights.mlp_norm, &weights.mlp_norm_bias};
  for (size_t i = 0; i < norms.size(); ++i) {
    ESPALIER_RETURN_IF_ERROR(ReadFloats(norms[i].name, *targets[i]));
  }
  const size_t linears = BlockLinears(config_).size();
  for (size_t i = 0; i < linears; ++i) {
    ESPALIER_ASSIGN_OR_RETURN(LinearWeights linear, ReadLinear(block, i));
    weights.linears.push_back(std::move(linear));
  }
  return weights;
}

absl::StatusOr<OuterWeights> CheckpointReader::ReadOuter() const {
  const OuterNames names = OuterTensors(config_);
  OuterWeights weights;
  const std::pair<const StoredTensor*, std::vector<float>*> parts[] = {
      {&names.embedding, &weights.embedding},
      {&names.positions, &weights.positions},
      {&names.final_norm, &weights.final_norm},
      {&names.final_norm_bias, &weights.final_norm_bias},
      {&names.output, &weights.output}};
  for (const auto& [tensor, values] : parts) {
    if (!tensor->name.empty()) ESPALIER_RETURN_IF_ERROR(ReadFloats(tensor->name, *values));
  }
  return weights;
}

absl::Status MakeSparse(LinearWeights& linear) {
  if (linear.topology != nullptr) return absl::OkStatus();
  std::vector<int32_t> offsets = {0};
  std::vector<int32_t> columns;
  std::vector<float> values;
  for (int64_t row = 0; row < linear.spec.outputs; ++row) {
    for (int64_t col = 0; col < linear.spec.inputs; ++col) {
      const float value = linear.values[static_cast<size_t>(row * linear.spec.inputs + col)];
      if (value == 0) continue;
      columns.push_back(static_cast<int32_t>(col));
      values.push_back(value);
    }
    offsets.push_back(static_cast<int32_t>(columns.size()));
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                            tensor::Topology::FromCsr(linear.spec.outputs, linear.spec.inputs,
                                                      std::move(offsets), std::move(columns)));
  linear.topology = std::make_shared<const tensor::Topology>(std::move(topology));
  linear.values = std::move(values);
  return absl::OkStatus();
}

std::vector<float> DenseValues(const LinearWeights& linear) {
  if (linear.topology == nullptr) return linear.values;
  const tensor::Topology& topology = *linear.topology;
  std::vector<float> dense(static_cast<size_t>(topology.size()), 0.0f);
  for (int64_t row = 0; row < topology.rows(); ++row) {
    for (int32_t k = topology.row_offsets()[row]; k < topology.row_offsets()[row + 1]; ++k) {
      dense[static_cast<size_t>(row * topology.cols() + topology.columns()[k])] =
          linear.values[static_cast<size_t>(k)];
    }
  }
  return dense;
}

}  // namespace espalier::language
