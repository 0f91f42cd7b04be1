// What an object store answered instead of what was asked for, as an error.
//
// Errors: FILE_NOT_FOUND (NotFound); FILE_ACCESS (PermissionDenied) for keys that are unknown or
//         wrong, that have ended or that may not do this; BUCKET_NOT_FOUND, BUCKET_ELSEWHERE and
//         FILE_CHANGED (FailedPrecondition); FILE_TRUNCATED (OutOfRange); FILE_TOO_LARGE and
//         STORAGE_FULL (ResourceExhausted); STORAGE_ERROR for the rest: Unavailable where the store
//         cannot be reached or is not in order, else Internal.
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/object_store/http_client.h"
#include "server/object_store/s3_options.h"

namespace espalier::server::object_store {

struct S3Error {
  int status = 0;       // of HTTP
  std::string code;     // such as "NoSuchKey"; "" where the answer does not say it
  std::string message;  // the store's own words, without keys, printable
  std::string region;   // where the bucket is, if the answer says so
};

// Stores begin long work with "200" and say in the body how it ended.
bool IsError(const HttpResult& answer);

// Reads an answer that IsError(), or whose status is not of success.
S3Error ReadError(const HttpResult& answer, const S3Credentials& credentials);

// Whether the same request may succeed in a moment.
bool IsPassing(const S3Error& error);

// `operation` is a verb ("read"), `key` what it was applied to, "" for the bucket.
absl::Status ToStatus(const S3Error& error, const S3Options& options, std::string_view operation,
                      std::string_view key);

// Of a request that got no whole answer in `attempts` attempts.
absl::Status ToStatus(const HttpResult& failed, int attempts, const S3Options& options,
                      std::string_view operation, std::string_view key);

// "s3://bucket/key", printable.
std::string NameOf(const S3Options& options, std::string_view key);

}  // namespace espalier::server::object_store
