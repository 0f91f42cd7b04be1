#include "server/object_store/s3_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "server/object_store/s3_xml.h"

namespace espalier::server::object_store {
namespace {

constexpr size_t kMaxCodeBytes = 64;
constexpr size_t kMaxMessageBytes = 300;
constexpr size_t kMaxNameBytes = 1200;

template <size_t n>
bool IsOneOf(std::string_view code, const std::array<std::string_view, n>& codes) {
  return std::find(codes.begin(), codes.end(), code) != codes.end();
}

constexpr std::array<std::string_view, 8> kPassing = {
    "SlowDown",         "InternalError",  "ServiceUnavailable", "RequestTimeout",
    "OperationAborted", "IncompleteBody", "BadDigest",          "XAmzContentSHA256Mismatch"};
constexpr std::array<std::string_view, 4> kUnknownKeys = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity", "AuthorizationError"};
constexpr std::array<std::string_view, 4> kEndedKeys = {"ExpiredToken", "InvalidToken",
                                                        "TokenRefreshRequired", "RequestExpired"};
constexpr std::array<std::string_view, 5> kElsewhere = {
    "PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException", "AuthorizationQueryParametersError"};
constexpr std::array<std::string_view, 3> kFull = {"QuotaExceeded", "XMinioStorageFull",
                                                   "InsufficientStorage"};

// "HTTP 403, AccessDenied: the store's words"
std::string Found(const S3Error& error) {
  std::string found = fmt::format("HTTP {}", error.status);
  if (!error.code.empty()) found += ", " + error.code;
  if (!error.message.empty()) found += ": " + error.message;
  return found;
}

std::string Cannot(const S3Options& options, std::string_view operation, std::string_view key) {
  return fmt::format("cannot {} '{}': ", operation, NameOf(options, key));
}

absl::Status AccessError(const S3Error& error, const std::string& cannot) {
  std::string_view what = "expected keys that may do this, found that they may not";
  std::string_view advice =
      "give their user s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject, "
      "s3:DeleteObject and s3:AbortMultipartUpload on what is in it";
  if (IsOneOf(error.code, kUnknownKeys)) {
    what =
        "expected keys that the object store knows, found that it does not, or that the secret one "
        "is wrong";
    advice = "correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the credentials file";
  } else if (IsOneOf(error.code, kEndedKeys)) {
    what =
        "expected keys that are valid now, found that they have ended or that their session token "
        "is wrong";
    advice = "get new ones, and start this program with them";
  } else if (error.code == "RequestTimeTooSkewed") {
    what =
        "expected that the clocks of this machine and of the object store agree, found them "
        "minutes apart";
    advice = "set this machine's clock";
  }
  return base::MakeError(absl::StatusCode::kPermissionDenied, "FILE_ACCESS",
                         cannot + fmt::format("{} ({}); {}", what, Found(error), advice));
}

// What the code alone says, where the status was sent before the outcome was known.
int StatusOf(const S3Error& error) {
  if (error.status != 200) return error.status;
  if (error.code == "NoSuchKey") return 404;
  if (error.code == "AccessDenied") return 403;
  if (error.code == "PreconditionFailed") return 412;
  return error.status;
}

absl::Status ElsewhereError(const S3Error& error, const S3Options& options,
                            const std::string& cannot) {
  const std::string region =
      error.region.empty() ? "" : fmt::format(", whose region is '{}'", error.region);
  return base::FailedPrecondition(
      "BUCKET_ELSEWHERE",
      cannot + fmt::format("expected the bucket in the region '{}' at {}, found that it is "
                           "elsewhere{} ({}); correct AWS_REGION and AWS_ENDPOINT_URL_S3",
                           options.region, options.endpoint, region, Found(error)));
}

}  // namespace

bool IsError(const HttpResult& answer) {
  bool error = false;
  // An answer that cannot be read may have anything in it, and says at least not that all is well.
  const bool read = ReadXml(answer.body, [&](std::string_view path, const std::string&) {
    if (path == "Error") error = true;
  });
  return error || !read;
}

S3Error ReadError(const HttpResult& answer, const S3Credentials& credentials) {
  S3Error error;
  error.status = answer.status;
  std::string code;
  std::string message;
  const bool read = ReadXml(answer.body, [&](std::string_view path, const std::string& text) {
    if (path == "Error/Code") code = text;
    if (path == "Error/Message") message = text;
    if (path == "Error/Region") error.region = text;
  });
  // A proxy's page, for instance: its words are not the store's.
  if (!read) return error;
  const bool names_keys = message.find(credentials.access_key_id) != std::string::npos ||
                          message.find(credentials.secret_access_key) != std::string::npos ||
                          (!credentials.session_token.empty() &&
                           message.find(credentials.session_token) != std::string::npos);
  error.code = base::PrintablePrefix(code, kMaxCodeBytes);
  if (!names_keys) error.message = base::PrintablePrefix(message, kMaxMessageBytes);
  const auto region = answer.headers.find("x-amz-bucket-region");
  if (region != answer.headers.end()) error.region = region->second;
  error.region = base::PrintablePrefix(error.region, kMaxCodeBytes);
  return error;
}

bool IsPassing(const S3Error& error) {
  if (IsOneOf(error.code, kFull) || error.status == 501 || error.status == 507) return false;
  // "200" comes here with an error in the body, or with a body that broke off.
  return error.status >= 500 || error.status == 429 || error.status == 408 ||
         (error.status == 200 && error.code.empty()) || IsOneOf(error.code, kPassing);
}

absl::Status ToStatus(const S3Error& error, const S3Options& options, std::string_view operation,
                      std::string_view key) {
  const std::string cannot = Cannot(options, operation, key);
  const int status = StatusOf(error);
  if (error.code == "NoSuchBucket" || (status == 404 && key.empty())) {
    return base::FailedPrecondition(
        "BUCKET_NOT_FOUND",
        cannot +
            fmt::format("expected the bucket '{}' at {}, found that there is none ({}); create "
                        "it, or correct its name",
                        options.bucket, options.endpoint, Found(error)));
  }
  if (IsOneOf(error.code, kElsewhere) || (status >= 300 && status < 400)) {
    return ElsewhereError(error, options, cannot);
  }
  if (IsOneOf(error.code, kFull) || status == 507) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL",
                           cannot + fmt::format("expected room in the object store, found none "
                                                "({}); free some, or raise the quota",
                                                Found(error)));
  }
  if (error.code == "EntityTooLarge" || status == 413) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "FILE_TOO_LARGE",
                           cannot + fmt::format("expected a size that the object store takes, "
                                                "found that it is too large ({})",
                                                Found(error)));
  }
  if (status == 401 || status == 403 || IsOneOf(error.code, kUnknownKeys) ||
      IsOneOf(error.code, kEndedKeys)) {
    return AccessError(error, cannot);
  }
  switch (status) {
    case 404:
      return base::NotFound("FILE_NOT_FOUND",
                            cannot + "expected an object of this name, found none in the bucket");
    case 412:
      return base::FailedPrecondition(
          "FILE_CHANGED",
          cannot +
              "expected the object as it was when it was opened, found another one in its "
              "place; open it again");
    case 416:
      return base::MakeError(
          absl::StatusCode::kOutOfRange, "FILE_TRUNCATED",
          cannot + "expected bytes of the object, found that it ends before them");
    default:
      break;
  }
  const bool passing = IsPassing(error);
  return base::MakeError(
      passing ? absl::StatusCode::kUnavailable : absl::StatusCode::kInternal, "STORAGE_ERROR",
      cannot + fmt::format("expected that the object store at {} does it, found {}; {}",
                           options.endpoint, Found(error),
                           passing
                               ? "look at its state, and try again later"
                               : "check that the address is that of an S3-compatible store, and "
                                 "the region and the keys"));
}

absl::Status ToStatus(const HttpResult& failed, int attempts, const S3Options& options,
                      std::string_view operation, std::string_view key) {
  const std::string cannot = Cannot(options, operation, key);
  switch (failed.failure) {
    case HttpResult::Failure::kBody:
      if (!failed.body_error.ok())
        return base::Annotate(failed.body_error, cannot + "its temporary file");
      break;
    case HttpResult::Failure::kTooLong:
      return base::MakeError(
          absl::StatusCode::kInternal, "STORAGE_ERROR",
          cannot + fmt::format("expected an answer of a bounded length from {}, found a longer "
                               "one; check that the address is that of an S3-compatible store",
                               options.endpoint));
    case HttpResult::Failure::kSetup:
      return base::MakeError(
          absl::StatusCode::kUnavailable, "STORAGE_ERROR",
          cannot + fmt::format("expected a connection to the object store at {}, found: {}; "
                               "correct the address, or name the authority of its certificate in "
                               "AWS_CA_BUNDLE",
                               options.endpoint, failed.error));
    case HttpResult::Failure::kConnection:
    case HttpResult::Failure::kNone:
      break;
  }
  return base::MakeError(
      absl::StatusCode::kUnavailable, "STORAGE_ERROR",
      cannot + fmt::format("expected an answer of the object store at {}, found none in {} "
                           "attempts ({}); check that it runs, and that this machine reaches it",
                           options.endpoint, attempts, failed.error));
}

std::string NameOf(const S3Options& options, std::string_view key) {
  std::string name = "s3://" + options.bucket;
  if (!key.empty()) name.append("/").append(key);
  return base::PrintablePrefix(name, kMaxNameBytes);
}

}  // namespace espalier::server::object_store
