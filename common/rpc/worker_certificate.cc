#include "common/rpc/worker_certificate.h"

#include <fcntl.h>
#include <grpcpp/client_context.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <stop_token>
#include <string_view>
#include <utility>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "common/pki/certificate.h"
#include "common/pki/key.h"
#include "common/rpc/connection_check.h"
#include "common/rpc/status.h"
#include "common/rpc/tls.h"
#include "espalier/v1/access.grpc.pb.h"

namespace espalier::rpc {
namespace {

constexpr auto kTimeout = std::chrono::seconds(30);
// Authorities let certificates begin so long before they are made (pki/authority.h).
constexpr absl::Duration kBackdated = absl::Minutes(5);

absl::Status NotWritten(const std::string& path, std::string_view why) {
  return base::FailedPrecondition(
      "CERTIFICATE_NOT_WRITTEN",
      "expected to write the worker's certificate to '" + base::Printable(path) +
          "', found that this fails: " + std::string(why) + "; check the folder and its owner");
}

// Complete and durable under its name, or not at all; for this user alone.
absl::Status WriteSecret(const std::string& path, std::string_view text) {
  const std::string folder = io::DirectoryOf(path);
  io::FileSystem& files = io::PosixFileSystem();
  if (const absl::Status made = files.CreateDirectories(folder); !made.ok()) {
    return NotWritten(path, base::MessageOf(made));
  }
  const std::string temporary = path + ".tmp";
  unlink(temporary.c_str());
  const int fd =
      open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return NotWritten(path, std::strerror(errno));
  bool written = true;
  while (written && !text.empty()) {
    const ssize_t n = write(fd, text.data(), text.size());
    written = n > 0;
    if (written) text.remove_prefix(static_cast<size_t>(n));
  }
  written = written && fsync(fd) == 0;
  const std::string why = written ? "" : std::strerror(errno);
  close(fd);
  if (!written) {
    unlink(temporary.c_str());
    return NotWritten(path, why);
  }
  ESPALIER_RETURN_IF_ERROR(files.Rename(temporary, path));
  return files.SyncDirectory(folder);
}

using Ask = std::function<grpc::Status(v1::AccessService::Stub&, grpc::ClientContext&,
                                       const std::string& signing_request, v1::WorkerCertificate&)>;

absl::StatusOr<WorkerCertificateFile> Obtain(const ChannelOptions& coordinator,
                                             const std::string& path, const Ask& ask) {
  ESPALIER_ASSIGN_OR_RETURN(const auto channel, MakeChannel(coordinator));
  const auto stub = v1::AccessService::NewStub(channel);
  const std::string key = pki::NewKey();
  ESPALIER_ASSIGN_OR_RETURN(const std::string request, pki::NewSigningRequest(key));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kTimeout);
  v1::WorkerCertificate certificate;
  const absl::Status answered = FromGrpc(ask(*stub, context, request, certificate));
  if (!answered.ok()) {
    return ExplainFailure(coordinator, answered, kExplainLimit, std::stop_token());
  }
  ESPALIER_RETURN_IF_ERROR(WriteSecret(path, certificate.certificate() + key));
  return ReadWorkerCertificate(path);
}

}  // namespace

absl::StatusOr<WorkerCertificateFile> ReadWorkerCertificate(const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(const KeyPair pair, ReadKeyPair(path, path));
  ESPALIER_ASSIGN_OR_RETURN(const pki::Certificate certificate,
                            pki::ReadCertificate(pair.certificate));
  if (!certificate.identity.has_value() || certificate.identity->role != pki::Role::kWorker) {
    return base::InvalidArgument("CERTIFICATE_OF_NO_WORKER",
                                 "expected a worker's certificate (espalier://worker/ID) at '" +
                                     base::Printable(path) + "', found that of " +
                                     certificate.subject);
  }
  const absl::Time made = certificate.not_before + kBackdated;
  const absl::Duration life = std::max(certificate.not_after - made, absl::ZeroDuration());
  return WorkerCertificateFile{certificate.identity->name, certificate.not_after,
                               made + life * 2 / 3};
}

absl::StatusOr<WorkerCertificateFile> JoinCluster(ChannelOptions coordinator,
                                                  const std::string& token_file,
                                                  const std::string& worker_id,
                                                  const std::string& path) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string token, ReadSecret(token_file, "a join token"));
  if (coordinator.tls_ca_file.empty()) {
    return base::InvalidArgument("TOKEN_WITHOUT_TLS",
                                 "expected " + coordinator.tls_flag_prefix +
                                     "ca with the coordinator's authority beside the join token, "
                                     "which nobody else may read, found none");
  }
  coordinator.tls_cert_file.clear();
  coordinator.tls_key_file.clear();
  return Obtain(coordinator, path,
                [&](v1::AccessService::Stub& stub, grpc::ClientContext& context,
                    const std::string& signing_request, v1::WorkerCertificate& certificate) {
                  v1::JoinRequest request;
                  request.set_token(token);
                  request.set_signing_request(signing_request);
                  request.set_worker_id(worker_id);
                  return stub.Join(&context, request, &certificate);
                });
}

absl::StatusOr<WorkerCertificateFile> RenewWorkerCertificate(ChannelOptions coordinator,
                                                             const std::string& path) {
  coordinator.tls_cert_file = coordinator.tls_key_file = path;
  return Obtain(coordinator, path,
                [](v1::AccessService::Stub& stub, grpc::ClientContext& context,
                   const std::string& signing_request, v1::WorkerCertificate& certificate) {
                  v1::RenewCertificateRequest request;
                  request.set_signing_request(signing_request);
                  return stub.RenewCertificate(&context, request, &certificate);
                });
}

bool MayJoinLater(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

}  // namespace espalier::rpc
