// Dashboard: the pages of a cluster for browsers. A client of a coordinator like any other, and an HTTP
// server; what it shows and does is what its client may.
//
// Away:      the page comes also while the coordinator cannot be reached. Calls say so, streams wait.
// Ends:      with the destructor, also what is being sent and asked.
// Threading: threads of its own; Start() and the destructor by one thread.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/lib/client.h"

namespace espalier::dashboard {

struct DashboardOptions {
  std::string listen = "127.0.0.1:7080";
  // Whether other machines may reach it.
  bool expose = false;
  // Whether the next free port is taken where the one of `listen` is in use.
  bool next_port = false;
  // Further names in the header Host, of a proxy in front.
  std::vector<std::string> allow_hosts;
  client::ClientOptions client;
};

class Dashboard {
 public:
  // Errors: FailedPrecondition DASHBOARD_NOT_BUILT; InvalidArgument LISTEN_EXPOSED, INVALID_HOST and
  // those of net::Listener and of the client.
  static absl::StatusOr<std::unique_ptr<Dashboard>> Start(DashboardOptions options);
  ~Dashboard();
  Dashboard(const Dashboard&) = delete;
  Dashboard& operator=(const Dashboard&) = delete;

  // HOST:PORT, with the port that was bound.
  const std::string& address() const;
  // Where a browser on this machine finds it.
  std::string url() const;

 private:
  struct Impl;
  explicit Dashboard(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace espalier::dashboard
