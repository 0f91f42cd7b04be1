#include "common/rpc/server_tls.h"

#include <grpcpp/support/config.h>

#include <utility>

#include "common/base/status.h"

namespace espalier::rpc {
namespace {

// A large organisation's lists.
constexpr uint64_t kMaxListBytes = 16 * 1024 * 1024;

absl::Status TlsError(const std::string& found) {
  return base::InvalidArgument("TLS_CONFIG_INVALID",
                               "expected --tls-cert and --tls-key to name a certificate and its "
                               "private key (and --tls-client-ca an authority), found " +
                                   found);
}

// Credentials of gRPC that ask for certificates before each handshake. Its own in C++ are given
// certificates once, or read them from files, which an encrypted key must not be in.
class AskingCredentials : public grpc::ServerCredentials {
 public:
  AskingCredentials(grpc_ssl_client_certificate_request_type clients,
                    grpc_ssl_server_certificate_config_callback fetch, void* data)
      : credentials_(grpc_ssl_server_credentials_create_with_options(
            grpc_ssl_server_credentials_create_options_using_config_fetcher(clients, fetch,
                                                                            data))) {}
  ~AskingCredentials() override { grpc_server_credentials_release(credentials_); }
  AskingCredentials(const AskingCredentials&) = delete;
  AskingCredentials& operator=(const AskingCredentials&) = delete;

  // Calls are looked at by their handlers, who can say why they refuse one.
  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  grpc_server_credentials* const credentials_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ServerTls>> ServerTls::Open(ServerTlsFiles files) {
  if (files.certificate.empty() || files.key.empty()) {
    return TlsError(files.certificate.empty() && files.key.empty() ? "neither"
                                                                   : "only one of the two");
  }
  if (!files.revocations.empty() && files.client_authority.empty()) {
    return TlsError("--tls-crl without --tls-client-ca");
  }
  std::unique_ptr<ServerTls> tls(new ServerTls(std::move(files)));
  ESPALIER_ASSIGN_OR_RETURN(Material material, tls->Read());
  const base::MutexLock lock(tls->mutex_);
  tls->material_ = std::move(material);
  return tls;
}

absl::StatusOr<ServerTls::Material> ServerTls::Read() const {
  Material material;
  auto pair = ReadKeyPair(files_.certificate, files_.key, files_.passphrase);
  if (!pair.ok()) return base::Annotate(pair.status(), "--tls-cert and --tls-key");
  material.pair = *std::move(pair);
  ESPALIER_ASSIGN_OR_RETURN(const pki::Certificate own,
                            pki::ReadCertificate(material.pair.certificate));
  material.not_after = own.not_after;
  if (!files_.client_authority.empty()) {
    auto authorities = ReadAuthorities(files_.client_authority);
    if (!authorities.ok()) return base::Annotate(authorities.status(), "--tls-client-ca");
    material.authorities = *std::move(authorities);
  }
  if (files_.revocations.empty()) return material;
  auto lists = ReadPem(files_.revocations, "a list of revoked certificates (PEM)", kMaxListBytes);
  if (!lists.ok()) return base::Annotate(lists.status(), "--tls-crl");
  material.lists = *std::move(lists);
  std::string issuers = material.authorities;
  if (!files_.worker_authority.empty()) {
    auto workers = ReadAuthorities(files_.worker_authority);
    if (!workers.ok()) return base::Annotate(workers.status(), "--tls-worker-ca-cert");
    issuers += "\n" + *workers;
  }
  auto revocations = pki::Revocations::Parse(material.lists, issuers);
  if (!revocations.ok()) return base::Annotate(revocations.status(), "--tls-crl");
  material.revocations = *std::move(revocations);
  return material;
}

absl::StatusOr<bool> ServerTls::Reload() {
  ESPALIER_ASSIGN_OR_RETURN(Material material, Read());
  const base::MutexLock lock(mutex_);
  const bool same_handshakes =
      material.pair == material_.pair && material.authorities == material_.authorities;
  if (same_handshakes && material.lists == material_.lists) return false;
  material_ = std::move(material);
  fresh_ = fresh_ || !same_handshakes;
  return true;
}

bool ServerTls::IsRevoked(const pki::Certificate& certificate) const {
  const base::MutexLock lock(mutex_);
  return material_.revocations.Contains(certificate);
}

absl::Time ServerTls::not_after() const {
  const base::MutexLock lock(mutex_);
  return material_.not_after;
}

absl::Time ServerTls::next_update() const {
  const base::MutexLock lock(mutex_);
  return material_.revocations.next_update();
}

std::shared_ptr<grpc::ServerCredentials> ServerTls::Credentials() {
  {
    const base::MutexLock lock(mutex_);
    fresh_ = true;
  }
  return std::make_shared<AskingCredentials>(knows_clients()
                                                 ? GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY
                                                 : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
                                             &ServerTls::Fetch, this);
}

// Called by gRPC before each handshake, by one thread at a time.
grpc_ssl_certificate_config_reload_status ServerTls::Fetch(
    void* self, grpc_ssl_server_certificate_config** config) {
  auto& tls = *static_cast<ServerTls*>(self);
  const base::MutexLock lock(tls.mutex_);
  if (!std::exchange(tls.fresh_, false)) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
  const Material& material = tls.material_;
  const grpc_ssl_pem_key_cert_pair pair{material.pair.key.c_str(),
                                        material.pair.certificate.c_str()};
  *config = grpc_ssl_server_certificate_config_create(
      material.authorities.empty() ? nullptr : material.authorities.c_str(), &pair, 1);
  return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
}

}  // namespace espalier::rpc
