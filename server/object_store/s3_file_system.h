// An io::FileSystem over a bucket of an S3-compatible object store.
//
// Paths:      "directory/file" is the object "<prefix>/directory/file". Slashes in front, at the
//             end and in a row do not count, nor does ".". Refused are "..", control characters and
//             what is not UTF-8.
// Folders:    there are none. What is called one is the beginning of keys, it need not be created,
//             and one in which nothing is has an empty list.
// Writing:    appended bytes are kept here (Spool). Sync(), and Close() where something was appended
//             since, upload the whole object and return OK when the store has it for good; before,
//             its name is untouched, and a file that is destroyed without either leaves no trace.
//             A failed Sync() may be called again. After a failed Append() nothing is stored.
// Reading:    of the version that the object had when it was opened (S3ReadableFile). Unlike an
//             operating system's file it does not stay readable after Remove(), Rename() over it or
//             Create() at its name: reads then fail, unless they find the bytes already fetched.
// Rename():   copies inside the store, then removes `from`. `to` changes at one moment, but a
//             failure in between leaves the object under both names.
// Concurrent: nothing keeps two programs from using one prefix; the last writer of a name wins.
// Ownership:  files share what they need and may outlive the file system.
// Threading:  as io::FileSystem says. Calls wait for the network, within the bounds of S3Options.
// Errors:     see s3_error.h; INVALID_NAME (InvalidArgument) for paths, and of the spool those of
//             common/io/posix_error.h. SYNC_FAILED does not occur.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "server/object_store/s3_options.h"

namespace espalier::server::object_store {

// Sends nothing yet. CreateDirectories() finds out whether the bucket can be used: it lists, and the
// first time also begins an upload and ends it again, so that keys which may not write are noticed
// at the start of a program and not when its first file is ready.
// Errors: INVALID_S3_OPTIONS, S3_CREDENTIALS.
absl::StatusOr<std::unique_ptr<io::FileSystem>> OpenS3FileSystem(S3Options options);

}  // namespace espalier::server::object_store
