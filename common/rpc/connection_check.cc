#include "common/rpc/connection_check.h"

#include <string>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/rpc/address.h"
#include "common/rpc/probe.h"
#include "common/rpc/tls.h"

namespace espalier::rpc {
namespace {

absl::Status Failure(std::string_view reason, const std::string& message) {
  return base::MakeError(absl::StatusCode::kUnavailable, reason, message);
}

std::string Quoted(const std::string& path) { return "'" + base::Printable(path) + "'"; }

// "--ca" for the command line, "--tls-ca" for daemons.
std::string Flag(const ChannelOptions& options, const char* name) {
  return options.tls_flag_prefix + name;
}

std::string CertificateFlags(const ChannelOptions& options) {
  return Flag(options, "cert") + " and " + Flag(options, "key");
}

absl::Status ServerRefused(const ChannelOptions& options, const Probe::Handshake& handshake) {
  return Failure("TLS_SERVER_REFUSED",
                 "expected a server with a valid certificate at " + options.target +
                     ", found that " + absl::StrJoin(handshake.problems, "; ") + " (checked with " +
                     Flag(options, "ca") + " " + Quoted(options.tls_ca_file) +
                     "); give the server a certificate that is valid, use its right authority and "
                     "one of its names, and check this machine's clock");
}

absl::Status ClientRefused(const ChannelOptions& options, const Probe::Handshake& handshake) {
  const std::string accepted =
      handshake.accepted_authorities.empty()
          ? ""
          : " (it accepts those signed by " + handshake.accepted_authorities + ")";
  if (options.tls_cert_file.empty()) {
    return Failure("TLS_CLIENT_REFUSED",
                   "expected " + CertificateFlags(options) + ": the server at " + options.target +
                       " wants a client certificate" + accepted + ", found none given");
  }
  const std::string alert = handshake.alert.empty() ? "" : ": " + handshake.alert;
  return Failure("TLS_CLIENT_REFUSED",
                 "expected a client certificate that the server at " + options.target + " accepts" +
                     accepted + ", found that it refuses " + Quoted(options.tls_cert_file) + alert +
                     "; give another one with " + CertificateFlags(options));
}

absl::Status ExplainTls(const ChannelOptions& options, const Probe::Handshake& handshake,
                        const absl::Status& status) {
  if (handshake.is_something) {
    return Failure("TLS_NOT_SPOKEN", "expected a server that speaks TLS at " + options.target +
                                         ", found one that does not; leave " + Flag(options, "ca") +
                                         " out, or turn the server's TLS on");
  }
  if (!handshake.problems.empty()) return ServerRefused(options, handshake);
  if (handshake.ended && handshake.is_tls && handshake.asked_for_certificate) {
    return ClientRefused(options, handshake);
  }
  if (!handshake.alert.empty()) {
    return Failure("TLS_CLIENT_REFUSED",
                   "expected a TLS connection to " + options.target +
                       ", found that the server refuses it: " + handshake.alert);
  }
  return status;
}

}  // namespace

absl::Status ExplainFailure(const ChannelOptions& options, const absl::Status& status,
                            absl::Duration limit, const std::stop_token& stop) {
  if (status.code() != absl::StatusCode::kUnavailable || !base::ReasonOf(status).empty()) {
    return status;
  }
  const auto address = ParseAddress(options.target);
  if (!address.ok()) return status;
  if (const std::string variable = ProxyVariable(*address); !variable.empty()) {
    return Failure("PROXY_FAILED", "expected a server at " + options.target +
                                       ", found none through the proxy that " + variable +
                                       " names (" + base::MessageOf(status) +
                                       "); to connect without it, add the host to no_proxy");
  }
  Probe probe(absl::Now() + limit, stop);
  const absl::Status connected = probe.Connect(*address);
  if (!connected.ok()) return base::ReasonOf(connected).empty() ? status : connected;
  const Probe::Handshake handshake = probe.Shake(options, *address);
  if (!options.tls_ca_file.empty()) return ExplainTls(options, handshake, status);
  if (!handshake.is_tls) return status;
  return Failure("TLS_EXPECTED", "expected a server that speaks plain text at " + options.target +
                                     ", found one that speaks TLS; name its authority with " +
                                     Flag(options, "ca") + ", and where it asks for certificates " +
                                     CertificateFlags(options));
}

}  // namespace espalier::rpc
