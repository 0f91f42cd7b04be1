#include "server/object_store/http_client.h"

#include <curl/curl.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigtimedwait and friends are POSIX
#include <time.h>    // NOLINT(modernize-deprecated-headers): timespec is POSIX

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>
#include <utility>

#include "common/base/check.h"
#include "common/base/printable.h"
#include "common/base/status.h"

namespace espalier::server::object_store {
namespace {

constexpr size_t kMaxIdle = 16;
constexpr size_t kMaxHeaderBytes = size_t{64} << 10;
constexpr size_t kMaxErrorBytes = 300;
constexpr long kStalledBytesPerSecond = 1024;
constexpr long kBufferBytes = 256 << 10;

// Once in a process, and never undone: other parts of it may use curl, too.
void InitializeCurl() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  ESPALIER_CHECK(code == CURLE_OK, "libcurl cannot be used");
}

// Keeps SIGPIPE from this thread: TLS writes to connections that the other side may have ended, also
// to say goodbye, and curl itself would change the whole process to prevent the signal.
class WithoutBrokenPipes {
 public:
  WithoutBrokenPipes() {
    sigset_t pending;
    sigemptyset(&pending);
    sigpending(&pending);
    pending_before_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~WithoutBrokenPipes() {
    const timespec no_wait = {};
    while (!pending_before_ && sigtimedwait(&pipe_, nullptr, &no_wait) < 0 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  WithoutBrokenPipes(const WithoutBrokenPipes&) = delete;
  WithoutBrokenPipes& operator=(const WithoutBrokenPipes&) = delete;

 private:
  bool pending_before_ = false;
  sigset_t pipe_;
  sigset_t before_;
};

void Close(CURL* handle) {
  const WithoutBrokenPipes quiet;
  curl_easy_cleanup(handle);
}

// What the callbacks of one request work on. They are called by C and let no exception out.
struct Exchange {
  const HttpRequest& request;
  CURL* handle;
  HttpResult result;
  uint64_t sent = 0;
  size_t header_bytes = 0;
};

size_t ReadBody(char* out, size_t size, size_t count, void* context) {
  auto& exchange = *static_cast<Exchange*>(context);
  const HttpBody& body = exchange.request.body;
  const size_t bytes = std::min<uint64_t>(size * count, body.size - exchange.sent);
  if (bytes == 0) return 0;
  try {
    const absl::Status read = body.file->ReadAt(body.offset + exchange.sent, out, bytes);
    if (!read.ok()) {
      exchange.result.body_error = read;
      return CURL_READFUNC_ABORT;
    }
  } catch (const std::exception&) {
    return CURL_READFUNC_ABORT;
  }
  exchange.sent += bytes;
  return bytes;
}

// curl begins again when a connection that was kept turns out to be closed.
int SeekBody(void* context, curl_off_t offset, int origin) {
  auto& exchange = *static_cast<Exchange*>(context);
  if (origin != SEEK_SET || offset < 0 ||
      static_cast<uint64_t>(offset) > exchange.request.body.size) {
    return CURL_SEEKFUNC_FAIL;
  }
  exchange.sent = static_cast<uint64_t>(offset);
  return CURL_SEEKFUNC_OK;
}

size_t TakeHeader(char* data, size_t size, size_t count, void* context) {
  auto& exchange = *static_cast<Exchange*>(context);
  const size_t bytes = size * count;
  exchange.header_bytes += bytes;
  if (exchange.header_bytes > kMaxHeaderBytes) {
    exchange.result.failure = HttpResult::Failure::kTooLong;
    return 0;
  }
  std::string_view line(data, bytes);
  try {
    // Of several answers, as after "100 Continue", the last one counts.
    if (line.starts_with("HTTP/")) exchange.result.headers.clear();
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return bytes;
    std::string name(line.substr(0, colon));
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    line.remove_prefix(colon + 1);
    const size_t begin = line.find_first_not_of(" \t\r\n");
    const size_t end = line.find_last_not_of(" \t\r\n");
    exchange.result.headers[name] =
        begin == std::string_view::npos ? "" : std::string(line.substr(begin, end - begin + 1));
  } catch (const std::exception&) {
    return 0;
  }
  return bytes;
}

size_t TakeBody(char* data, size_t size, size_t count, void* context) {
  auto& exchange = *static_cast<Exchange*>(context);
  HttpResult& result = exchange.result;
  const HttpRequest& request = exchange.request;
  const size_t bytes = size * count;
  long status = 0;
  curl_easy_getinfo(exchange.handle, CURLINFO_RESPONSE_CODE, &status);
  const bool wanted = request.out != nullptr && (status == 200 || status == 206);
  const size_t room =
      wanted ? request.out_size - result.received
             : request.max_body_bytes - std::min(request.max_body_bytes, result.body.size());
  if (bytes > room) {
    result.failure = HttpResult::Failure::kTooLong;
    return 0;
  }
  if (wanted) {
    std::memcpy(request.out + result.received, data, bytes);
    result.received += bytes;
    return bytes;
  }
  try {
    result.body.append(data, bytes);
  } catch (const std::exception&) {
    return 0;
  }
  return bytes;
}

HttpResult::Failure FailureOf(CURLcode code) {
  switch (code) {
    case CURLE_OK:
      return HttpResult::Failure::kNone;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ENGINE_NOTFOUND:
    case CURLE_SSL_CIPHER:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return HttpResult::Failure::kSetup;
    default:
      return HttpResult::Failure::kConnection;
  }
}

long Milliseconds(absl::Duration duration) {
  return std::max<int64_t>(1, absl::ToInt64Milliseconds(duration));
}

using HeaderList = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

bool AddHeader(HeaderList& list, const std::string& line) {
  // The first one makes the list, the others become part of it.
  curl_slist* longer = curl_slist_append(list.get(), line.c_str());
  if (list == nullptr) list.reset(longer);
  return longer != nullptr;
}

bool AddHeaders(HeaderList& list, const HttpRequest& request) {
  for (const auto& [name, value] : request.headers) {
    std::string line = name;
    line.append(": ").append(value);
    if (!AddHeader(list, line)) return false;
  }
  // Waiting for "100 Continue" costs a round trip, and a second where a server does not know it.
  return AddHeader(list, "Expect:") && AddHeader(list, "Accept:");
}

void SetMethod(CURL* handle, const HttpRequest& request, Exchange& exchange) {
  if (request.method == "HEAD") {
    curl_easy_setopt(handle, CURLOPT_NOBODY, 1L);
  } else if (request.method == "PUT" || request.method == "POST") {
    // An upload with another method's name: then the length is always said, also when it is 0.
    curl_easy_setopt(handle, CURLOPT_UPLOAD, 1L);
    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
    curl_easy_setopt(handle, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.body.size));
    curl_easy_setopt(handle, CURLOPT_READFUNCTION, ReadBody);
    curl_easy_setopt(handle, CURLOPT_READDATA, &exchange);
    curl_easy_setopt(handle, CURLOPT_SEEKFUNCTION, SeekBody);
    curl_easy_setopt(handle, CURLOPT_SEEKDATA, &exchange);
    curl_easy_setopt(handle, CURLOPT_UPLOAD_BUFFERSIZE, kBufferBytes);
  } else if (request.method != "GET") {
    curl_easy_setopt(handle, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  }
}

}  // namespace

HttpClient::HttpClient(Options options) : options_(std::move(options)) { InitializeCurl(); }

HttpClient::~HttpClient() {
  for (void* handle : idle_) Close(handle);
}

void* HttpClient::Take() {
  {
    const base::MutexLock lock(mutex_);
    if (!idle_.empty()) {
      void* handle = idle_.back();
      idle_.pop_back();
      return handle;
    }
  }
  return curl_easy_init();
}

void HttpClient::GiveBack(void* handle) {
  curl_easy_reset(handle);
  {
    const base::MutexLock lock(mutex_);
    if (idle_.size() < kMaxIdle) {
      idle_.push_back(handle);
      return;
    }
  }
  Close(handle);
}

HttpResult HttpClient::Send(const HttpRequest& request) {
  CURL* handle = Take();
  Exchange exchange{request, handle, {}};
  HeaderList headers(nullptr, curl_slist_free_all);
  if (handle == nullptr || !AddHeaders(headers, request)) {
    if (handle != nullptr) GiveBack(handle);
    exchange.result.failure = HttpResult::Failure::kConnection;
    exchange.result.error = "there is no memory for a request";
    return std::move(exchange.result);
  }
  char error[CURL_ERROR_SIZE] = "";
  SetMethod(handle, request, exchange);
  curl_easy_setopt(handle, CURLOPT_ERRORBUFFER, error);
  curl_easy_setopt(handle, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  // What was signed is what is sent.
  curl_easy_setopt(handle, CURLOPT_PATH_AS_IS, 1L);
  // Keys are sent to no other host than the one that the user named, by no other protocol.
  curl_easy_setopt(handle, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(handle, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(handle, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  // Time-outs by signals would be those of the whole process.
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT_MS, Milliseconds(options_.connect_timeout));
  curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, Milliseconds(request.timeout));
  if (!request.may_stall) {
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_LIMIT, kStalledBytesPerSecond);
    curl_easy_setopt(handle, CURLOPT_LOW_SPEED_TIME,
                     std::max(1L, Milliseconds(options_.stall_timeout) / 1000));
  }
  curl_easy_setopt(handle, CURLOPT_TCP_KEEPALIVE, 1L);
  if (!options_.ca_file.empty()) {
    curl_easy_setopt(handle, CURLOPT_CAINFO, options_.ca_file.c_str());
  }
  curl_easy_setopt(handle, CURLOPT_BUFFERSIZE, kBufferBytes);
  curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, TakeHeader);
  curl_easy_setopt(handle, CURLOPT_HEADERDATA, &exchange);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, TakeBody);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &exchange);

  CURLcode code = CURLE_OK;
  {
    const WithoutBrokenPipes quiet;
    code = curl_easy_perform(handle);
  }
  HttpResult& result = exchange.result;
  long status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
  result.status = static_cast<int>(status);
  if (!result.body_error.ok()) {
    result.failure = HttpResult::Failure::kBody;
  } else if (result.failure == HttpResult::Failure::kNone) {
    result.failure = FailureOf(code);
  }
  if (code != CURLE_OK) {
    result.error =
        base::PrintablePrefix(error[0] != '\0' ? error : curl_easy_strerror(code), kMaxErrorBytes);
  }
  GiveBack(handle);
  return std::move(result);
}

}  // namespace espalier::server::object_store
