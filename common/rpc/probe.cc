#include "common/rpc/probe.h"

#include <netdb.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "absl/time/clock.h"
#include "common/base/status.h"
#include "common/rpc/tls.h"

namespace espalier::rpc {
namespace {

constexpr int kStopPollMs = 100;
constexpr size_t kBlockBytes = 16 * 1024;
// Alerts of the peer are errors of OpenSSL from this number on.
constexpr int kFirstAlert = SSL_AD_REASON_OFFSET;

absl::Status Refused(std::string_view reason, const std::string& message) {
  return base::MakeError(absl::StatusCode::kUnavailable, reason, message);
}

std::string Shown(const Address& address) {
  const bool ipv6 = address.host.find(':') != std::string::npos;
  return (ipv6 ? "[" + address.host + "]" : address.host) + ":" + std::to_string(address.port);
}

bool IsIssuerUnknown(int error) {
  return error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
         error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
         error == X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT ||
         error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN ||
         error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE ||
         error == X509_V_ERR_CERT_SIGNATURE_FAILURE || error == X509_V_ERR_CERT_UNTRUSTED;
}

std::string Problem(int error, int depth, X509* certificate) {
  const std::string which = (depth == 0 ? "its certificate (" : "the authority's certificate (") +
                            NameOf(X509_get_subject_name(certificate)) + ")";
  if (error == X509_V_ERR_CERT_HAS_EXPIRED) {
    return which + " expired on " + DateOf(X509_get0_notAfter(certificate));
  }
  if (error == X509_V_ERR_CERT_NOT_YET_VALID) {
    return which + " is not valid before " + DateOf(X509_get0_notBefore(certificate));
  }
  if (IsIssuerUnknown(error)) {
    return which + " is signed by " + NameOf(X509_get_issuer_name(certificate)) +
           ", whose key is not among the trusted ones";
  }
  return which + ": " + X509_verify_cert_error_string(error);
}

// Goes on after each fault of the server's certificate, and notes it.
int NoteProblem(int ok, X509_STORE_CTX* store) {
  if (ok == 1) return 1;
  const auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto& problems = static_cast<Probe::Handshake*>(SSL_get_app_data(ssl))->problems;
  const int error = X509_STORE_CTX_get_error(store);
  X509* certificate = X509_STORE_CTX_get_current_cert(store);
  if (certificate == nullptr) return 1;
  std::string problem = Problem(error, X509_STORE_CTX_get_error_depth(store), certificate);
  // One unknown issuer is reported several times.
  if (std::find(problems.begin(), problems.end(), problem) == problems.end()) {
    problems.push_back(std::move(problem));
  }
  return 1;
}

// Called when the server asks for a certificate.
int NoteRequest(SSL* ssl, void*) {
  auto& handshake = *static_cast<Probe::Handshake*>(SSL_get_app_data(ssl));
  handshake.asked_for_certificate = true;
  const STACK_OF(X509_NAME)* names = SSL_get0_peer_CA_list(ssl);
  constexpr int kShown = 5;
  for (int i = 0; names != nullptr && i < std::min(kShown, sk_X509_NAME_num(names)); ++i) {
    if (i > 0) handshake.accepted_authorities += "; ";
    handshake.accepted_authorities += NameOf(sk_X509_NAME_value(names, i));
  }
  return 1;
}

// Shows the server a client's certificate, if its files can be read.
void UseCertificate(SSL_CTX* context, const ChannelOptions& options) {
  const auto pair =
      ReadKeyPair(options.tls_cert_file, options.tls_key_file, options.tls_passphrase_file);
  if (!pair.ok()) return;
  SSL_CTX_use_certificate_chain_file(context, options.tls_cert_file.c_str());
  const OpenSsl<BIO, BIO_free_all> text(
      BIO_new_mem_buf(pair->key.data(), static_cast<int>(pair->key.size())));
  const OpenSsl<EVP_PKEY, EVP_PKEY_free> key(
      PEM_read_bio_PrivateKey(text.get(), nullptr, nullptr, nullptr));
  SSL_CTX_use_PrivateKey(context, key.get());
}

OpenSsl<SSL_CTX, SSL_CTX_free> MakeContext(const ChannelOptions& options) {
  OpenSsl<SSL_CTX, SSL_CTX_free> context(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  constexpr unsigned char kHttp2[] = "\x02h2";
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof(kHttp2) - 1);
  SSL_CTX_set_cert_cb(context.get(), NoteRequest, nullptr);
  if (options.tls_ca_file.empty()) return context;
  SSL_CTX_load_verify_file(context.get(), options.tls_ca_file.c_str());
  // As gRPC does: a certificate between root and leaf may be trusted alone.
  X509_STORE_set_flags(SSL_CTX_get_cert_store(context.get()), X509_V_FLAG_PARTIAL_CHAIN);
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, NoteProblem);
  if (!options.tls_cert_file.empty()) UseCertificate(context.get(), options);
  return context;
}

void CheckHost(X509* certificate, const Address& address, Probe::Handshake& handshake) {
  const bool fits =
      X509_check_host(certificate, address.host.data(), address.host.size(), 0, nullptr) == 1 ||
      X509_check_ip_asc(certificate, address.host.c_str(), 0) == 1;
  if (fits) return;
  handshake.problems.push_back("its certificate is for " + HostsOf(certificate) + ", not for " +
                               address.host);
}

// Why OpenSSL gave the handshake up.
void NoteError(Probe::Handshake& handshake) {
  const unsigned long code = ERR_peek_last_error();
  const int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
  if (reason >= kFirstAlert) {
    handshake.is_tls = handshake.ended = true;
    handshake.alert = ERR_reason_error_string(code);
  } else if (code == 0) {
    handshake.ended = true;
  } else if (handshake.is_tls || reason == SSL_R_UNSUPPORTED_PROTOCOL) {
    handshake.is_tls = true;
    handshake.problems.emplace_back(ERR_reason_error_string(code));
  } else {
    handshake.is_something = true;
  }
  ERR_clear_error();
}

}  // namespace

Probe::~Probe() {
  if (fd_ >= 0) close(fd_);
}

bool Probe::Wait(int fd, short events) const {
  for (;;) {
    const int64_t left = absl::ToInt64Milliseconds(deadline_ - absl::Now());
    if (left <= 0 || stop_.stop_requested()) return false;
    pollfd entry{fd, events, 0};
    if (poll(&entry, 1, static_cast<int>(std::min<int64_t>(left, kStopPollMs))) > 0) return true;
  }
}

bool Probe::Send(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes.remove_prefix(static_cast<size_t>(sent));
    } else if (errno != EAGAIN || !Wait(fd_, POLLOUT)) {
      return false;
    }
  }
  return true;
}

Probe::Received Probe::Receive(std::string& bytes) const {
  if (!Wait(fd_, POLLIN)) return Received::kNothing;
  bytes.resize(kBlockBytes);
  const ssize_t count = recv(fd_, bytes.data(), bytes.size(), 0);
  bytes.resize(static_cast<size_t>(std::max<ssize_t>(count, 0)));
  return count > 0 ? Received::kBytes : Received::kEnd;
}

absl::Status Probe::Connect(const Address& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int failure =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failure == EAI_NONAME || failure == EAI_NODATA) {
    return Refused("HOST_UNKNOWN",
                   "the host name '" + address.host + "' has no address: " + gai_strerror(failure));
  }
  if (failure != 0) return absl::DeadlineExceededError(gai_strerror(failure));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  bool all_refuse = true;
  for (const addrinfo* one = addresses.get(); one != nullptr; one = one->ai_next) {
    fd_ = socket(one->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) continue;
    int error = connect(fd_, one->ai_addr, one->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      error = ETIMEDOUT;
      socklen_t size = sizeof(error);
      if (Wait(fd_, POLLOUT)) getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size);
    }
    if (error == 0) return absl::OkStatus();
    // A machine without IPv6 has no way to ::1.
    if (error != ECONNREFUSED && error != EADDRNOTAVAIL && error != ENETUNREACH) all_refuse = false;
    close(fd_);
    fd_ = -1;
  }
  if (!all_refuse) return absl::DeadlineExceededError("no address answers");
  return Refused("CONNECTION_REFUSED",
                 "nobody listens at " + Shown(address) + ": the connection is refused");
}

Probe::Handshake Probe::Shake(const ChannelOptions& options, const Address& address) {
  Handshake handshake;
  ERR_clear_error();
  const auto context = MakeContext(options);
  const OpenSsl<SSL, SSL_free> ssl(SSL_new(context.get()));
  BIO* in = BIO_new(BIO_s_mem());
  BIO* out = BIO_new(BIO_s_mem());
  BIO_set_mem_eof_return(in, -1);
  SSL_set_bio(ssl.get(), in, out);  // takes both
  SSL_set_app_data(ssl.get(), &handshake);
  const bool is_name = address.host.find_first_not_of("0123456789.") != std::string::npos &&
                       address.host.find(':') == std::string::npos;
  if (is_name) SSL_set_tlsext_host_name(ssl.get(), address.host.c_str());
  SSL_set_connect_state(ssl.get());
  ERR_clear_error();
  for (;;) {
    char byte = 0;
    const bool shaking = SSL_is_init_finished(ssl.get()) == 0;
    const int result = shaking ? SSL_do_handshake(ssl.get()) : SSL_read(ssl.get(), &byte, 1);
    const int error = result == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl.get(), result);
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(out, &bytes);
    const bool sent = Send({bytes, static_cast<size_t>(size)});
    BIO_reset(out);
    X509* certificate = SSL_get0_peer_certificate(ssl.get());
    if (certificate != nullptr && !handshake.is_tls) {
      handshake.is_tls = true;
      if (!options.tls_ca_file.empty()) CheckHost(certificate, address, handshake);
    }
    if (result == 1 && shaking) continue;  // now for the server's first bytes
    if (result == 1) return handshake;
    if (error != SSL_ERROR_WANT_READ) {
      NoteError(handshake);
      return handshake;
    }
    std::string block;
    const Received received = Receive(block);
    if (received == Received::kNothing) return handshake;
    if (received == Received::kEnd || !sent) {
      handshake.ended = true;
      return handshake;
    }
    BIO_write(in, block.data(), static_cast<int>(block.size()));
  }
}

}  // namespace espalier::rpc
