#include "common/rpc/handshakes.h"

#include <grpc/support/log.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <cstdlib>
#include <utility>

#include "common/base/check.h"
#include "common/log/log.h"
#include "common/rpc/process.h"
#include "fmt/format.h"

namespace espalier::rpc {
namespace {

constexpr std::string_view kFailed = "Handshake failed with fatal error ";
// Before the code of OpenSSL, in hexadecimal digits.
constexpr std::string_view kCode = ": error:";

// The last result on this thread. gRPC's line only says that a check failed, and comes on the
// thread that checked.
thread_local int last_verify_error = X509_V_OK;

// Called by OpenSSL when it lets go of the state of a check.
void KeepResult(void* state, void*, CRYPTO_EX_DATA*, int, long,  // NOLINT(google-runtime-int)
                void*) {
  last_verify_error = X509_STORE_CTX_get_error(static_cast<X509_STORE_CTX*>(state));
}

HandshakeFailure CertificateRefused(int error) {
  constexpr const char* kOutOfDate = "certificate_out_of_date";
  constexpr const char* kRefused = "certificate_refused";
  switch (error) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return {kOutOfDate, "the client's certificate has expired; give the client a new one"};
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return {kOutOfDate,
              "the client's certificate is not valid yet; compare the clocks of the two machines"};
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return {kRefused,
              "the client's certificate is not signed by an authority in the file of "
              "--tls-client-ca; give the client one that is"};
    default:
      return {kRefused, fmt::format("the client's certificate was refused: {}",
                                    X509_verify_cert_error_string(error))};
  }
}

// What the client said of the coordinator before it left.
HandshakeFailure ServerRefused(int alert) {
  constexpr const char* kKind = "server_refused";
  switch (alert) {
    case SSL_AD_UNKNOWN_CA:
      return {kKind,
              "the client does not know the authority that signed this coordinator's certificate; "
              "give it the authority's file (espalier --ca, espalier-worker --tls-ca)"};
    case SSL_AD_CERTIFICATE_EXPIRED:
      return {kKind,
              "to the client this coordinator's certificate is out of date; replace the file "
              "of --tls-cert, or compare the clocks of the two machines"};
    default:
      return {kKind, fmt::format("the client refused this coordinator: {}",
                                 SSL_alert_desc_string_long(alert))};
  }
}

HandshakeFailure FailureOf(unsigned long code,  // NOLINT(google-runtime-int): as OpenSSL has it
                           int verify_error) {
  const int reason = ERR_GET_REASON(code);
  if (reason > SSL_AD_REASON_OFFSET) return ServerRefused(reason - SSL_AD_REASON_OFFSET);
  switch (reason) {
    case SSL_R_CERTIFICATE_VERIFY_FAILED:
      return CertificateRefused(verify_error);
    case SSL_R_HTTP_REQUEST:
    case SSL_R_WRONG_VERSION_NUMBER:
    case SSL_R_PACKET_LENGTH_TOO_LONG:
    case SSL_R_RECORD_LENGTH_MISMATCH:
      return {"not_tls",
              "the client does not speak TLS; give it the authority's file, which turns TLS on "
              "(espalier --ca, espalier-worker --tls-ca)"};
    default: {
      const char* words = ERR_reason_error_string(code);
      return {"other", fmt::format("OpenSSL says: {}", words == nullptr ? "nothing" : words)};
    }
  }
}

// The only ones of the process, for gRPC's log function has no context.
std::function<void(const HandshakeFailure&)>& Listener() {
  static auto* const listener = new std::function<void(const HandshakeFailure&)>;
  return *listener;
}
bool verbosity_was_asked_for = false;

void OnLine(gpr_log_func_args* line) {
  if (const auto failure = FailureIn(line->message, last_verify_error)) {
    Listener()(*failure);
    return;
  }
  log::Level level = log::Level::kDebug;
  if (verbosity_was_asked_for && line->severity != GPR_LOG_SEVERITY_DEBUG) {
    level = line->severity == GPR_LOG_SEVERITY_ERROR ? log::Level::kWarning : log::Level::kInfo;
  }
  log::Write(level, "grpc", {{"message", line->message}});
}

}  // namespace

std::optional<HandshakeFailure> FailureIn(std::string_view line, int verify_error) {
  if (!line.starts_with(kFailed)) return std::nullopt;
  const size_t at = line.find(kCode);
  if (at == std::string_view::npos) {
    return HandshakeFailure{"other", std::string(line.substr(kFailed.size()))};
  }
  const std::string digits(line.substr(at + kCode.size(), 8));
  return FailureOf(strtoul(digits.c_str(), nullptr, 16), verify_error);
}

void TellOfFailedHandshakes(std::function<void(const HandshakeFailure&)> failed) {
  ESPALIER_CHECK(!Listener(), "once in a process");
  Listener() = std::move(failed);
  verbosity_was_asked_for = GrpcVerbosityWasSet();
  X509_STORE_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, &KeepResult);
  if (!verbosity_was_asked_for) gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
  gpr_set_log_function(&OnLine);
}

}  // namespace espalier::rpc
