// HttpServer: one page, "/metrics", over HTTP, by libmicrohttpd.
//
// Limits:    at most `connections` at once: with one more, the one that has been open longest is
//            ended, so that connections that say nothing never keep a scrape out. A connection on
//            which nothing moves for 10 s is ended. 8 KiB for a request.
// Cost:      the page is made at most ten times a second; a scrape in between gets the last one.
// Threading: two threads of its own, one accepts, one answers and calls `page`.
// Errors:    Start(): those of net::Listener.
#pragma once

#include <climits>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace espalier::metrics {

struct HttpLimits {
  int connections = 64;
  int below = INT_MAX;  // a connection whose descriptor's number is not below it is refused
};

class HttpServer {
 public:
  // `listen` is HOST:PORT, `page` gives the text of the page.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const std::string& listen,
                                                           std::function<std::string()> page,
                                                           const HttpLimits& limits);
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

}  // namespace espalier::metrics
