#include "client/lib/servers.h"

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/rpc/address.h"
#include "common/rpc/tls.h"

namespace espalier::client {
namespace {

absl::StatusOr<Servers::Handle> Connect(rpc::ChannelOptions connection) {
  ESPALIER_ASSIGN_OR_RETURN(const auto channel, rpc::MakeChannel(connection));
  return std::make_shared<const Server>(
      Server{std::move(connection), v1::JobService::NewStub(channel),
             v1::MethodService::NewStub(channel), v1::ClusterService::NewStub(channel),
             v1::CheckpointService::NewStub(channel), v1::StructureService::NewStub(channel),
             v1::EventService::NewStub(channel), v1::ProgressService::NewStub(channel),
             v1::SystemService::NewStub(channel), v1::AccessService::NewStub(channel)});
}

}  // namespace

absl::StatusOr<std::vector<rpc::ChannelOptions>> ConnectionsOf(const ClientOptions& options) {
  const auto addresses = rpc::ParseServers(options.server);
  if (!addresses.ok()) {
    return base::InvalidArgument("SERVER_ADDRESS",
                                 "--server: " + base::MessageOf(addresses.status()));
  }
  std::vector<rpc::ChannelOptions> connections;
  for (const std::string& address : *addresses) {
    rpc::ChannelOptions& connection = connections.emplace_back();
    connection.target = address;
    connection.tls_ca_file = options.tls_ca_file;
    connection.tls_cert_file = options.tls_cert_file;
    connection.tls_key_file = options.tls_key_file;
    connection.tls_passphrase_file = options.tls_passphrase_file;
    connection.tls_flag_prefix = "--";
    connection.token_file = options.token_file;
    connection.insecure = options.insecure;
    connection.one_of_several = addresses->size() > 1;
    if (options.tls_dir.empty()) continue;
    rpc::FillFromFolder(options.tls_dir, connection.tls_ca_file, connection.tls_cert_file,
                        connection.tls_key_file);
    if (!connection.tls_ca_file.empty()) continue;
    return base::InvalidArgument("TLS_CONFIG_INVALID",
                                 "expected ca.pem in the folder of --tls-dir '" + options.tls_dir +
                                     "', found none; `espalier cert issue` makes such a folder");
  }
  return connections;
}

absl::StatusOr<std::unique_ptr<Servers>> Servers::Create(const ClientOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(auto connections, ConnectionsOf(options));
  std::vector<Handle> servers;
  for (rpc::ChannelOptions& connection : connections) {
    ESPALIER_ASSIGN_OR_RETURN(Handle server, Connect(std::move(connection)));
    servers.push_back(std::move(server));
  }
  return std::unique_ptr<Servers>(new Servers(std::move(servers)));
}

Servers::Handle Servers::current() const {
  const base::MutexLock lock(mutex_);
  return servers_[at_];
}

size_t Servers::size() const {
  const base::MutexLock lock(mutex_);
  return servers_.size();
}

void Servers::LeaveOut(const Handle& server) {
  absl::StatusOr<Handle> again = Connect(server->connection);
  const base::MutexLock lock(mutex_);
  if (servers_[at_] != server) return;
  // Its files may have become unreadable; then the old connection is as good.
  if (again.ok()) servers_[at_] = *std::move(again);
  at_ = (at_ + 1) % servers_.size();
}

}  // namespace espalier::client
