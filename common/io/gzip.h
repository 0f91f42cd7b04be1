// Reading files that may be compressed with gzip (RFC 1952), with a bound on what they expand to.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace espalier::io {

// The content of an open regular file from its beginning; decompressed when it begins with the gzip
// signature (several members in a row are one content). Read in blocks: memory is that of the
// result. `name` is used in messages only; `fd` stays open.
// Errors: ResourceExhausted (FILE_TOO_LARGE) when the content exceeds `max_bytes`; InvalidArgument
//         (GZIP_CORRUPT) for damaged, truncated or trailing bytes; those of posix_error.h.
absl::StatusOr<std::string> ReadDescriptorMaybeGzip(int fd, std::string_view name,
                                                    uint64_t max_bytes);

// The same for a path.
absl::StatusOr<std::string> ReadFileMaybeGzip(const std::string& path, uint64_t max_bytes);

}  // namespace espalier::io
