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
#include "common/rpc/tls.h"

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

absl::Status TlsError(const std::string& found) {
  return base::InvalidArgument("TLS_CONFIG_INVALID",
                               "expected --tls-cert and --tls-key to name a certificate and its "
                               "private key (and --tls-client-ca an authority), found " +
                                   found);
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(
    const ServerOptions& options) {
  if (options.tls_cert_file.empty() != options.tls_key_file.empty()) {
    return TlsError("only one of the two");
  }
  if (options.tls_cert_file.empty()) {
    if (!options.tls_client_ca_file.empty()) return TlsError("only --tls-client-ca");
    return grpc::InsecureServerCredentials();
  }
  grpc::SslServerCredentialsOptions ssl(
      options.tls_client_ca_file.empty()
          ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
          : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  auto pair = ReadKeyPair(options.tls_cert_file, options.tls_key_file);
  if (!pair.ok()) return base::Annotate(pair.status(), "--tls-cert and --tls-key");
  ssl.pem_key_cert_pairs.push_back({std::move(pair->key), std::move(pair->certificate)});
  if (!options.tls_client_ca_file.empty()) {
    auto authority = ReadAuthorities(options.tls_client_ca_file);
    if (!authority.ok()) return base::Annotate(authority.status(), "--tls-client-ca");
    ssl.pem_root_certs = *std::move(authority);
  }
  return grpc::SslServerCredentials(ssl);
}

// Whether it hears this machine alone.
bool IsLocal(const net::Listener& listener) {
  const auto address = ParseAddress(listener.address());
  return address.ok() && IsLoopback(*address);
}

}  // namespace

absl::StatusOr<RunningServer> StartServer(const ServerOptions& options,
                                          const std::vector<grpc::Service*>& services) {
  ESPALIER_ASSIGN_OR_RETURN(net::Listener listener,
                            net::Listener::Open(options.listen, "--listen"));
  ESPALIER_ASSIGN_OR_RETURN(auto credentials, MakeCredentials(options));
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
            return watch == nullptr || watch->HasRoom(peer);
          }});
  return running;
}

}  // namespace espalier::rpc
