// HttpClient: one HTTP request at a time and thread, over connections that are kept for the next
// one. What an answer means is its caller's business.
//
// Bounds:    each wait has one, and so has each answer: the head by this class, the body by its
//            caller.
// Ownership: a request borrows what it points to until Send() returns.
// Threading: Send() may be called from any thread; each call has a connection of its own.
// Errors:    HttpResult::failure says that there is no whole answer. An answer of an error is one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/io/file_system.h"

namespace espalier::server::object_store {

// Bytes [offset, offset + size) of a file, or none.
struct HttpBody {
  const io::ReadableFile* file = nullptr;
  uint64_t offset = 0;
  uint64_t size = 0;
};

struct HttpRequest {
  std::string method;
  std::string url;
  std::map<std::string, std::string> headers;
  HttpBody body;
  absl::Duration timeout;
  bool may_stall = false;  // the server may be silent until the time-out
  // Where the body of an answer that says 200 or 206 goes, instead of HttpResult::body.
  char* out = nullptr;
  size_t out_size = 0;
  size_t max_body_bytes = 0;  // of all other answers
};

struct HttpResult {
  enum class Failure {
    kNone,        // there is a whole answer
    kConnection,  // which another attempt may get
    kSetup,       // another attempt would fail likewise: a certificate, for instance
    kTooLong,     // the answer is longer than allowed
    kBody,        // the request's body could not be read; see body_error
  };
  Failure failure = Failure::kNone;
  std::string error;  // for people; "" with an answer
  absl::Status body_error;

  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  size_t received = 0;  // bytes in HttpRequest::out
};

class HttpClient {
 public:
  struct Options {
    absl::Duration connect_timeout;
    absl::Duration stall_timeout;
    std::string ca_file;  // "" for the system's
  };

  explicit HttpClient(Options options);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  HttpResult Send(const HttpRequest& request);

 private:
  // A curl handle, with its connection, or null when there is no memory for one.
  void* Take();
  void GiveBack(void* handle);

  const Options options_;
  base::Mutex mutex_;
  std::vector<void*> idle_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace espalier::server::object_store
