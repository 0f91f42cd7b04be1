#include "common/rpc/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include "common/base/status.h"
#include "common/rpc/tls.h"

namespace espalier::rpc {
namespace {

constexpr int kMaxMetadataBytes = 8 * 1024;
constexpr int kMinPingIntervalMs = 50'000;
constexpr int kMaxStreamsPerConnection = 64;
// The most that all calls together may hold. A last resort: beyond it gRPC ends calls at random.
constexpr size_t kBufferBytes = 32 * 1024 * 1024;
constexpr int kHandshakeTimeoutMs = 10'000;

// Linking gRPC's reflection library is enough to switch it on; this switches it off again.
class WithoutReflection : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override {
    std::erase_if(*plugins,
                  [](const auto& plugin) { return plugin->name() == "proto_server_reflection"; });
  }
};

absl::Status TlsError(const std::string& found) {
  return base::InvalidArgument("TLS_CONFIG_INVALID",
                               "expected --tls-cert and --tls-key to name a certificate and its "
                               "private key (and --tls-client-ca an authority), found " +
                                   found);
}

absl::Status CheckAddress(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  const std::string port = colon == std::string::npos ? "" : listen.substr(colon + 1);
  const bool digits = !port.empty() && port.size() <= 5 &&
                      port.find_first_not_of("0123456789") == std::string::npos;
  if (digits && colon > 0 && std::stoi(port) <= 65535) return absl::OkStatus();
  return base::InvalidArgument(
      "INVALID_ADDRESS",
      "expected --listen HOST:PORT with a port from 0 to 65535, found '" + listen + "'");
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

}  // namespace

absl::StatusOr<RunningServer> StartServer(const ServerOptions& options,
                                          const std::vector<grpc::Service*>& services) {
  ESPALIER_RETURN_IF_ERROR(CheckAddress(options.listen));
  ESPALIER_ASSIGN_OR_RETURN(auto credentials, MakeCredentials(options));
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  if (!options.reflection) builder.SetOption(std::make_unique<WithoutReflection>());
  int port = 0;
  builder.AddListeningPort(options.listen, credentials, &port);
  for (grpc::Service* service : services) builder.RegisterService(service);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  // How far a client may send ahead of our reading: 64 KiB and one message. gRPC's own estimate
  // grows beyond any bound with clients that are faster than we are.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  builder.SetResourceQuota(grpc::ResourceQuota("server").Resize(kBufferBytes));
  // A second coordinator on the same port must fail instead of sharing it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  RunningServer running{builder.BuildAndStart(), ""};
  if (running.server == nullptr || port == 0) {
    return base::MakeError(
        absl::StatusCode::kUnavailable, "PORT_IN_USE",
        "expected to listen on " + options.listen +
            ", found the address in use or not ours; choose another with --listen "
            "or stop the process that holds it");
  }
  running.address =
      options.listen.substr(0, options.listen.rfind(':')) + ":" + std::to_string(port);
  return running;
}

}  // namespace espalier::rpc
