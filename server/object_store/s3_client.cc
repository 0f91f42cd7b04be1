#include "server/object_store/s3_client.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/entropy.h"
#include "common/base/status.h"
#include "common/io/sha256.h"
#include "server/object_store/s3_error.h"
#include "server/object_store/s3_signature.h"
#include "server/object_store/s3_xml.h"

namespace espalier::server::object_store {
namespace {

constexpr size_t kMaxAnswerBytes = size_t{256} << 10;
// A page has at most 1000 keys of at most 1024 bytes, each of which may be written as an entity.
constexpr size_t kMaxListBytes = size_t{16} << 20;
constexpr size_t kMaxEtagBytes = 1024;
constexpr size_t kMaxUploadIdBytes = 4096;
constexpr size_t kDigestBlockBytes = size_t{256} << 10;
constexpr uint64_t kMaxObjectBytes = uint64_t{1} << 60;

uint64_t RandomKey() {
  base::SystemEntropy entropy;
  uint64_t key = 0;
  const std::string bytes = entropy.Bytes(sizeof(key));
  std::memcpy(&key, bytes.data(), sizeof(key));
  return key;
}

// The host and, where it is not the scheme's own, the port.
std::string HostOf(const std::string& endpoint) {
  const bool tls = endpoint.starts_with("https://");
  std::string host = endpoint.substr(tls ? 8 : 7);
  const std::string_view own_port = tls ? ":443" : ":80";
  if (host.ends_with(own_port)) host.resize(host.size() - own_port.size());
  return host;
}

absl::StatusOr<std::string> DigestOf(const HttpBody& body) {
  io::Sha256 digest;
  std::string block(std::min<uint64_t>(kDigestBlockBytes, body.size), '\0');
  for (uint64_t done = 0; done < body.size;) {
    const size_t size = std::min<uint64_t>(block.size(), body.size - done);
    ESPALIER_RETURN_IF_ERROR(body.file->ReadAt(body.offset + done, block.data(), size));
    digest.Update(block.data(), size);
    done += size;
  }
  return digest.HexDigest();
}

// The text of a body that is made here.
class TextFile : public io::ReadableFile {
 public:
  explicit TextFile(std::string text) : text_(std::move(text)) {}
  uint64_t size() const override { return text_.size(); }
  absl::Status ReadAt(uint64_t offset, void* out, size_t size) const override {
    if (offset > text_.size() || size > text_.size() - offset) {
      return base::MakeError(absl::StatusCode::kOutOfRange, "FILE_TRUNCATED",
                             "a request's text ends earlier");
    }
    std::memcpy(out, text_.data() + offset, size);
    return absl::OkStatus();
  }

 private:
  const std::string text_;
};

std::optional<uint64_t> ParseNumber(std::string_view text) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto number = std::from_chars(text.data(), end, value);
  if (text.empty() || number.ec != std::errc() || number.ptr != end) return std::nullopt;
  return value;
}

std::string HeaderOf(const HttpResult& answer, const std::string& name) {
  const auto found = answer.headers.find(name);
  return found == answer.headers.end() ? "" : found->second;
}

// It goes back to the store in a header, or in a document.
bool IsEtag(std::string_view etag) {
  return !etag.empty() && etag.size() <= kMaxEtagBytes &&
         std::all_of(etag.begin(), etag.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

// A request before it is signed.
struct S3Client::Call {
  std::string method;
  std::string operation;  // a verb, for messages
  std::string key;        // "" for the bucket
  std::map<std::string, std::string> query;
  std::map<std::string, std::string> headers;
  HttpBody body;
  std::string digest = io::Sha256Hex("");  // of the body
  absl::Duration timeout;
  bool may_stall = false;
  bool ends_in_body = false;  // "200" says only that the store began
  char* out = nullptr;
  size_t out_size = 0;
  size_t max_answer = kMaxAnswerBytes;
};

absl::StatusOr<std::unique_ptr<S3Client>> S3Client::Create(S3Options options) {
  ESPALIER_RETURN_IF_ERROR(CheckS3Options(options));
  return std::unique_ptr<S3Client>(new S3Client(std::move(options)));
}

S3Client::S3Client(S3Options options)
    : options_(std::move(options)),
      host_(HostOf(options_.endpoint)),
      http_({options_.connect_timeout, options_.stall_timeout, options_.ca_file}),
      rng_(RandomKey()) {}

absl::Duration S3Client::TransferTimeout(uint64_t bytes) const {
  return options_.request_timeout +
         absl::Seconds(static_cast<double>(bytes) /
                       static_cast<double>(options_.slowest_bytes_per_second));
}

absl::Duration S3Client::Backoff(int attempt) {
  absl::Duration longest = options_.first_backoff;
  for (int i = 1; i < attempt && longest < options_.longest_backoff; ++i) longest *= 2;
  const base::MutexLock lock(mutex_);
  // At least half of it, so that a store which asks for a pause gets one.
  return std::min(longest, options_.longest_backoff) * (0.5 + 0.5 * rng_.Uniform());
}

HttpRequest S3Client::Sign(const Call& call) const {
  const absl::Time now = absl::Now();
  SignedRequest plain;
  plain.method = call.method;
  plain.path = "/" + options_.bucket;
  if (!call.key.empty()) plain.path += "/" + UriEncode(call.key, /*keep_slashes=*/true);
  plain.query = call.query;
  plain.headers = call.headers;
  plain.headers["host"] = host_;
  plain.headers[kContentHeader] = call.digest;
  plain.headers[kDateHeader] = AmzTime(now);
  if (!options_.credentials.session_token.empty()) {
    plain.headers["x-amz-security-token"] = options_.credentials.session_token;
  }
  HttpRequest request;
  request.method = call.method;
  request.url = options_.endpoint + plain.path;
  const std::string query = CanonicalQuery(plain.query);
  if (!query.empty()) request.url += "?" + query;
  plain.headers["authorization"] = Authorization(plain, options_.credentials, options_.region, now);
  request.headers = std::move(plain.headers);
  request.body = call.body;
  request.timeout = call.timeout;
  request.may_stall = call.may_stall;
  request.out = call.out;
  request.out_size = call.out_size;
  request.max_body_bytes = call.max_answer;
  return request;
}

absl::StatusOr<HttpResult> S3Client::Send(const Call& call) {
  for (int attempt = 1;; ++attempt) {
    HttpResult answer = http_.Send(Sign(call));
    bool passing = answer.failure == HttpResult::Failure::kConnection;
    absl::Status status;
    if (answer.failure != HttpResult::Failure::kNone) {
      status = ToStatus(answer, attempt, options_, call.operation, call.key);
    } else if (answer.status < 200 || answer.status >= 300 ||
               (call.ends_in_body && IsError(answer))) {
      const S3Error error = ReadError(answer, options_.credentials);
      passing = IsPassing(error);
      status = error.code == "NoSuchUpload"
                   ? base::MakeError(absl::StatusCode::kAborted, "UPLOAD_LOST",
                                     fmt::format("the upload of '{}' was ended by somebody else; "
                                                 "write the file again",
                                                 NameOf(options_, call.key)))
                   : ToStatus(error, options_, call.operation, call.key);
    } else {
      return answer;
    }
    if (!passing || attempt >= options_.attempts) return status;
    absl::SleepFor(Backoff(attempt));
  }
}

absl::Status S3Client::Misunderstood(const Call& call, std::string_view expected) const {
  return base::MakeError(
      absl::StatusCode::kInternal, "STORAGE_ERROR",
      fmt::format("cannot {} '{}': expected {} in the answer of {}, found none; check that the "
                  "address is that of an S3-compatible store",
                  call.operation, NameOf(options_, call.key), expected, options_.endpoint));
}

absl::StatusOr<std::string> S3Client::EtagOf(const Call& call, const HttpResult& answer) const {
  std::string etag = HeaderOf(answer, "etag");
  if (!IsEtag(etag)) return Misunderstood(call, "an ETag");
  return etag;
}

absl::StatusOr<ObjectInfo> S3Client::Head(const std::string& key) {
  Call call;
  call.method = "HEAD";
  call.operation = "examine";
  call.key = key;
  call.timeout = options_.request_timeout;
  ESPALIER_ASSIGN_OR_RETURN(const HttpResult answer, Send(call));
  const std::optional<uint64_t> size = ParseNumber(HeaderOf(answer, "content-length"));
  if (!size.has_value() || *size > kMaxObjectBytes) return Misunderstood(call, "a size");
  ObjectInfo info;
  info.size = *size;
  ESPALIER_ASSIGN_OR_RETURN(info.etag, EtagOf(call, answer));
  return info;
}

absl::Status S3Client::Get(const std::string& key, const std::string& etag, uint64_t offset,
                           char* out, size_t size) {
  Call call;
  call.method = "GET";
  call.operation = "read";
  call.key = key;
  call.headers["range"] = fmt::format("bytes={}-{}", offset, offset + size - 1);
  call.headers["if-match"] = etag;
  call.timeout = TransferTimeout(size);
  call.out = out;
  call.out_size = size;
  ESPALIER_ASSIGN_OR_RETURN(const HttpResult answer, Send(call));
  const std::string range = fmt::format("bytes {}-{}/", offset, offset + size - 1);
  const bool asked_for = answer.status == 206 ? HeaderOf(answer, "content-range").starts_with(range)
                                              : answer.status == 200 && offset == 0;
  // A store that does not know If-Match still says which version it sent.
  if (!asked_for || answer.received != size) return Misunderstood(call, "the bytes asked for");
  const std::string version = HeaderOf(answer, "etag");
  if (version == etag) return absl::OkStatus();
  S3Error changed;
  changed.status = 412;
  return ToStatus(changed, options_, call.operation, key);
}

absl::Status S3Client::Put(const std::string& key, const HttpBody& body) {
  Call call;
  call.method = "PUT";
  call.operation = "write";
  call.key = key;
  call.body = body;
  call.timeout = TransferTimeout(body.size);
  ESPALIER_ASSIGN_OR_RETURN(call.digest, DigestOf(body));
  return Send(call).status();
}

absl::Status S3Client::Delete(const std::string& key) {
  Call call;
  call.method = "DELETE";
  call.operation = "remove";
  call.key = key;
  call.timeout = options_.request_timeout;
  return Send(call).status();
}

std::string S3Client::CopySource(const std::string& key) const {
  return "/" + options_.bucket + "/" + UriEncode(key, /*keep_slashes=*/true);
}

absl::Status S3Client::Copy(const std::string& from, const std::string& etag,
                            const std::string& to) {
  Call call;
  call.method = "PUT";
  call.operation = fmt::format("copy '{}' to", NameOf(options_, from));
  call.key = to;
  call.headers["x-amz-copy-source"] = CopySource(from);
  call.headers["x-amz-copy-source-if-match"] = etag;
  call.timeout = options_.copy_timeout;
  call.may_stall = true;
  call.ends_in_body = true;
  return Send(call).status();
}

absl::StatusOr<Upload> S3Client::StartUpload(const std::string& key) {
  Call call;
  call.method = "POST";
  call.operation = "begin to write";
  call.key = key;
  call.query["uploads"] = "";
  call.timeout = options_.request_timeout;
  ESPALIER_ASSIGN_OR_RETURN(const HttpResult answer, Send(call));
  Upload upload{key, ""};
  const bool read = ReadXml(answer.body, [&](std::string_view path, const std::string& text) {
    if (path == "InitiateMultipartUploadResult/UploadId") upload.id = text;
  });
  if (!read || upload.id.empty() || upload.id.size() > kMaxUploadIdBytes) {
    return Misunderstood(call, "the id of an upload");
  }
  return upload;
}

absl::StatusOr<std::string> S3Client::PutPart(const Upload& upload, int number,
                                              const HttpBody& body) {
  Call call;
  call.method = "PUT";
  call.operation = fmt::format("write part {} of", number);
  call.key = upload.key;
  call.query["partNumber"] = std::to_string(number);
  call.query["uploadId"] = upload.id;
  call.body = body;
  call.timeout = TransferTimeout(body.size);
  ESPALIER_ASSIGN_OR_RETURN(call.digest, DigestOf(body));
  ESPALIER_ASSIGN_OR_RETURN(const HttpResult answer, Send(call));
  return EtagOf(call, answer);
}

absl::StatusOr<std::string> S3Client::CopyPart(const Upload& upload, int number,
                                               const std::string& from, const std::string& etag,
                                               uint64_t offset, uint64_t size) {
  Call call;
  call.method = "PUT";
  call.operation = fmt::format("copy part {} of '{}' to", number, NameOf(options_, from));
  call.key = upload.key;
  call.query["partNumber"] = std::to_string(number);
  call.query["uploadId"] = upload.id;
  call.headers["x-amz-copy-source"] = CopySource(from);
  call.headers["x-amz-copy-source-if-match"] = etag;
  call.headers["x-amz-copy-source-range"] = fmt::format("bytes={}-{}", offset, offset + size - 1);
  call.timeout = options_.copy_timeout;
  call.may_stall = true;
  call.ends_in_body = true;
  ESPALIER_ASSIGN_OR_RETURN(const HttpResult answer, Send(call));
  std::string part;
  ReadXml(answer.body, [&](std::string_view path, const std::string& text) {
    if (path == "CopyPartResult/ETag") part = text;
  });
  if (!IsEtag(part)) return Misunderstood(call, "an ETag");
  return part;
}

absl::Status S3Client::CompleteUpload(const Upload& upload, const std::vector<std::string>& etags) {
  std::string text = "<CompleteMultipartUpload>";
  for (size_t i = 0; i < etags.size(); ++i) {
    text += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1,
                        EscapeXml(etags[i]));
  }
  text += "</CompleteMultipartUpload>";
  const TextFile document(std::move(text));
  Call call;
  call.method = "POST";
  call.operation = "put together";
  call.key = upload.key;
  call.query["uploadId"] = upload.id;
  call.headers["content-type"] = "application/xml";
  call.body = {&document, 0, document.size()};
  ESPALIER_ASSIGN_OR_RETURN(call.digest, DigestOf(call.body));
  call.timeout = options_.copy_timeout;
  call.may_stall = true;
  call.ends_in_body = true;
  return Send(call).status();
}

absl::Status S3Client::AbortUpload(const Upload& upload) {
  Call call;
  call.method = "DELETE";
  call.operation = "end the upload of";
  call.key = upload.key;
  call.query["uploadId"] = upload.id;
  call.timeout = options_.request_timeout;
  const absl::Status status = Send(call).status();
  return base::ReasonOf(status) == "UPLOAD_LOST" ? absl::OkStatus() : status;
}

absl::StatusOr<ListPage> S3Client::List(const std::string& prefix, const std::string& next,
                                        int max_keys) {
  Call call;
  call.method = "GET";
  call.operation = "list";
  call.query = {{"list-type", "2"},
                {"delimiter", "/"},
                {"prefix", prefix},
                {"max-keys", std::to_string(max_keys)}};
  if (!next.empty()) call.query["continuation-token"] = next;
  call.timeout = options_.request_timeout;
  call.max_answer = kMaxListBytes;
  ESPALIER_ASSIGN_OR_RETURN(const HttpResult answer, Send(call));
  ListPage page;
  bool listing = false;
  bool truncated = false;
  const bool read = ReadXml(answer.body, [&](std::string_view path, const std::string& text) {
    if (path == "ListBucketResult/Contents/Key") page.keys.push_back(text);
    if (path == "ListBucketResult/CommonPrefixes/Prefix") page.prefixes.push_back(text);
    if (path == "ListBucketResult/NextContinuationToken") page.next = text;
    if (path == "ListBucketResult/IsTruncated") truncated = text == "true";
    if (path == "ListBucketResult") listing = true;
  });
  if (!read || !listing) return Misunderstood(call, "a list of objects");
  if (!truncated) page.next.clear();
  if (truncated && (page.next.empty() || page.next == next)) {
    return Misunderstood(call, "what continues the list");
  }
  return page;
}

}  // namespace espalier::server::object_store
