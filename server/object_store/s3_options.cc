#include "server/object_store/s3_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/io/file_system.h"

namespace espalier::server::object_store {
namespace {

constexpr std::string_view kUrlScheme = "s3://";
constexpr uint64_t kMaxCredentialsFileBytes = uint64_t{1} << 20;
constexpr size_t kMaxBucketBytes = 255;
constexpr size_t kMaxPrefixBytes = 512;
constexpr size_t kMaxShownBytes = 200;
// What stores accept as a part of an upload.
constexpr uint64_t kLeastPartBytes = uint64_t{5} << 20;
constexpr uint64_t kMostPartBytes = uint64_t{5} << 30;

bool IsAlnum(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool ConsistsOf(std::string_view text, std::string_view others) {
  return std::all_of(text.begin(), text.end(), [&](char c) {
    return IsAlnum(c) || others.find(c) != std::string_view::npos;
  });
}

// Visible ASCII: what may stand in a header without changing it.
bool IsToken(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

std::string Shown(std::string_view text) { return base::PrintablePrefix(text, kMaxShownBytes); }

bool IsBucket(std::string_view bucket) {
  return bucket.size() >= 3 && bucket.size() <= kMaxBucketBytes && ConsistsOf(bucket, "-._") &&
         bucket.find("..") == std::string_view::npos;
}

// Parts between slashes, none of them empty or one that programs read as a way through folders.
bool IsPrefix(std::string_view prefix) {
  if (prefix.empty()) return true;
  if (prefix.size() > kMaxPrefixBytes || !base::IsUtf8(prefix)) return false;
  for (size_t begin = 0; begin <= prefix.size();) {
    const size_t end = std::min(prefix.find('/', begin), prefix.size());
    const std::string_view part = prefix.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") return false;
    begin = end + 1;
  }
  return std::none_of(prefix.begin(), prefix.end(),
                      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

// What a section of a credentials file says; unknown names are passed over.
S3Credentials ReadProfile(std::string_view text, std::string_view profile) {
  S3Credentials found;
  bool inside = false;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = Trimmed(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.empty() || line.front() == '#' || line.front() == ';') continue;
    if (line.front() == '[') {
      inside = line.back() == ']' && Trimmed(line.substr(1, line.size() - 2)) == profile;
      continue;
    }
    const size_t equals = line.find('=');
    if (!inside || equals == std::string_view::npos) continue;
    const std::string_view name = Trimmed(line.substr(0, equals));
    const std::string value(Trimmed(line.substr(equals + 1)));
    if (name == "aws_access_key_id") found.access_key_id = value;
    if (name == "aws_secret_access_key") found.secret_access_key = value;
    if (name == "aws_session_token") found.session_token = value;
  }
  return found;
}

absl::Status NoCredentials(std::string_view found) {
  return base::FailedPrecondition(
      "S3_CREDENTIALS",
      fmt::format("expected the keys of an object store in AWS_ACCESS_KEY_ID and "
                  "AWS_SECRET_ACCESS_KEY or in a credentials file, found {}; set both variables, "
                  "or name a file and a profile with AWS_SHARED_CREDENTIALS_FILE and AWS_PROFILE",
                  found));
}

absl::StatusOr<S3Credentials> ReadCredentialsFile(const Environment& environment) {
  std::string path = environment("AWS_SHARED_CREDENTIALS_FILE").value_or("");
  if (path.empty()) {
    const std::string home = environment("HOME").value_or("");
    if (home.empty()) return NoCredentials("neither, and no home folder to look for the file in");
    path = home + "/.aws/credentials";
  }
  std::string profile = environment("AWS_PROFILE").value_or("");
  if (profile.empty()) profile = "default";
  const auto text = io::ReadFile(io::PosixFileSystem(), path, kMaxCredentialsFileBytes);
  if (text.status().code() == absl::StatusCode::kNotFound) {
    return NoCredentials(fmt::format("neither the variables nor the file '{}'", Shown(path)));
  }
  if (!text.ok()) return base::Annotate(text.status(), "reading the keys of an object store");
  S3Credentials credentials = ReadProfile(*text, profile);
  if (credentials.access_key_id.empty() || credentials.secret_access_key.empty()) {
    return NoCredentials(
        fmt::format("no aws_access_key_id with aws_secret_access_key in the profile '{}' of '{}'",
                    Shown(profile), Shown(path)));
  }
  return credentials;
}

absl::StatusOr<S3Credentials> ReadCredentials(const Environment& environment) {
  S3Credentials credentials;
  credentials.access_key_id = environment("AWS_ACCESS_KEY_ID").value_or("");
  credentials.secret_access_key = environment("AWS_SECRET_ACCESS_KEY").value_or("");
  if (credentials.access_key_id.empty() && credentials.secret_access_key.empty()) {
    return ReadCredentialsFile(environment);
  }
  if (credentials.access_key_id.empty() || credentials.secret_access_key.empty()) {
    return NoCredentials(credentials.access_key_id.empty() ? "AWS_SECRET_ACCESS_KEY alone"
                                                           : "AWS_ACCESS_KEY_ID alone");
  }
  credentials.session_token = environment("AWS_SESSION_TOKEN").value_or("");
  return credentials;
}

absl::Status InvalidOption(std::string_view expected, std::string_view found) {
  return base::InvalidArgument("INVALID_S3_OPTIONS",
                               fmt::format("expected {}, found '{}'", expected, Shown(found)));
}

absl::Status CheckEndpoint(std::string_view endpoint) {
  std::string_view host = endpoint;
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (host.starts_with(scheme)) {
      host.remove_prefix(scheme.size());
      break;
    }
  }
  // With a name and a password in front of the host, the text itself must not be shown.
  if (host.find('@') != std::string_view::npos) {
    return base::InvalidArgument(
        "INVALID_S3_OPTIONS",
        "expected the address of an object store as https://host or http://host:port, found one "
        "with '@'; give keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead");
  }
  if (host.size() == endpoint.size() || host.empty() || !ConsistsOf(host, "-._:[]")) {
    return InvalidOption("the address of an object store as https://host or http://host:port",
                         endpoint);
  }
  return absl::OkStatus();
}

absl::Status CheckNumbers(const S3Options& options) {
  for (const absl::Duration wait : {options.connect_timeout, options.request_timeout,
                                    options.stall_timeout, options.copy_timeout}) {
    if (wait < absl::Milliseconds(1) || wait > absl::Hours(24)) {
      return InvalidOption("time-outs between 1 ms and 24 h", absl::FormatDuration(wait));
    }
  }
  if (options.attempts < 1 || options.attempts > 100) {
    return InvalidOption("between 1 and 100 attempts", std::to_string(options.attempts));
  }
  if (options.first_backoff < absl::ZeroDuration() ||
      options.longest_backoff < options.first_backoff ||
      options.longest_backoff > absl::Minutes(10)) {
    return InvalidOption("waits between attempts that grow to at most 10 min",
                         absl::FormatDuration(options.longest_backoff));
  }
  if (options.slowest_bytes_per_second < 1) {
    return InvalidOption("a slowest rate of at least 1 byte per second", "0");
  }
  for (const uint64_t bytes : {options.part_bytes, options.copy_part_bytes}) {
    if (bytes < kLeastPartBytes || bytes > kMostPartBytes) {
      return InvalidOption("parts between 5 MiB and 5 GiB", std::to_string(bytes));
    }
  }
  constexpr uint64_t kMostMemory = uint64_t{1} << 30;
  for (const uint64_t bytes : {options.memory_spool_bytes, options.read_ahead_bytes}) {
    if (bytes > kMostMemory) return InvalidOption("at most 1 GiB in memory", std::to_string(bytes));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<S3Location> ParseS3Url(std::string_view url) {
  S3Location location;
  if (url.starts_with(kUrlScheme)) {
    const std::string_view rest = url.substr(kUrlScheme.size());
    const size_t slash = std::min(rest.find('/'), rest.size());
    location.bucket = rest.substr(0, slash);
    std::string_view prefix = rest.substr(slash);
    while (prefix.starts_with('/')) prefix.remove_prefix(1);
    while (prefix.ends_with('/')) prefix.remove_suffix(1);
    location.prefix = prefix;
  }
  if (!IsBucket(location.bucket) || !IsPrefix(location.prefix)) {
    return base::InvalidArgument(
        "INVALID_S3_URL",
        fmt::format(
            "expected s3://bucket or s3://bucket/prefix with a bucket of 3 or more letters, "
            "digits, '-', '.' and '_' and a prefix without empty, '.' and '..' parts, "
            "found '{}'",
            Shown(url)));
  }
  return location;
}

std::optional<std::string> ProcessEnvironment(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr) return std::nullopt;
  return value;
}

absl::StatusOr<S3Options> S3OptionsFromEnvironment(const S3Location& location,
                                                   const Environment& environment) {
  const auto first_of = [&](const char* name, const char* other) {
    std::string value = environment(name).value_or("");
    return value.empty() ? environment(other).value_or("") : value;
  };
  S3Options options;
  options.bucket = location.bucket;
  options.prefix = location.prefix;
  const std::string region = first_of("AWS_REGION", "AWS_DEFAULT_REGION");
  if (!region.empty()) options.region = region;
  options.endpoint = first_of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
  if (options.endpoint.empty()) {
    options.endpoint = fmt::format("https://s3.{}.amazonaws.com", options.region);
  }
  while (options.endpoint.ends_with('/')) options.endpoint.pop_back();
  options.ca_file = environment("AWS_CA_BUNDLE").value_or("");
  ESPALIER_ASSIGN_OR_RETURN(options.credentials, ReadCredentials(environment));
  ESPALIER_RETURN_IF_ERROR(CheckS3Options(options));
  return options;
}

absl::Status CheckS3Options(const S3Options& options) {
  if (options.region.empty() || !ConsistsOf(options.region, "-_")) {
    return InvalidOption("a region of letters, digits and '-'", options.region);
  }
  ESPALIER_RETURN_IF_ERROR(CheckEndpoint(options.endpoint));
  if (!IsBucket(options.bucket)) {
    return InvalidOption("a bucket of 3 or more letters, digits, '-', '.' and '_'", options.bucket);
  }
  if (!IsPrefix(options.prefix)) {
    return InvalidOption("a prefix without empty, '.' and '..' parts", options.prefix);
  }
  const S3Credentials& keys = options.credentials;
  if (keys.access_key_id.empty() || keys.secret_access_key.empty()) {
    return NoCredentials("an empty one");
  }
  if (!IsToken(keys.access_key_id) || !IsToken(keys.secret_access_key) ||
      !IsToken(keys.session_token)) {
    return NoCredentials("one with spaces or characters that are not ASCII");
  }
  return CheckNumbers(options);
}

}  // namespace espalier::server::object_store
