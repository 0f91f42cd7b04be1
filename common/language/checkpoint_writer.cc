#include "common/language/checkpoint_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/language/float_formats.h"
#include "common/language/sparse_form.h"

namespace espalier::language {
namespace {

constexpr char kFileName[] = "model.safetensors";
constexpr char kSpoolName[] = ".model.safetensors.data";
// Values are converted in pieces of this many.
constexpr size_t kPiece = 64 << 10;

int64_t Count(std::span<const int64_t> shape) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return count;
}

// `values` as they are stored; false when one is not finite afterwards.
bool Encode(std::span<const float> values, wire::DataType type, std::string& bytes) {
  bytes.resize(values.size() * wire::BytesPerElement(type));
  bool finite = true;
  for (size_t i = 0; i < values.size(); ++i) {
    float stored = values[i];
    if (type == wire::DataType::kF32) {
      std::memcpy(bytes.data() + 4 * i, &stored, 4);
    } else {
      const uint16_t half = type == wire::DataType::kF16 ? ToF16(stored) : ToBf16(stored);
      stored = type == wire::DataType::kF16 ? FromF16(half) : FromBf16(half);
      std::memcpy(bytes.data() + 2 * i, &half, 2);
    }
    finite = finite && std::isfinite(stored);
  }
  return finite;
}

StoredTensor WeightOf(const std::string& name, const LinearLayerSpec& spec) {
  return {name + ".weight", spec.transposed ? std::vector{spec.inputs, spec.outputs}
                                            : std::vector{spec.outputs, spec.inputs}};
}

// Structure and values in the orientation in which they are stored.
void ToStored(const LinearLayerSpec& spec, tensor::Topology& topology, std::vector<float>& values) {
  if (!spec.transposed) return;
  tensor::TransposedTopology transposed = tensor::Transpose(topology);
  std::vector<float> moved(values.size());
  for (size_t k = 0; k < values.size(); ++k) moved[k] = values[transposed.permutation[k]];
  values = std::move(moved);
  topology = std::move(transposed.topology);
}

bool HasZeros(const LinearWeights& linear) {
  if (linear.topology != nullptr) return linear.topology->nnz() < linear.topology->size();
  return std::ranges::find(linear.values, 0.0f) != linear.values.end();
}

}  // namespace

CheckpointWriter::~CheckpointWriter() = default;

absl::StatusOr<std::unique_ptr<CheckpointWriter>> CheckpointWriter::Create(
    io::FileSystem& files, const std::string& directory, const TransformerConfig& config,
    Options options) {
  if (options.type != wire::DataType::kF32 && options.type != wire::DataType::kF16 &&
      options.type != wire::DataType::kBF16) {
    return base::InvalidArgument("TENSOR_TYPE",
                                 fmt::format("expected type F32, F16 or BF16 to save as, found {}",
                                             wire::DataTypeName(options.type)));
  }
  std::unique_ptr<CheckpointWriter> writer(
      new CheckpointWriter(files, directory, config, std::move(options)));
  ESPALIER_RETURN_IF_ERROR(files.CreateDirectories(directory));
  ESPALIER_ASSIGN_OR_RETURN(writer->data_,
                            io::SpoolFile::Create(files, directory + "/" + kSpoolName));
  return writer;
}

absl::Status CheckpointWriter::Append(std::string name, wire::DataType type,
                                      std::vector<int64_t> shape, std::span<const float> values) {
  if (Count(shape) != static_cast<int64_t>(values.size())) {
    return base::InvalidArgument(
        "TENSOR_SHAPE", fmt::format("tensor '{}': expected {} values by config.json, found {}",
                                    name, Count(shape), values.size()));
  }
  std::string bytes;
  for (size_t begin = 0; begin < values.size(); begin += kPiece) {
    const auto piece = values.subspan(begin, std::min(kPiece, values.size() - begin));
    if (!Encode(piece, type, bytes)) {
      return base::InvalidArgument(
          "WEIGHT_NOT_FINITE",
          fmt::format("tensor '{}': expected weights that are finite as {}, found others; save "
                      "them as F32, or look for what diverged",
                      name, wire::DataTypeName(type)));
    }
    ESPALIER_RETURN_IF_ERROR(data_->Append(bytes));
  }
  tensors_.push_back({std::move(name), type, std::move(shape), 0, 0});
  return absl::OkStatus();
}

absl::Status CheckpointWriter::WriteFloats(const StoredTensor& tensor,
                                           std::span<const float> values) {
  return Append(tensor.name, options_.type, tensor.shape, values);
}

absl::Status CheckpointWriter::WriteSparse(const std::string& name, LinearWeights linear) {
  ESPALIER_RETURN_IF_ERROR(MakeSparse(linear));
  tensor::Topology topology = *linear.topology;
  ToStored(linear.spec, topology, linear.values);
  const std::string bitmap = BitmapOf(topology);
  ESPALIER_RETURN_IF_ERROR(data_->Append(bitmap));
  tensors_.push_back(
      {name + kBitmapSuffix, wire::DataType::kU8, {static_cast<int64_t>(bitmap.size())}, 0, 0});
  return Append(name + kValuesSuffix, options_.type, {topology.nnz()}, linear.values);
}

absl::Status CheckpointWriter::WriteLinear(const std::string& name, const LinearWeights& linear) {
  const LinearLayerSpec& spec = linear.spec;
  const int64_t stored =
      linear.topology == nullptr ? spec.outputs * spec.inputs : linear.topology->nnz();
  const bool fits = linear.topology == nullptr || (linear.topology->rows() == spec.outputs &&
                                                   linear.topology->cols() == spec.inputs);
  if (!fits || static_cast<int64_t>(linear.values.size()) != stored) {
    return base::InvalidArgument(
        "TENSOR_SHAPE",
        fmt::format("tensor '{}.weight': expected {} × {} weights, found {} values of another "
                    "shape",
                    name, spec.outputs, spec.inputs, linear.values.size()));
  }
  const StoredTensor weight = WeightOf(name, spec);
  if (options_.format == CheckpointFormat::kSparse && HasZeros(linear)) {
    ESPALIER_RETURN_IF_ERROR(WriteSparse(weight.name, linear));
  } else {
    std::vector<float> dense = DenseValues(linear);
    if (spec.transposed) {
      std::vector<float> transposed(dense.size());
      for (int64_t row = 0; row < spec.outputs; ++row) {
        for (int64_t col = 0; col < spec.inputs; ++col) {
          transposed[col * spec.outputs + row] = dense[row * spec.inputs + col];
        }
      }
      dense = std::move(transposed);
    }
    ESPALIER_RETURN_IF_ERROR(WriteFloats(weight, dense));
  }
  if (!spec.bias) return absl::OkStatus();
  return WriteFloats({name + ".bias", {spec.outputs}}, linear.bias);
}

absl::Status CheckpointWriter::WriteOuter(const OuterWeights& outer) {
  if (outer_written_) {
    return base::InvalidArgument("BLOCK_ORDER",
                                 "expected the outer weights once, found them twice");
  }
  outer_written_ = true;
  const OuterNames names = OuterTensors(config_);
  const std::pair<const StoredTensor*, const std::vector<float>*> parts[] = {
      {&names.embedding, &outer.embedding},
      {&names.positions, &outer.positions},
      {&names.final_norm, &outer.final_norm},
      {&names.final_norm_bias, &outer.final_norm_bias},
      {&names.output, &outer.output}};
  for (const auto& [tensor, values] : parts) {
    if (!tensor->name.empty()) ESPALIER_RETURN_IF_ERROR(WriteFloats(*tensor, *values));
  }
  return absl::OkStatus();
}

absl::Status CheckpointWriter::WriteBlock(const BlockWeights& block) {
  const std::vector<LinearLayerSpec> linears = BlockLinears(config_);
  if (!outer_written_ || blocks_written_ >= config_.blocks ||
      block.linears.size() != linears.size()) {
    return base::InvalidArgument(
        "BLOCK_ORDER",
        fmt::format(
            "expected the outer weights and then {} blocks of {} linear layers, found block "
            "{} of {}",
            config_.blocks, linears.size(), blocks_written_, block.linears.size()));
  }
  const std::vector<StoredTensor> norms = BlockNorms(config_, blocks_written_);
  const std::vector<const std::vector<float>*> values =
      config_.rms_norm() ? std::vector{&block.attention_norm, &block.mlp_norm}
                         : std::vector{&block.attention_norm, &block.attention_norm_bias,
                                       &block.mlp_norm, &block.mlp_norm_bias};
  for (size_t i = 0; i < norms.size(); ++i) {
    ESPALIER_RETURN_IF_ERROR(WriteFloats(norms[i], *values[i]));
  }
  const std::string prefix = BlockPrefix(config_, blocks_written_);
  for (const LinearWeights& linear : block.linears) {
    ESPALIER_RETURN_IF_ERROR(WriteLinear(prefix + linear.spec.name, linear));
  }
  ++blocks_written_;
  return absl::OkStatus();
}

absl::Status CheckpointWriter::WriteCompanion(const CompanionFile& file) {
  if (!IsCompanion(file.name)) {
    return base::InvalidArgument(
        "COMPANION_NAME",
        fmt::format("expected a file that belongs to a model, found '{}'", file.name));
  }
  if (options_.format == CheckpointFormat::kHuggingFace) {
    return io::WriteAtomically(*files_, directory_ + "/" + file.name, file.bytes);
  }
  ESPALIER_RETURN_IF_ERROR(data_->Append(file.bytes));
  tensors_.push_back({kCompanionPrefix + file.name,
                      wire::DataType::kU8,
                      {static_cast<int64_t>(file.bytes.size())},
                      0,
                      0});
  return absl::OkStatus();
}

absl::Status CheckpointWriter::Finish() {
  if (!outer_written_ || blocks_written_ != config_.blocks) {
    return base::InvalidArgument(
        "BLOCK_ORDER", fmt::format("expected {} blocks before the end, found {}", config_.blocks,
                                   blocks_written_));
  }
  std::map<std::string, std::string> metadata = options_.metadata;
  // What Python's loaders expect.
  metadata.try_emplace("format", "pt");
  ESPALIER_ASSIGN_OR_RETURN(const std::string header,
                            wire::EncodeSafetensorsHeader(metadata, tensors_));
  ESPALIER_RETURN_IF_ERROR(io::WriteAtomically(*files_, directory_ + "/config.json", config_.json));
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file,
                            io::AtomicFile::Create(*files_, directory_ + "/" + kFileName));
  ESPALIER_RETURN_IF_ERROR(file.Append(header));
  ESPALIER_RETURN_IF_ERROR(data_->ForEachBlock(
      0, data_->size(), [&](std::string_view block) { return file.Append(block); }));
  data_ = nullptr;
  return file.Commit();
}

}  // namespace espalier::language
