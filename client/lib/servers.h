// Servers: the coordinators that a client knows. One is in use; the others stand in for it when it
// cannot be reached.
//
// Threading: thread-safe.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/lib/client.h"
#include "common/base/mutex.h"
#include "common/rpc/channel.h"
#include "espalier/v1/access.grpc.pb.h"
#include "espalier/v1/checkpoint.grpc.pb.h"
#include "espalier/v1/cluster.grpc.pb.h"
#include "espalier/v1/events.grpc.pb.h"
#include "espalier/v1/job.grpc.pb.h"
#include "espalier/v1/method.grpc.pb.h"
#include "espalier/v1/progress.grpc.pb.h"
#include "espalier/v1/structure.grpc.pb.h"
#include "espalier/v1/system.grpc.pb.h"

namespace espalier::client {

struct Server {
  rpc::ChannelOptions connection;
  std::unique_ptr<v1::JobService::Stub> jobs;
  std::unique_ptr<v1::MethodService::Stub> methods;
  std::unique_ptr<v1::ClusterService::Stub> cluster;
  std::unique_ptr<v1::CheckpointService::Stub> checkpoints;
  std::unique_ptr<v1::StructureService::Stub> structure;
  std::unique_ptr<v1::EventService::Stub> events;
  std::unique_ptr<v1::ProgressService::Stub> progress;
  std::unique_ptr<v1::SystemService::Stub> system;
  std::unique_ptr<v1::AccessService::Stub> access;
};

// How one server is reached, by its address. Errors: InvalidArgument INVALID_ADDRESS.
absl::StatusOr<std::vector<rpc::ChannelOptions>> ConnectionsOf(const ClientOptions& options);

class Servers {
 public:
  using Handle = std::shared_ptr<const Server>;

  // Makes no connection yet. Errors: InvalidArgument SERVER_ADDRESS; those of rpc::MakeChannel().
  static absl::StatusOr<std::unique_ptr<Servers>> Create(const ClientOptions& options);

  Handle current() const;
  size_t size() const;
  // `server` cannot be reached: the one after it is in use from now on, unless that is another one
  // already. When its turn comes again it gets another connection, since a channel of gRPC that
  // failed remembers that for a while, and says so of a server that is back.
  void LeaveOut(const Handle& server);

 private:
  explicit Servers(std::vector<Handle> servers) : servers_(std::move(servers)) {}

  mutable base::Mutex mutex_;
  std::vector<Handle> servers_ ABSL_GUARDED_BY(mutex_);
  size_t at_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace espalier::client
