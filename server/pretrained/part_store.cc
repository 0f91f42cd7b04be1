#include "server/pretrained/part_store.h"

#include "common/base/status.h"
#include "common/io/sha256.h"

namespace espalier::server::pretrained {

absl::StatusOr<Part> PartStore::Put(std::string_view bytes) {
  const std::string path = directory_ + "/part-" + std::to_string(next_++);
  {
    ESPALIER_ASSIGN_OR_RETURN(const auto file, files_.Create(path));
    ESPALIER_RETURN_IF_ERROR(file->Append(bytes));
    ESPALIER_RETURN_IF_ERROR(file->Close());
  }
  ESPALIER_ASSIGN_OR_RETURN(std::unique_ptr<io::MappedFile> mapped, io::MappedFile::Open(path));
  ESPALIER_RETURN_IF_ERROR(files_.Remove(path));
  return Part{io::Sha256Hex(bytes), std::move(mapped)};
}

}  // namespace espalier::server::pretrained
