#include "client/lib/language_export.h"

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/checkpoint_writer.h"

namespace espalier::client {

absl::Status ExportHuggingFace(const std::string& file, const std::string& directory) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, language::CheckpointReader::OpenFile(file));
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
  ESPALIER_RETURN_IF_ERROR(writer->Finish());
  return files.Remove(file);
}

}  // namespace espalier::client
