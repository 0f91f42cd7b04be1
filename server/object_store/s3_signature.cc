#include "server/object_store/s3_signature.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/io/sha256.h"

namespace espalier::server::object_store {
namespace {

constexpr std::string_view kAlgorithm = "AWS4-HMAC-SHA256";

std::string HmacSha256(std::string_view key, std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  const unsigned char* made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &size);
  ESPALIER_CHECK(made != nullptr, "HMAC-SHA-256 is unavailable");
  return {reinterpret_cast<const char*>(digest), size};
}

std::string Hex(std::string_view bytes) {
  std::string hex;
  for (const char c : bytes) hex += fmt::format("{:02x}", static_cast<unsigned char>(c));
  return hex;
}

// Without blanks at the ends, and one in place of several.
std::string CanonicalValue(std::string_view value) {
  std::string canonical;
  for (const char c : value) {
    if (c == ' ' && (canonical.empty() || canonical.back() == ' ')) continue;
    canonical.push_back(c);
  }
  if (canonical.ends_with(' ')) canonical.pop_back();
  return canonical;
}

std::string SignedHeaders(const SignedRequest& request) {
  std::string names;
  for (const auto& [name, value] : request.headers) {
    if (!names.empty()) names += ";";
    names += name;
  }
  return names;
}

}  // namespace

std::string AmzTime(absl::Time time) {
  return absl::FormatTime("%Y%m%dT%H%M%SZ", time, absl::UTCTimeZone());
}

std::string UriEncode(std::string_view text, bool keep_slashes) {
  std::string encoded;
  encoded.reserve(text.size());
  for (const char c : text) {
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
        c == '.' || c == '_' || c == '~' || (keep_slashes && c == '/')) {
      encoded.push_back(c);
    } else {
      encoded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return encoded;
}

std::string CanonicalQuery(const std::map<std::string, std::string>& query) {
  // Escapes change the order, and that of the names with escapes counts.
  std::vector<std::pair<std::string, std::string>> pairs;
  pairs.reserve(query.size());
  for (const auto& [name, value] : query) {
    pairs.emplace_back(UriEncode(name, false), UriEncode(value, false));
  }
  std::sort(pairs.begin(), pairs.end());
  std::string text;
  for (const auto& [name, value] : pairs) {
    if (!text.empty()) text += "&";
    text.append(name).append("=").append(value);
  }
  return text;
}

std::string CanonicalRequest(const SignedRequest& request) {
  const auto content = request.headers.find(kContentHeader);
  ESPALIER_CHECK(content != request.headers.end(), "the digest of the body is signed");
  std::string headers;
  for (const auto& [name, value] : request.headers) {
    headers.append(name).append(":").append(CanonicalValue(value)).append("\n");
  }
  return fmt::format("{}\n{}\n{}\n{}\n{}\n{}", request.method, request.path,
                     CanonicalQuery(request.query), headers, SignedHeaders(request),
                     content->second);
}

std::string Authorization(const SignedRequest& request, const S3Credentials& credentials,
                          std::string_view region, absl::Time time) {
  const std::string date = absl::FormatTime("%Y%m%d", time, absl::UTCTimeZone());
  const std::string scope = fmt::format("{}/{}/s3/aws4_request", date, region);
  const std::string text = fmt::format("{}\n{}\n{}\n{}", kAlgorithm, AmzTime(time), scope,
                                       io::Sha256Hex(CanonicalRequest(request)));
  std::string key = HmacSha256("AWS4" + credentials.secret_access_key, date);
  for (const std::string_view part : {region, std::string_view("s3"), {"aws4_request"}}) {
    key = HmacSha256(key, part);
  }
  return fmt::format("{} Credential={}/{},SignedHeaders={},Signature={}", kAlgorithm,
                     credentials.access_key_id, scope, SignedHeaders(request),
                     Hex(HmacSha256(key, text)));
}

}  // namespace espalier::server::object_store
