#include "common/rpc/channel.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <grpcpp/support/channel_arguments.h>

#include "absl/strings/str_replace.h"
#include "common/base/status.h"
#include "common/rpc/address.h"
#include "common/rpc/tls.h"

namespace espalier::rpc {
namespace {

// Pings only while calls are open; a worker's session always is.
constexpr int kKeepaliveTimeMs = 60'000;
constexpr int kKeepaliveTimeoutMs = 20'000;
constexpr int kFirstReconnectBackoffMs = 200;
constexpr int kMaxReconnectBackoffMs = 5'000;
// By its name gRPC's least time between two attempts; it is also the most that an attempt may take.
// Attempts that fail sooner are followed by the next one after the back-off alone.
constexpr int kConnectTimeoutMs = 20'000;
// Where others stand in: a server answers pings even when it is busy. Shorter than servers allow
// (server.cc) it must not be.
constexpr int kKeepaliveOfSeveralMs = 4'000;
constexpr int kConnectTimeoutOfSeveralMs = 5'000;
constexpr int kMaxReconnectBackoffOfSeveralMs = 500;

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> PlainText(const ChannelOptions& options,
                                                                    const Address& address) {
  const std::string ca = options.tls_flag_prefix + "ca";
  if (!options.tls_cert_file.empty()) {
    return base::InvalidArgument(
        "TLS_PAIR_INCOMPLETE",
        "expected " + ca + ", which turns TLS on, beside the client certificate, found none");
  }
  if (!options.token_file.empty()) {
    return base::InvalidArgument("TOKEN_WITHOUT_TLS",
                                 "expected " + ca +
                                     ", which turns TLS on, beside the token, which would be sent "
                                     "for everybody to read, found none");
  }
  if (IsLoopback(address) || options.insecure) return grpc::InsecureChannelCredentials();
  return base::InvalidArgument(
      "PLAIN_TEXT_REFUSED",
      "expected " + ca + " with the authority of the server at " + options.target +
          ", which is not on this machine, found no certificates; give --tls-dir or " + ca +
          ", or, where everybody on the network may read and change what is sent, --insecure");
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const ChannelOptions& options, const Address& address) {
  const std::string& prefix = options.tls_flag_prefix;
  if (options.tls_cert_file.empty() != options.tls_key_file.empty()) {
    return base::InvalidArgument("TLS_PAIR_INCOMPLETE", "expected both " + prefix + "cert and " +
                                                            prefix + "key, found only one of them");
  }
  if (options.tls_ca_file.empty()) return PlainText(options, address);
  grpc::SslCredentialsOptions ssl;
  ESPALIER_ASSIGN_OR_RETURN(ssl.pem_root_certs, ReadAuthorities(options.tls_ca_file));
  if (!options.tls_cert_file.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(KeyPair pair, ReadKeyPair(options.tls_cert_file, options.tls_key_file,
                                                        options.tls_passphrase_file));
    ssl.pem_cert_chain = std::move(pair.certificate);
    ssl.pem_private_key = std::move(pair.key);
  }
  auto credentials = grpc::SslCredentials(ssl);
  if (options.token_file.empty()) return credentials;
  ESPALIER_ASSIGN_OR_RETURN(const std::string token, ReadSecret(options.token_file, "a token"));
  return grpc::CompositeChannelCredentials(credentials, grpc::AccessTokenCredentials(token));
}

// With the scheme said, so that a host named like one ("dns", "unix") is a host.
std::string TargetUri(const std::string& target) {
  return "dns:///" + absl::StrReplaceAll(target, {{"%", "%25"}, {"[", "%5B"}, {"]", "%5D"}});
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ChannelOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const Address address, ParseAddress(options.target));
  ESPALIER_ASSIGN_OR_RETURN(auto credentials, MakeCredentials(options, address));
  grpc::ChannelArguments arguments;
  const bool several = options.one_of_several;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, several ? kKeepaliveOfSeveralMs : kKeepaliveTimeMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                   several ? kKeepaliveOfSeveralMs : kKeepaliveTimeoutMs);
  // Otherwise pings would end while the server sends nothing.
  if (several) arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   several ? kConnectTimeoutOfSeveralMs : kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kFirstReconnectBackoffMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                   several ? kMaxReconnectBackoffOfSeveralMs : kMaxReconnectBackoffMs);
  if (IsLoopback(address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // A connection of its own per channel: workers in one process must not share flow control.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(TargetUri(options.target), credentials, arguments);
}

}  // namespace espalier::rpc
