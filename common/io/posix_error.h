// An errno value as an error.
#pragma once

#include <string_view>

#include "absl/status/status.h"

namespace espalier::io {

// `operation` is a verb ("read"), `path` what it was applied to. Reasons: FILE_NOT_FOUND
// (NotFound), STORAGE_FULL (ResourceExhausted), FILE_ACCESS (PermissionDenied), FILE_EXISTS
// (AlreadyExists), IO_ERROR (Internal) for the rest.
absl::Status PosixError(int error, std::string_view operation, std::string_view path);

}  // namespace espalier::io
