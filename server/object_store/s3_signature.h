// AWS Signature Version 4 as S3 wants it: a request proves with a digest that its sender knows the
// secret key, and what was signed cannot be changed under way.
//
// Threading, determinism: pure functions; the time comes from the caller.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "server/object_store/s3_options.h"

namespace espalier::server::object_store {

struct SignedRequest {
  std::string method;
  std::string path;                            // as it is sent: with escapes
  std::map<std::string, std::string> query;    // without escapes
  std::map<std::string, std::string> headers;  // names in lower case; all of them are signed
};

// What goes into the headers "x-amz-content-sha256" (the digest of the body) and "x-amz-date",
// both of which a request has when it is signed.
inline constexpr char kContentHeader[] = "x-amz-content-sha256";
inline constexpr char kDateHeader[] = "x-amz-date";
std::string AmzTime(absl::Time time);

// Everything but letters, digits, "-", ".", "_" and "~" becomes %XX; slashes stay if asked for.
std::string UriEncode(std::string_view text, bool keep_slashes);

// "a=1&b=", by name, with escapes; as it is signed and as it is sent.
std::string CanonicalQuery(const std::map<std::string, std::string>& query);

// The text whose digest is signed.
std::string CanonicalRequest(const SignedRequest& request);

// The value of the header "authorization". The time is that of "x-amz-date".
std::string Authorization(const SignedRequest& request, const S3Credentials& credentials,
                          std::string_view region, absl::Time time);

}  // namespace espalier::server::object_store
