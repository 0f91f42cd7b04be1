// Whole objects, in one request where they are short and in parts where they are long.
//
// An object appears complete or not at all, in place of what had its name. Of an upload that fails
// the parts are removed; should that fail, too, the message says so.
// Threading: any; one call per object at a time.
// Errors:    see s3_error.h.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/io/file_system.h"
#include "server/object_store/s3_client.h"

namespace espalier::server::object_store {

// All bytes of `file` as the object `key`.
absl::Status UploadObject(S3Client& client, const std::string& key, const io::ReadableFile& file);

// The version of `from` that `info` describes as the object `to`, inside the store.
absl::Status CopyObject(S3Client& client, const std::string& from, const ObjectInfo& info,
                        const std::string& to);

}  // namespace espalier::server::object_store
