// S3Options: which bucket of which S3-compatible object store is used, as whom, and how patiently.
//
// Secrets:    credentials are never part of a message or of a line in a log; whoever holds the
//             options keeps it that way.
// Threading:  plain values; the functions may be called from any thread as long as nobody changes
//             the environment meanwhile.
// Errors:     INVALID_S3_URL and INVALID_S3_OPTIONS (InvalidArgument), S3_CREDENTIALS
//             (FailedPrecondition), those of io for the credentials file.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace espalier::server::object_store {

struct S3Credentials {
  std::string access_key_id;
  std::string secret_access_key;
  std::string session_token;  // "" for keys that do not expire
};

struct S3Options {
  std::string endpoint;  // "https://host" or "http://host:port"; the bucket is part of the path
  std::string region = "us-east-1";
  std::string bucket;
  std::string prefix;  // of all keys, without "/" at its ends; "" for the whole bucket
  S3Credentials credentials;
  std::string ca_file;  // PEM certificates of authorities; "" for those of the system

  absl::Duration connect_timeout = absl::Seconds(10);
  // Of a request that moves little. One that moves an object may also take the time that its bytes
  // need at the slowest rate.
  absl::Duration request_timeout = absl::Seconds(30);
  uint64_t slowest_bytes_per_second = uint64_t{64} << 10;
  // A transfer that moves less than 1 KiB in each second of this time is ended.
  absl::Duration stall_timeout = absl::Minutes(1);
  // Of a copy inside the store and of putting the parts of an upload together, during which the
  // store says little.
  absl::Duration copy_timeout = absl::Minutes(5);
  // A request is sent at most so often. Before each further time there is a random wait, whose
  // bound doubles.
  int attempts = 5;
  absl::Duration first_backoff = absl::Milliseconds(200);
  absl::Duration longest_backoff = absl::Seconds(5);

  // Longer objects are uploaded in parts of this size; the store refuses less than 5 MiB.
  uint64_t part_bytes = uint64_t{64} << 20;
  // Longer objects are copied in parts of this size; the store refuses more than 5 GiB.
  uint64_t copy_part_bytes = uint64_t{1} << 30;
  // A file that is written stays in memory up to this size; then it goes to a nameless temporary
  // file in the folder, which must have room for the whole of it.
  uint64_t memory_spool_bytes = uint64_t{1} << 20;
  std::string spool_directory = "/tmp";
  // What is fetched at once for reads in sequence. An open file keeps at most four times as much.
  uint64_t read_ahead_bytes = uint64_t{4} << 20;
};

struct S3Location {
  std::string bucket;
  std::string prefix;  // without "/" at its ends
};

// "s3://bucket/prefix"; the prefix may be absent.
absl::StatusOr<S3Location> ParseS3Url(std::string_view url);

// The value of a variable, if it is set.
using Environment = std::function<std::optional<std::string>(const char* name)>;
// That of this process.
std::optional<std::string> ProcessEnvironment(const char* name);

// Options for `location` by the variables that other programs for S3 use, too:
//   AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN; without them the profile
//   AWS_PROFILE ("default") of the file AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials);
//   AWS_REGION or AWS_DEFAULT_REGION (us-east-1); AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL (Amazon's
//   for the region); AWS_CA_BUNDLE.
absl::StatusOr<S3Options> S3OptionsFromEnvironment(
    const S3Location& location, const Environment& environment = ProcessEnvironment);

// Whether requests can be made with them.
absl::Status CheckS3Options(const S3Options& options);

}  // namespace espalier::server::object_store
