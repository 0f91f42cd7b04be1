// HttpServer: takes requests from browsers and sends replies, by libmicrohttpd.
//
// Order:     Handlers.begin sees each request before its body, without waiting, and may answer it. What
//            it leaves to Handlers.finish is read whole and answered by a thread of the pool.
// Limits:    `connections` at once: with one more, the one that has been idle longest is ended. 32 KiB
//            for the head of a request, `body_bytes` for its body, 30 s in which nothing moves, 60 s for
//            a whole request. Requests for which the pool has no room are refused.
// Gone:      a peer that closed its connection while a reply is made or a live body has nothing to send
//            is noticed within about a second, and all that was kept for it is given up.
// Threading: begin and live bodies are called on one thread, finish on those of the pool.
// Errors:    Start(): those of net::Listener; ResourceExhausted HTTP_UNAVAILABLE.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/dashboard/http/message.h"
#include "common/net/listener.h"

namespace espalier::dashboard {

class WorkerPool;

struct HttpLimits {
  size_t connections = 1000;
  size_t body_bytes = 1 << 20;
};

struct Handlers {
  std::function<std::optional<Reply>(const Request&)> begin;
  std::function<Reply(const Request&)> finish;
  // The reply to what is refused here: a status of HTTP and a sentence.
  std::function<Reply(unsigned int status, std::string_view message)> refuse;
};

class HttpServer {
 public:
  // `headers` go with every reply. The pool may have other tasks beside; it is closed with this object.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(
      net::Listener listener, Handlers handlers, std::shared_ptr<WorkerPool> pool,
      const HttpLimits& limits, std::vector<std::pair<std::string, std::string>> headers);
  // Ends all replies that are being sent.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // With the port that was bound.
  const std::string& address() const;

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace espalier::dashboard
