// ServerTls: the certificates that a server shows, the authorities that it trusts, and what they have
// revoked, read from files again and again while the server runs.
//
// A handshake uses what was read last. Whoever reads between two files of a pair that are being
// replaced finds that they do not belong together, keeps what was there, and reads again.
//
// Threading: thread-safe. Reload() reads files, which may take as long as their disk does.
// Errors:    InvalidArgument TLS_CONFIG_INVALID, CRL_INVALID and those of tls.h, which name the flag.
#pragma once

#include <grpc/grpc_security.h>
#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/pki/certificate.h"
#include "common/pki/revocations.h"
#include "common/rpc/tls.h"

namespace espalier::rpc {

struct ServerTlsFiles {
  std::string certificate;
  std::string key;
  std::string passphrase;        // of an encrypted key; "": none
  std::string client_authority;  // "": clients are not asked for certificates
  std::string revocations;       // lists of certificates that are revoked; "": none
  std::string worker_authority;  // may have signed one of the lists as well; "": none
};

class ServerTls {
 public:
  static absl::StatusOr<std::unique_ptr<ServerTls>> Open(ServerTlsFiles files);
  ServerTls(const ServerTls&) = delete;
  ServerTls& operator=(const ServerTls&) = delete;

  // For one server, which this object outlives. A client's certificate is verified if it sends one.
  std::shared_ptr<grpc::ServerCredentials> Credentials();

  // Reads the files again. True: something is new, and used from the next handshake on. After an error
  // all stays as it was.
  absl::StatusOr<bool> Reload();

  // Whether clients are asked for certificates, and can be told apart by them.
  bool knows_clients() const { return !files_.client_authority.empty(); }
  bool IsRevoked(const pki::Certificate& certificate) const;
  // When the server's own certificate ends, and when the first list of revoked ones should be renewed.
  absl::Time not_after() const;
  absl::Time next_update() const;

 private:
  struct Material {
    KeyPair pair;
    std::string authorities;
    std::string lists;
    absl::Time not_after;
    pki::Revocations revocations;
  };

  explicit ServerTls(ServerTlsFiles files) : files_(std::move(files)) {}
  absl::StatusOr<Material> Read() const;
  static grpc_ssl_certificate_config_reload_status Fetch(
      void* self, grpc_ssl_server_certificate_config** config);

  const ServerTlsFiles files_;
  mutable base::Mutex mutex_;
  Material material_ ABSL_GUARDED_BY(mutex_);
  bool fresh_ ABSL_GUARDED_BY(mutex_) = true;  // the server has not been given it yet
};

}  // namespace espalier::rpc
