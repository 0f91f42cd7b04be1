#include "client/lib/language_export.h"

#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <fstream>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/checkpoint_writer.h"
#include "common/language/trained_config.h"
#include "espalier/v1/model.pb.h"
#include "fmt/format.h"

namespace espalier::client {
namespace {

absl::Status NotALanguageModel() {
  return base::InvalidArgument(
      "NOT_A_LANGUAGE_MODEL",
      "expected the checkpoint of a language model for --format hf, found another kind of network; "
      "download it without --format");
}

// A transformer as training jobs write it: each tensor dense, or as NAME.values, NAME.row_offsets
// and NAME.columns.
class TrainedFile {
 public:
  TrainedFile(std::unique_ptr<io::ReadableFile> file, wire::SafetensorsHeader header)
      : file_(std::move(file)), header_(std::move(header)) {}

  absl::StatusOr<std::vector<float>> Dense(const std::string& name, int64_t rows,
                                           int64_t columns) const {
    if (header_.Find(name) != nullptr) return Read<float>(name, rows * columns);
    const wire::TensorInfo* stored = header_.Find(name + ".values");
    if (stored == nullptr) return NotALanguageModel();
    const auto count = static_cast<int64_t>(stored->bytes / sizeof(float));
    ESPALIER_ASSIGN_OR_RETURN(const auto values, Read<float>(name + ".values", count));
    ESPALIER_ASSIGN_OR_RETURN(auto offsets, Read<int32_t>(name + ".row_offsets", rows + 1));
    ESPALIER_ASSIGN_OR_RETURN(auto indices, Read<int32_t>(name + ".columns", count));
    // Checks that offsets and columns are within the matrix.
    ESPALIER_RETURN_IF_ERROR(tensor::Topology::FromCsr(rows, columns, offsets, indices).status());
    std::vector<float> dense(rows * columns);
    for (int64_t i = 0; i < rows; ++i) {
      for (int32_t k = offsets[i]; k < offsets[i + 1]; ++k)
        dense[i * columns + indices[k]] = values[k];
    }
    return dense;
  }

 private:
  template <typename T>
  absl::StatusOr<std::vector<T>> Read(const std::string& name, int64_t count) const {
    const wire::TensorInfo* info = header_.Find(name);
    if (info == nullptr || info->bytes != static_cast<uint64_t>(count) * sizeof(T)) {
      return NotALanguageModel();
    }
    std::vector<T> values(count);
    ESPALIER_RETURN_IF_ERROR(file_->ReadAt(info->begin, values.data(), info->bytes));
    return values;
  }

  std::unique_ptr<io::ReadableFile> file_;
  wire::SafetensorsHeader header_;
};

absl::StatusOr<language::BlockWeights> TrainedBlock(const TrainedFile& file,
                                                    const language::TransformerConfig& config,
                                                    int64_t number) {
  const std::string prefix = language::BlockPrefix(config, number);
  language::BlockWeights block;
  const auto norms = language::BlockNorms(config, number);
  ESPALIER_ASSIGN_OR_RETURN(block.attention_norm, file.Dense(norms[0].name, config.hidden, 1));
  ESPALIER_ASSIGN_OR_RETURN(block.mlp_norm, file.Dense(norms[1].name, config.hidden, 1));
  for (const language::LinearLayerSpec& spec : language::BlockLinears(config)) {
    language::LinearWeights linear;
    linear.spec = spec;
    ESPALIER_ASSIGN_OR_RETURN(
        linear.values, file.Dense(prefix + spec.name + ".weight", spec.outputs, spec.inputs));
    block.linears.push_back(std::move(linear));
  }
  return block;
}

absl::Status ConvertTrained(TrainedFile file, const v1::TransformerSpec& spec,
                            const std::string& to) {
  const language::TransformerConfig config = language::LlamaConfigOf(spec, kTrainedContext);
  ESPALIER_ASSIGN_OR_RETURN(const auto writer,
                            language::CheckpointWriter::Create(io::PosixFileSystem(), to, config));
  const language::OuterNames names = language::OuterTensors(config);
  language::OuterWeights outer;
  ESPALIER_ASSIGN_OR_RETURN(outer.embedding,
                            file.Dense(names.embedding.name, config.vocabulary, config.hidden));
  ESPALIER_ASSIGN_OR_RETURN(outer.final_norm, file.Dense(names.final_norm.name, config.hidden, 1));
  if (!config.tied) {
    ESPALIER_ASSIGN_OR_RETURN(outer.output,
                              file.Dense(names.output.name, config.vocabulary, config.hidden));
  }
  ESPALIER_RETURN_IF_ERROR(writer->WriteOuter(outer));
  for (int64_t b = 0; b < config.blocks; ++b) {
    ESPALIER_ASSIGN_OR_RETURN(const language::BlockWeights block, TrainedBlock(file, config, b));
    ESPALIER_RETURN_IF_ERROR(writer->WriteBlock(block));
  }
  return writer->Finish();
}

absl::Status ConvertPruned(const std::string& from, const std::string& to) {
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, language::CheckpointReader::Open(from));
  ESPALIER_ASSIGN_OR_RETURN(const auto writer, language::CheckpointWriter::Create(
                                                   io::PosixFileSystem(), to, reader->config()));
  {
    ESPALIER_ASSIGN_OR_RETURN(const language::OuterWeights outer, reader->ReadOuter());
    ESPALIER_RETURN_IF_ERROR(writer->WriteOuter(outer));
  }
  for (int64_t b = 0; b < reader->config().blocks; ++b) {
    ESPALIER_ASSIGN_OR_RETURN(const language::BlockWeights block, reader->ReadBlock(b));
    ESPALIER_RETURN_IF_ERROR(writer->WriteBlock(block));
  }
  return writer->Finish();
}

// A reader wants a folder of its own.
absl::Status ExportPruned(const std::string& file, const std::string& config,
                          const std::string& directory) {
  const std::filesystem::path work = directory + "/.sparse";
  std::error_code error;
  std::filesystem::create_directories(work, error);
  if (!error) std::filesystem::rename(file, work / "model.safetensors", error);
  std::ofstream(work / "config.json", std::ios::binary) << config;
  if (error) {
    return base::FailedPrecondition("FOLDER_UNUSABLE",
                                    fmt::format("expected a folder to write to at '{}', found: {}",
                                                directory, error.message()));
  }
  const absl::Status converted = ConvertPruned(work.string(), directory);
  std::filesystem::remove_all(work, error);
  return converted;
}

}  // namespace

absl::Status ExportHuggingFace(const std::string& file, const std::string& directory) {
  ESPALIER_ASSIGN_OR_RETURN(auto open, io::PosixFileSystem().Open(file));
  ESPALIER_ASSIGN_OR_RETURN(wire::SafetensorsHeader header, wire::ReadSafetensorsHeader(*open));
  if (const auto config = header.metadata.find("config"); config != header.metadata.end()) {
    return ExportPruned(file, config->second, directory);
  }
  v1::ModelSpec spec;
  const auto model = header.metadata.find("model_spec");
  if (model == header.metadata.end() ||
      !google::protobuf::util::JsonStringToMessage(model->second, &spec).ok() ||
      !spec.has_transformer()) {
    return NotALanguageModel();
  }
  ESPALIER_RETURN_IF_ERROR(ConvertTrained(TrainedFile(std::move(open), std::move(header)),
                                          spec.transformer(), directory));
  return io::PosixFileSystem().Remove(file);
}

}  // namespace espalier::client
