#include "client/cli/language_export.h"

#include <filesystem>
#include <fstream>

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/checkpoint_writer.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

// config.json, which the file carries along.
absl::StatusOr<std::string> ConfigOf(const std::string& file) {
  ESPALIER_ASSIGN_OR_RETURN(const auto open, io::PosixFileSystem().Open(file));
  ESPALIER_ASSIGN_OR_RETURN(const wire::SafetensorsHeader header,
                            wire::ReadSafetensorsHeader(*open));
  const auto found = header.metadata.find("config");
  if (found != header.metadata.end()) return found->second;
  return base::InvalidArgument(
      "NOT_A_LANGUAGE_MODEL",
      "expected the checkpoint of a pruned language model for --format hf, found another kind of "
      "network; download it without --format");
}

absl::Status Convert(const std::string& from, const std::string& to) {
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, language::CheckpointReader::Open(from));
  ESPALIER_ASSIGN_OR_RETURN(
      const auto writer,
      language::CheckpointWriter::Create(io::PosixFileSystem(), to, reader->config()));
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

}  // namespace

absl::Status ExportHuggingFace(const std::string& file, const std::string& directory) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string config, ConfigOf(file));
  const std::filesystem::path work = directory + "/.sparse";
  std::error_code error;
  std::filesystem::create_directories(work, error);
  if (!error) std::filesystem::rename(file, work / "model.safetensors", error);
  std::ofstream(work / "config.json", std::ios::binary) << config;
  if (error) {
    return base::FailedPrecondition(
        "FOLDER_UNUSABLE", fmt::format("expected a folder to write to at '{}', found: {}", directory,
                                       error.message()));
  }
  const absl::Status converted = Convert(work.string(), directory);
  std::filesystem::remove_all(work, error);
  return converted;
}

}  // namespace espalier::cli
