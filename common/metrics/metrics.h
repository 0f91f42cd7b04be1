// Metrics of one process, exported over HTTP for Prometheus.
//
// Threading: all members are thread-safe but BeforePage(). Label values outside a metric's closed set are counted as
// "other".
// Errors:    Serve(): those of HttpServer::Start().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/metrics/catalogue.h"
#include "common/metrics/http_server.h"

namespace espalier::metrics {

class Metrics {
 public:
  explicit Metrics(Role role);
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  void Add(Metric metric, double amount = 1, std::string_view label = "",
           std::string_view second = "");
  void Set(Metric metric, double value, std::string_view label = "");
  // Histograms; seconds.
  void Observe(Metric metric, double value, std::string_view label = "");

  // Called before each page is made, on the thread that answers: for what is looked up rather than counted.
  // Set before Serve().
  void BeforePage(std::function<void(Metrics&)> look);

  // Serves /metrics on "host:port" (0 = a free port); returns the address that was bound.
  absl::StatusOr<std::string> Serve(const std::string& listen, const HttpLimits& limits = {});

 private:
  void LookAtProcess();

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// OK when a process serves /metrics on "host:port" within 3 s: the health check of a worker, which
// has no gRPC port. A wildcard host is asked on loopback. Errors: Unavailable NOT_SERVING.
absl::Status CheckServes(const std::string& listen);

}  // namespace espalier::metrics
