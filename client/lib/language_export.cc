#include "client/lib/language_export.h"

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/checkpoint_writer.h"

namespace espalier::client {

absl::StatusOr<std::vector<std::string>> ExportHuggingFace(const std::string& file,
                                                           const std::string& directory,
                                                           const std::string& tokenizer_folder) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, language::CheckpointReader::OpenFile(file));
  if (!tokenizer_folder.empty()) {
    ESPALIER_RETURN_IF_ERROR(reader->TakeCompanionsFrom(tokenizer_folder));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto writer,
                            language::CheckpointWriter::Create(files, directory, reader->config()));
  {
    ESPALIER_ASSIGN_OR_RETURN(const language::OuterWeights outer, reader->ReadOuter());
    ESPALIER_RETURN_IF_ERROR(writer->WriteOuter(outer));
  }
  for (int64_t b = 0; b < reader->config().blocks; ++b) {
    ESPALIER_ASSIGN_OR_RETURN(const language::BlockWeights block, reader->ReadBlock(b));
    ESPALIER_RETURN_IF_ERROR(writer->WriteBlock(block));
  }
  std::vector<std::string> names;
  for (const language::CompanionFile& companion : reader->companions()) {
    ESPALIER_RETURN_IF_ERROR(writer->WriteCompanion(companion));
    names.push_back(companion.name);
  }
  ESPALIER_RETURN_IF_ERROR(writer->Finish());
  ESPALIER_RETURN_IF_ERROR(files.Remove(file));
  return names;
}

}  // namespace espalier::client
