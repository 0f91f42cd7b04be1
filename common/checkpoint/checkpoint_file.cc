#include "common/checkpoint/checkpoint_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/checkpoint/checkpoint_metadata.h"
#include "common/io/atomic_file.h"
#include "common/io/sha256.h"
#include "common/tensor/optimizer_slots.h"
#include "common/wire/safetensors.h"

namespace espalier::checkpoint {
namespace {

constexpr size_t kBlockBytes = 1024 * 1024;
// Far above what layouts of a million tensors need, far below what a forged length could claim.
constexpr uint64_t kMaxHeaderBytes = 32 * 1024 * 1024;

absl::Status Corrupt(const std::string& path, std::string_view what) {
  return base::MakeError(
      absl::StatusCode::kDataLoss, "CHECKPOINT_CORRUPT",
      fmt::format("the checkpoint '{}' is damaged: {}; use an earlier one", path, what));
}

// A tensor of the file and the memory it is written from.
struct Part {
  wire::TensorInfo info;
  std::string_view bytes;
};

template <typename T>
std::string_view AsBytes(std::span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

Part MakePart(std::string name, wire::DataType type, std::vector<int64_t> shape,
              std::string_view bytes) {
  Part part;
  part.info.name = std::move(name);
  part.info.type = type;
  part.info.shape = std::move(shape);
  part.bytes = bytes;
  return part;
}

// In the language models' reader: common/language/checkpoint_reader.h.
constexpr std::string_view kAttachedPrefix = "files/";

// Below the prefix of what goes with the model, so that whoever reads the model alone passes over
// it, whether he knows of it or not.
std::string StateName(const v1::Optimizer& optimizer, int slot, const std::string& tensor) {
  return fmt::format("{}optimizer/{}/{}", kAttachedPrefix, SlotName(optimizer, slot), tensor);
}

// The state of the optimizer: slot by slot, each in layout order.
void AddOptimizerState(const tensor::ModelState& state, const v1::Optimizer& optimizer,
                       std::vector<Part>& parts) {
  const tensor::ModelTopology& model = *state.topology;
  const auto numbers = std::span<const float>(state.optimizer_state);
  for (int slot = 0; slot < SlotsOf(optimizer); ++slot) {
    for (size_t i = 0; i < model.num_tensors(); ++i) {
      const tensor::TensorSpec& spec = model.layout()[i];
      const auto begin = static_cast<size_t>(slot * model.total_stored() + model.offset(i));
      const auto count = static_cast<size_t>(model.stored(i));
      parts.push_back(
          MakePart(StateName(optimizer, slot, spec.name), wire::DataType::kF32,
                   model.is_sparse(i) ? std::vector<int64_t>{model.stored(i)} : spec.shape,
                   AsBytes(numbers.subspan(begin, count))));
    }
  }
}

// The tensors of the file, in layout order, then the optimizer's state, then what is attached. They
// borrow from all of them.
std::vector<Part> PartsOf(const tensor::ModelState& state, const CheckpointMetadata& metadata,
                          std::span<const AttachedFile> attached) {
  const tensor::ModelTopology& model = *state.topology;
  std::vector<Part> parts;
  for (size_t i = 0; i < model.num_tensors(); ++i) {
    const tensor::TensorSpec& spec = model.layout()[i];
    const std::string_view values = AsBytes(state.tensor(i));
    if (!model.is_sparse(i)) {
      parts.push_back(MakePart(spec.name, wire::DataType::kF32, spec.shape, values));
      continue;
    }
    const tensor::Topology& topology = model.topology(i);
    parts.push_back(
        MakePart(spec.name + ".values", wire::DataType::kF32, {topology.nnz()}, values));
    parts.push_back(MakePart(spec.name + ".row_offsets", wire::DataType::kI32,
                             {topology.rows() + 1}, AsBytes(topology.row_offsets())));
    parts.push_back(MakePart(spec.name + ".columns", wire::DataType::kI32, {topology.nnz()},
                             AsBytes(topology.columns())));
  }
  if (metadata.optimizer.has_value()) {
    AddOptimizerState(state, metadata.optimizer->optimizer, parts);
  }
  for (const AttachedFile& file : attached) {
    parts.push_back(MakePart(std::string(kAttachedPrefix) + file.name, wire::DataType::kU8,
                             {static_cast<int64_t>(file.bytes.size())}, file.bytes));
  }
  return parts;
}

// Reads [begin, end of file) in blocks.
absl::Status ForEachBlock(const io::ReadableFile& file, uint64_t begin,
                          const std::function<void(std::string_view)>& visit) {
  std::string block(std::min<uint64_t>(kBlockBytes, file.size()), '\0');
  while (begin < file.size()) {
    const size_t size = std::min<uint64_t>(block.size(), file.size() - begin);
    ESPALIER_RETURN_IF_ERROR(file.ReadAt(begin, block.data(), size));
    visit(std::string_view(block.data(), size));
    begin += size;
  }
  return absl::OkStatus();
}

absl::StatusOr<WrittenFile> DigestOfFile(const io::ReadableFile& file) {
  io::Sha256 digest;
  ESPALIER_RETURN_IF_ERROR(
      ForEachBlock(file, 0, [&](std::string_view block) { digest.Update(block); }));
  return WrittenFile{file.size(), digest.HexDigest()};
}

template <typename T>
absl::Status ReadPart(const io::ReadableFile& file, const wire::TensorInfo& info, T* out,
                      int64_t count) {
  ESPALIER_CHECK(info.bytes == static_cast<uint64_t>(count) * sizeof(T), "sizes were compared");
  return file.ReadAt(info.begin, out, info.bytes);
}

// A one-dimensional or shaped tensor of the file with exactly these properties.
absl::StatusOr<const wire::TensorInfo*> Expect(const wire::SafetensorsHeader& header,
                                               const std::string& path, const std::string& name,
                                               wire::DataType type,
                                               const std::vector<int64_t>& shape) {
  const wire::TensorInfo* info = header.Find(name);
  if (info == nullptr || info->type != type || info->shape != shape) {
    return Corrupt(path, fmt::format("tensor '{}' is missing or of another type or shape", name));
  }
  return info;
}

// Reads the structure of one sparse tensor. nnz is what the file holds, so memory is bounded by it.
absl::StatusOr<tensor::Topology> ReadTopology(const io::ReadableFile& file, const std::string& path,
                                              const wire::SafetensorsHeader& header,
                                              const tensor::TensorSpec& spec) {
  const wire::TensorInfo* values = header.Find(spec.name + ".values");
  if (values == nullptr || values->shape.size() != 1) {
    return Corrupt(path, fmt::format("tensor '{}.values' is missing", spec.name));
  }
  const int64_t nnz = values->shape[0];
  ESPALIER_ASSIGN_OR_RETURN(
      const wire::TensorInfo* offsets,
      Expect(header, path, spec.name + ".row_offsets", wire::DataType::kI32, {spec.rows + 1}));
  ESPALIER_ASSIGN_OR_RETURN(
      const wire::TensorInfo* columns,
      Expect(header, path, spec.name + ".columns", wire::DataType::kI32, {nnz}));
  std::vector<int32_t> row_offsets(static_cast<size_t>(spec.rows + 1));
  std::vector<int32_t> column_indices(static_cast<size_t>(nnz));
  ESPALIER_RETURN_IF_ERROR(ReadPart(file, *offsets, row_offsets.data(), spec.rows + 1));
  ESPALIER_RETURN_IF_ERROR(ReadPart(file, *columns, column_indices.data(), nnz));
  return tensor::Topology::FromCsr(spec.rows, spec.cols, std::move(row_offsets),
                                   std::move(column_indices));
}

absl::StatusOr<std::shared_ptr<const tensor::ModelTopology>> ReadStructure(
    const io::ReadableFile& file, const std::string& path, const wire::SafetensorsHeader& header,
    DecodedMetadata& metadata) {
  auto layout = std::make_shared<const tensor::ModelLayout>(std::move(metadata.layout));
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout->size());
  for (size_t i = 0; i < layout->size(); ++i) {
    if (metadata.sparse[i]) {
      ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                                ReadTopology(file, path, header, (*layout)[i]));
      topologies[i] = std::make_shared<const tensor::Topology>(std::move(topology));
    } else {
      // Also bounds the memory for its values by what the file holds.
      ESPALIER_RETURN_IF_ERROR(
          Expect(header, path, (*layout)[i].name, wire::DataType::kF32, (*layout)[i].shape)
              .status());
    }
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology model,
                            tensor::ModelTopology::Create(layout, std::move(topologies)));
  if (model.hash() != metadata.topology_hash) {
    return Corrupt(path, fmt::format("its structure has hash {}, expected {}", model.hash(),
                                     metadata.topology_hash));
  }
  return std::make_shared<const tensor::ModelTopology>(std::move(model));
}

absl::StatusOr<tensor::ModelState> ReadState(const io::ReadableFile& file, const std::string& path,
                                             const wire::SafetensorsHeader& header,
                                             DecodedMetadata& metadata) {
  const size_t sparse_tensors =
      static_cast<size_t>(std::count(metadata.sparse.begin(), metadata.sparse.end(), true));
  const auto attached =
      static_cast<size_t>(std::ranges::count_if(header.tensors, [](const wire::TensorInfo& info) {
        return info.name.starts_with(kAttachedPrefix);
      }));
  if (metadata.layout.size() + 2 * sparse_tensors + attached != header.tensors.size()) {
    return Corrupt(path, "it does not hold the tensors that its layout names");
  }
  tensor::ModelState state;
  ESPALIER_ASSIGN_OR_RETURN(state.topology, ReadStructure(file, path, header, metadata));
  const tensor::ModelTopology& model = *state.topology;
  state.values.resize(static_cast<size_t>(model.total_stored()));
  for (size_t i = 0; i < model.num_tensors(); ++i) {
    const tensor::TensorSpec& spec = model.layout()[i];
    const bool sparse = model.is_sparse(i);
    ESPALIER_ASSIGN_OR_RETURN(
        const wire::TensorInfo* info,
        Expect(header, path, sparse ? spec.name + ".values" : spec.name, wire::DataType::kF32,
               sparse ? std::vector<int64_t>{model.stored(i)} : spec.shape));
    ESPALIER_RETURN_IF_ERROR(ReadPart(file, *info, state.tensor(i).data(), model.stored(i)));
  }
  return state;
}

// An open checkpoint whose header has been read.
struct OpenedFile {
  std::unique_ptr<io::ReadableFile> file;
  wire::SafetensorsHeader header;
  DecodedMetadata metadata;
  uint64_t data_begin = 0;
};

absl::StatusOr<OpenedFile> OpenCheckpoint(io::FileSystem& files, const std::string& path) {
  OpenedFile opened;
  ESPALIER_ASSIGN_OR_RETURN(opened.file, files.Open(path));
  auto header = wire::ReadSafetensorsHeader(*opened.file, kMaxHeaderBytes);
  if (!header.ok()) {
    return base::Annotate(header.status(), path);
  }
  opened.header = *std::move(header);
  auto metadata = DecodeMetadata(opened.header.metadata);
  if (!metadata.ok()) {
    return base::Annotate(metadata.status(), path);
  }
  opened.metadata = *std::move(metadata);
  opened.data_begin =
      opened.header.tensors.empty() ? opened.file->size() : opened.header.tensors.front().begin;
  return opened;
}

absl::StatusOr<OpenedFile> OpenNetwork(io::FileSystem& files, const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(OpenedFile opened, OpenCheckpoint(files, path));
  if (opened.metadata.metadata.kind == CheckpointKind::kNetwork) return opened;
  return base::InvalidArgument(
      "CHECKPOINT_INVALID",
      fmt::format("{}: expected a network trained by Espalier, found a language model that was "
                  "pruned",
                  path));
}

// Digest of the whole file; the data part is compared with what the header says.
absl::StatusOr<WrittenFile> VerifyData(const OpenedFile& opened, const std::string& path) {
  io::Sha256 whole;
  io::Sha256 data;
  std::string head(opened.data_begin, '\0');
  ESPALIER_RETURN_IF_ERROR(opened.file->ReadAt(0, head.data(), head.size()));
  whole.Update(head);
  ESPALIER_RETURN_IF_ERROR(
      ForEachBlock(*opened.file, opened.data_begin, [&](std::string_view block) {
        whole.Update(block);
        data.Update(block);
      }));
  if (data.HexDigest() != opened.metadata.data_sha256) {
    return Corrupt(path, "its data do not have the digest that its header names");
  }
  return WrittenFile{opened.file->size(), whole.HexDigest()};
}

absl::StatusOr<WrittenFile> ReadBack(io::FileSystem& files, const std::string& temporary,
                                     const std::string& expected, const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(const std::unique_ptr<io::ReadableFile> back, files.Open(temporary));
  ESPALIER_ASSIGN_OR_RETURN(WrittenFile written, DigestOfFile(*back));
  if (written.sha256 != expected) {
    return Corrupt(path, "what was read back is not what was written");
  }
  return written;
}

std::string DigestOfParts(std::span<const Part> parts) {
  io::Sha256 digest;
  for (const Part& part : parts) {
    digest.Update(part.bytes);
  }
  return digest.HexDigest();
}

}  // namespace

double Density(const tensor::ModelTopology& topology) {
  const int64_t size = topology.sparsifiable_size();
  return size == 0
             ? 1.0
             : static_cast<double>(topology.sparsifiable_stored()) / static_cast<double>(size);
}

int SlotsOf(const v1::Optimizer& optimizer) {
  return tensor::OptimizerSlots(optimizer.kind() == v1::Optimizer::KIND_ADAM, optimizer.momentum());
}

std::string_view SlotName(const v1::Optimizer& optimizer, int slot) {
  if (optimizer.kind() != v1::Optimizer::KIND_ADAM) return "momentum";
  return slot == 0 ? "first_moment" : "second_moment";
}

absl::StatusOr<WrittenFile> WriteCheckpointFile(io::FileSystem& files, const std::string& path,
                                                const tensor::ModelState& state,
                                                const CheckpointMetadata& metadata,
                                                std::span<const AttachedFile> attached) {
  if (metadata.optimizer.has_value()) {
    const size_t expected =
        static_cast<size_t>(SlotsOf(metadata.optimizer->optimizer)) * state.values.size();
    if (expected == 0 || state.optimizer_state.size() != expected) {
      return base::InvalidArgument("SHAPE_MISMATCH",
                                   fmt::format("expected {} numbers of optimizer state, found {}",
                                               expected, state.optimizer_state.size()));
    }
  }
  const std::vector<Part> parts = PartsOf(state, metadata, attached);
  std::vector<wire::TensorInfo> infos;
  infos.reserve(parts.size());
  for (const Part& part : parts) {
    infos.push_back(part.info);
  }
  ESPALIER_ASSIGN_OR_RETURN(const MetadataStrings strings,
                            EncodeMetadata(metadata, *state.topology, DigestOfParts(parts)));
  ESPALIER_ASSIGN_OR_RETURN(const std::string header,
                            wire::EncodeSafetensorsHeader(strings, infos));
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file, io::AtomicFile::Create(files, path));
  io::Sha256 digest;
  digest.Update(header);
  ESPALIER_RETURN_IF_ERROR(file.Append(header));
  for (const Part& part : parts) {
    digest.Update(part.bytes);
    ESPALIER_RETURN_IF_ERROR(file.Append(part.bytes));
  }
  const std::string expected = digest.HexDigest();
  ESPALIER_RETURN_IF_ERROR(file.Finish());
  ESPALIER_ASSIGN_OR_RETURN(const WrittenFile written,
                            ReadBack(files, file.temporary_path(), expected, path));
  ESPALIER_RETURN_IF_ERROR(file.Commit());
  return written;
}

absl::StatusOr<WrittenFile> AdoptLanguageFile(io::FileSystem& files, const std::string& from,
                                              const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(const std::unique_ptr<io::ReadableFile> source, files.Open(from));
  ESPALIER_ASSIGN_OR_RETURN(const wire::SafetensorsHeader header,
                            wire::ReadSafetensorsHeader(*source, kMaxHeaderBytes));
  const uint64_t data_begin =
      header.tensors.empty() ? source->size() : header.tensors.front().begin;
  io::Sha256 data;
  ESPALIER_RETURN_IF_ERROR(ForEachBlock(*source, data_begin, [&](std::string_view block) {
    data.Update(block);
    return absl::OkStatus();
  }));
  std::string head(data_begin, '\0');
  ESPALIER_RETURN_IF_ERROR(source->ReadAt(0, head.data(), head.size()));
  const size_t place = head.find(kUnknownDigest);
  if (place == std::string::npos) return Corrupt(from, "its header has no place for a digest");
  head.replace(place, kUnknownDigest.size(), data.HexDigest());
  ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file, io::AtomicFile::Create(files, path));
  io::Sha256 digest;
  digest.Update(head);
  ESPALIER_RETURN_IF_ERROR(file.Append(head));
  ESPALIER_RETURN_IF_ERROR(ForEachBlock(*source, data_begin, [&](std::string_view block) {
    digest.Update(block);
    return file.Append(block);
  }));
  ESPALIER_RETURN_IF_ERROR(file.Finish());
  ESPALIER_ASSIGN_OR_RETURN(const WrittenFile written,
                            ReadBack(files, file.temporary_path(), digest.HexDigest(), path));
  ESPALIER_RETURN_IF_ERROR(file.Commit());
  return written;
}

absl::StatusOr<LoadedCheckpoint> ReadCheckpointFile(io::FileSystem& files,
                                                    const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(OpenedFile opened, OpenNetwork(files, path));
  ESPALIER_RETURN_IF_ERROR(VerifyData(opened, path).status());
  LoadedCheckpoint loaded;
  ESPALIER_ASSIGN_OR_RETURN(loaded.state,
                            ReadState(*opened.file, path, opened.header, opened.metadata));
  loaded.metadata = std::move(opened.metadata.metadata);
  return loaded;
}

struct CheckpointReader::Opened : OpenedFile {};

CheckpointReader::CheckpointReader(std::string path, std::unique_ptr<Opened> opened)
    : path_(std::move(path)), opened_(std::move(opened)) {}

CheckpointReader::~CheckpointReader() = default;

absl::StatusOr<std::unique_ptr<CheckpointReader>> CheckpointReader::Open(io::FileSystem& files,
                                                                         const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(OpenedFile opened, OpenNetwork(files, path));
  return std::unique_ptr<CheckpointReader>(
      new CheckpointReader(path, std::make_unique<Opened>(Opened{std::move(opened)})));
}

const CheckpointMetadata& CheckpointReader::metadata() const { return opened_->metadata.metadata; }

const tensor::ModelLayout& CheckpointReader::layout() const { return opened_->metadata.layout; }

bool CheckpointReader::is_sparse(size_t tensor) const { return opened_->metadata.sparse[tensor]; }

double CheckpointReader::density() const { return opened_->metadata.density; }

absl::Status CheckpointReader::Verify() const { return VerifyData(*opened_, path_).status(); }

absl::StatusOr<std::shared_ptr<const tensor::Topology>> CheckpointReader::ReadStructure(
    size_t tensor) const {
  if (!is_sparse(tensor)) return nullptr;
  ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                            ReadTopology(*opened_->file, path_, opened_->header, layout()[tensor]));
  return std::make_shared<const tensor::Topology>(std::move(topology));
}

absl::StatusOr<int64_t> CheckpointReader::Stored(size_t tensor) const {
  const tensor::TensorSpec& spec = layout()[tensor];
  if (!is_sparse(tensor)) return spec.size();
  const wire::TensorInfo* values = opened_->header.Find(spec.name + ".values");
  if (values != nullptr && values->shape.size() == 1) return values->shape[0];
  return Corrupt(path_, fmt::format("tensor '{}.values' is missing", spec.name));
}

absl::Status CheckpointReader::ReadSparse(size_t tensor, const std::string& name,
                                          const Sink& sink) const {
  ESPALIER_ASSIGN_OR_RETURN(const auto topology, ReadStructure(tensor));
  ESPALIER_ASSIGN_OR_RETURN(
      const wire::TensorInfo* info,
      Expect(opened_->header, path_, name, wire::DataType::kF32, {topology->nnz()}));
  std::vector<float> values(static_cast<size_t>(topology->nnz()));
  ESPALIER_RETURN_IF_ERROR(ReadPart(*opened_->file, *info, values.data(), topology->nnz()));
  std::vector<float> row(static_cast<size_t>(topology->cols()));
  for (int64_t r = 0; r < topology->rows(); ++r) {
    std::ranges::fill(row, 0.0F);
    for (int32_t k = topology->row_offsets()[r]; k < topology->row_offsets()[r + 1]; ++k) {
      row[topology->columns()[k]] = values[k];
    }
    sink(row);
  }
  return absl::OkStatus();
}

absl::Status CheckpointReader::ReadDense(size_t tensor, const Sink& sink) const {
  const std::string& name = layout()[tensor].name;
  return ReadNumbers(tensor, is_sparse(tensor) ? name + ".values" : name, sink);
}

absl::Status CheckpointReader::ReadOptimizerState(int slot, size_t tensor, const Sink& sink) const {
  if (!metadata().optimizer.has_value()) return Corrupt(path_, "it holds no optimizer state");
  return ReadNumbers(tensor,
                     StateName(metadata().optimizer->optimizer, slot, layout()[tensor].name), sink);
}

absl::Status CheckpointReader::ReadNumbers(size_t tensor, const std::string& name,
                                           const Sink& sink) const {
  if (is_sparse(tensor)) return ReadSparse(tensor, name, sink);
  ESPALIER_ASSIGN_OR_RETURN(
      const wire::TensorInfo* info,
      Expect(opened_->header, path_, name, wire::DataType::kF32, layout()[tensor].shape));
  std::vector<float> block(std::min<uint64_t>(kBlockBytes, info->bytes) / sizeof(float));
  for (uint64_t done = 0; done < info->bytes;) {
    const uint64_t bytes = std::min<uint64_t>(block.size() * sizeof(float), info->bytes - done);
    ESPALIER_RETURN_IF_ERROR(opened_->file->ReadAt(info->begin + done, block.data(), bytes));
    sink(std::span<const float>(block).first(bytes / sizeof(float)));
    done += bytes;
  }
  return absl::OkStatus();
}

absl::StatusOr<CheckpointMetadata> ReadCheckpointMetadata(io::FileSystem& files,
                                                          const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(OpenedFile opened, OpenCheckpoint(files, path));
  return std::move(opened.metadata.metadata);
}

absl::StatusOr<FileSummary> VerifyCheckpointFile(io::FileSystem& files, const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(OpenedFile opened, OpenCheckpoint(files, path));
  FileSummary summary;
  ESPALIER_ASSIGN_OR_RETURN(summary.file, VerifyData(opened, path));
  summary.metadata = std::move(opened.metadata.metadata);
  summary.density = opened.metadata.density;
  return summary;
}

}  // namespace espalier::checkpoint
