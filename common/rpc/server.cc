#include "common/rpc/server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server_builder.h>

#include "common/base/status.h"
#include "common/rpc/channel.h"

namespace espalier::rpc {
namespace {

constexpr int kMaxMetadataBytes = 8 * 1024;
constexpr int kMinPingIntervalMs = 50'000;
constexpr int kMaxStreamsPerConnection = 64;
constexpr int kHandshakeTimeoutMs = 10'000;

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(
    const ServerOptions& options) {
  if (options.tls_cert_file.empty()) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions ssl(
      options.tls_client_ca_file.empty()
          ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
          : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  ESPALIER_ASSIGN_OR_RETURN(pair.cert_chain, ReadPem(options.tls_cert_file));
  ESPALIER_ASSIGN_OR_RETURN(pair.private_key, ReadPem(options.tls_key_file));
  ssl.pem_key_cert_pairs.push_back(pair);
  if (!options.tls_client_ca_file.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadPem(options.tls_client_ca_file));
  }
  return grpc::SslServerCredentials(ssl);
}

}  // namespace

absl::StatusOr<RunningServer> StartServer(const ServerOptions& options,
                                          const std::vector<grpc::Service*>& services) {
  ESPALIER_ASSIGN_OR_RETURN(auto credentials, MakeCredentials(options));
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort(options.listen, credentials, &port);
  for (grpc::Service* service : services) builder.RegisterService(service);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kMinPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxStreamsPerConnection);
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  // A second coordinator on the same port must fail instead of sharing it.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  RunningServer running{builder.BuildAndStart(), ""};
  if (running.server == nullptr || port == 0) {
    return base::MakeError(absl::StatusCode::kUnavailable, "PORT_IN_USE",
                           "expected to listen on " + options.listen +
                               ", found the address in use or not ours; choose another with --listen "
                               "or stop the process that holds it");
  }
  running.address = options.listen.substr(0, options.listen.rfind(':')) + ":" + std::to_string(port);
  return running;
}

}  // namespace espalier::rpc
