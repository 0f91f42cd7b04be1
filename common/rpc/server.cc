#include "common/rpc/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>
#include <grpcpp/support/server_interceptor.h>

#include <utility>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/rpc/address.h"

namespace espalier::rpc {
namespace {

constexpr int kMaxMetadataBytes = 8 * 1024;
// Peers that know of a server that stands in for this one ask every four seconds whether it is still there.
constexpr int kMinPingIntervalMs = 3'000;
constexpr int kMaxStreamsPerConnection = 64;
// The most that all calls together may hold. A last resort: beyond it gRPC ends calls at random.
constexpr size_t kBufferBytes = 32 * 1024 * 1024;
constexpr int kHandshakeTimeoutMs = 10'000;
// A connection without a call; clients connect again by themselves when they have one.
constexpr int kIdleMs = 5 * 60'000;
// A peer that is frozen or unreachable keeps its calls and their memory no longer than this.
constexpr int kKeepaliveTimeMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;

// Linking gRPC's reflection library is enough to switch it on; this switches it off again.
class WithoutReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

// Tells when a call began and when it is over. gRPC makes one for each call and keeps it as long.
class CallTeller : public grpc::experimental::Interceptor {
 public:
  CallTeller(net::Connections& connections, const grpc::ServerContextBase& call)
      : connections_(connections), call_(call) {}
  ~CallTeller() override {
    if (!peer_.empty()) connections_.CallEnded(peer_);
  }
  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using grpc::experimental::InterceptionHookPoints;
    if (peer_.empty() &&
        methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_INITIAL_METADATA)) {
      peer_ = PeerOf(call_);
      connections_.CallBegan(peer_);
    }
    methods->Proceed();
  }

 private:
  net::Connections& connections_;
  const grpc::ServerContextBase& call_;
  std::string peer_;
};

class CallTellers : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit CallTellers(net::Connections& connections) : connections_(connections) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new CallTeller(connections_, *info->server_context());
  }

 private:
  net::Connections& connections_;
};

void TellOfCalls(net::Connections& connections, grpc::ServerBuilder& builder) {
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> tellers;
  tellers.push_back(std::make_unique<CallTellers>(connections));
  builder.experimental().SetInterceptorCreators(std::move(tellers));
}

// Whether it hears this machine alone.
bool IsLocal(const net::Listener& listener) {
  const auto address = ParseAddress(listener.address());
  return address.ok() && IsLoopback(*address);
}

// Other machines are served only where it is known who they are, or somebody said that it need not be.
absl::Status CheckExposure(const ServerOptions& options, bool is_local) {
  if (is_local || options.insecure) return absl::OkStatus();
  if (options.tls == nullptr) {
    return base::InvalidArgument("PLAIN_TEXT_REFUSED",
                                 "expected certificates beside --listen " + options.listen +
                                     ", which other machines reach, found none; make them with "
                                     "`espalier cert init` and give "
                                     "--tls-dir, listen on 127.0.0.1, or, where everybody on the "
                                     "network may read and change "
                                     "everything, say --insecure");
  }
  if (options.tls->knows_clients()) return absl::OkStatus();
  return base::InvalidArgument(
      "CLIENTS_UNKNOWN",
      "expected --tls-client-ca beside --listen " + options.listen +
          ", which other machines reach, found none, so that everybody might do everything; give "
          "the authority of clients, or, where that is meant, say --insecure");
}

}  // namespace

// gRPC's "ipv4:1.2.3.4:5" or "ipv6:%5B::1%5D:5" as net::AcceptorOptions has it.
std::string PeerOf(const grpc::ServerContextBase& call) {
  const std::string uri = call.peer();
  std::string peer =
      absl::StrReplaceAll(uri.substr(uri.find(':') + 1), {{"%5B", "["}, {"%5D", "]"}});
  // The interface that a link-local address belongs to: "[fe80::1%25eth0]:5".
  const size_t scope = peer.find('%');
  if (scope != std::string::npos) peer.erase(scope, peer.find(']') - scope);
  return peer;
}

absl::StatusOr<RunningServer> StartServer(const ServerOptions& options,
                                          const std::vector<grpc::Service*>& services) {
  ESPALIER_ASSIGN_OR_RETURN(net::Listener listener,
                            net::Listener::Open(options.listen, "--listen"));
  ESPALIER_RETURN_IF_ERROR(CheckExposure(options, IsLocal(listener)));
  const auto credentials =
      options.tls == nullptr ? grpc::InsecureServerCredentials() : options.tls->Credentials();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (!options.reflection.value_or(IsLocal(listener))) {
    builder.SetOption(std::make_unique<WithoutReflection>());
  }
  // gRPC's own listener stops listening for good when descriptors run out, and has no limit.
  std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> connections =
      builder.experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  for (grpc::Service* service : services) builder.RegisterService(service);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, kIdleMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  // How far a client may send ahead of our reading: 64 KiB and one message. gRPC's own estimate
  // grows beyond any bound with clients that are faster than we are.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.SetResourceQuota(grpc::ResourceQuota("server").Resize(kBufferBytes));
  if (options.connections != nullptr) TellOfCalls(*options.connections, builder);
  RunningServer running;
  running.address = listener.address();
  running.server = builder.BuildAndStart();
  if (running.server == nullptr) {
    return base::MakeError(absl::StatusCode::kUnavailable, "SERVER_UNAVAILABLE",
                           "expected gRPC to start with the certificates at hand, found that it "
                           "does not; see its own lines with GRPC_VERBOSITY=ERROR");
  }
  running.acceptor = std::make_unique<net::Acceptor>(
      std::move(listener),
      net::AcceptorOptions{
          options.connections_below,
          [connections, watch = options.connections](int listening, int fd,
                                                     const std::string& peer) {
            if (watch != nullptr) watch->Accepted(fd, peer);
            grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
            connection.listener_fd = listening;
            connection.fd = fd;
            connections->HandleNewConnection(&connection);
          },
          [on_refused = options.on_refused](net::Refusal why, const std::string& peer) {
            if (on_refused) on_refused(why, peer);
          },
          [watch = options.connections](const std::string& peer) {
            return watch == nullptr ? std::nullopt : watch->Refuses(peer);
          }});
  return running;
}

}  // namespace espalier::rpc
