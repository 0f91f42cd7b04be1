#include "common/io/posix_error.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

#include "common/base/status.h"

namespace espalier::io {

absl::Status PosixError(int error, std::string_view operation, std::string_view path) {
  const std::string message =
      fmt::format("cannot {} '{}': {}", operation, path, std::generic_category().message(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return base::NotFound("FILE_NOT_FOUND", message);
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
                             message + "; free space on this file system");
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
      return base::MakeError(absl::StatusCode::kPermissionDenied, "FILE_ACCESS",
                             message + "; check owner and mode");
    case EEXIST:
      return base::MakeError(absl::StatusCode::kAlreadyExists, "FILE_EXISTS", message);
    default:
      return base::MakeError(absl::StatusCode::kInternal, "IO_ERROR", message);
  }
}

}  // namespace espalier::io
