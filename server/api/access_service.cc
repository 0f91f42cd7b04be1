#include "server/api/access_service.h"

#include <string>
#include <utility>

#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/pki/certificate.h"
#include "common/wire/proto_time.h"

namespace espalier::server::api {
namespace {

// Of 4,096 bits; a key of P-256 takes 0.5 KiB.
constexpr size_t kMaxSigningRequestBytes = 16 * 1024;
// After this share of its life a certificate is to be renewed, so that there is time to notice that it cannot be.
constexpr double kRenewAfter = 2.0 / 3;

v1::AccessRole RoleOf(pki::Role role) {
  switch (role) {
    case pki::Role::kAdmin:
      return v1::ACCESS_ROLE_ADMIN;
    case pki::Role::kSubmitter:
      return v1::ACCESS_ROLE_SUBMITTER;
    case pki::Role::kViewer:
      return v1::ACCESS_ROLE_VIEWER;
    case pki::Role::kWorker:
      return v1::ACCESS_ROLE_WORKER;
    case pki::Role::kCoordinator:
      break;
  }
  return v1::ACCESS_ROLE_UNSPECIFIED;
}

absl::Status CheckSigningRequest(const std::string& request) {
  if (!request.empty() && request.size() <= kMaxSigningRequestBytes) return absl::OkStatus();
  return base::InvalidArgument(
      "SIGNING_REQUEST_INVALID",
      "expected a signing request (PKCS#10, PEM) of 1 byte to 16 KiB, found " +
          std::to_string(request.size()) + " bytes");
}

v1::Identity::Source SourceOf(access::Caller::Source source) {
  switch (source) {
    case access::Caller::Source::kOpen:
      return v1::Identity::SOURCE_OPEN;
    case access::Caller::Source::kCertificate:
      return v1::Identity::SOURCE_CERTIFICATE;
    case access::Caller::Source::kToken:
      return v1::Identity::SOURCE_TOKEN;
  }
  return v1::Identity::SOURCE_UNSPECIFIED;
}

}  // namespace

grpc::ServerUnaryReactor* AccessService::WhoAmI(grpc::CallbackServerContext* call,
                                                const v1::WhoAmIRequest*, v1::Identity* response) {
  return AnswerOnCore(context_, call, {"WhoAmI"}, [response](const access::Caller& caller) {
    response->set_name(caller.name);
    response->set_role(RoleOf(caller.role));
    response->set_source(SourceOf(caller.source));
    if (caller.expires != absl::InfiniteFuture()) {
      wire::SetTimestamp(caller.expires, response->mutable_expire_time());
    }
    return absl::OkStatus();
  });
}

absl::Status AccessService::CheckAuthority() const {
  if (context_.access.workers != nullptr) return absl::OkStatus();
  return base::FailedPrecondition(
      "WORKERS_CANNOT_JOIN",
      "expected a coordinator that has an authority for workers, found one without; start it with "
      "--tls-dir, or --tls-worker-ca-cert and --tls-worker-ca-key");
}

absl::Status AccessService::CheckClosed() const {
  if (!context_.access.gate.is_open()) return absl::OkStatus();
  return base::FailedPrecondition(
      "CLUSTER_IS_OPEN",
      "expected a coordinator that asks who calls, found one that lets everybody do everything, so "
      "that tokens are of no use; start it with --tls-dir");
}

absl::Status AccessService::Certify(const std::string& worker, const std::string& signing_request,
                                    v1::WorkerCertificate& certificate) const {
  const absl::Time now = context_.clock.Wall();
  const absl::Duration life = context_.access.worker_certificate_life;
  ESPALIER_ASSIGN_OR_RETURN(
      const std::string pem,
      context_.access.workers->Sign(
          {.identity = {pki::Role::kWorker, worker}, .now = now, .lifetime = life},
          signing_request));
  ESPALIER_ASSIGN_OR_RETURN(const pki::Certificate made, pki::ReadCertificate(pem));
  context_.access.registry.NoteCertificate(worker, made);
  certificate.set_worker_id(worker);
  certificate.set_certificate(pem);
  wire::SetTimestamp(made.not_after, certificate.mutable_expire_time());
  wire::SetTimestamp(now + (made.not_after - now) * kRenewAfter, certificate.mutable_renew_time());
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* AccessService::Join(grpc::CallbackServerContext* call,
                                              const v1::JoinRequest* request,
                                              v1::WorkerCertificate* response) {
  const Subject subject{"Join", "workers/" + request->worker_id(),
                        [response] { return "workers/" + response->worker_id(); }};
  return AnswerLater(
      context_, call, subject,
      [this, request, response](const access::Caller&, const Answer& answer) {
        absl::Status status = CheckAuthority();
        if (status.ok()) status = CheckSigningRequest(request->signing_request());
        if (status.ok()) {
          const auto worker = context_.access.registry.Join(request->token(), request->worker_id());
          status = worker.ok() ? Certify(*worker, request->signing_request(), *response)
                               : worker.status();
        }
        if (!status.ok()) {
          answer(status);
          return;
        }
        log::Info("worker_joined", {{"worker", response->worker_id()}});
        context_.jobs.AnswerWhenWritten(answer);
      });
}

grpc::ServerUnaryReactor* AccessService::RenewCertificate(
    grpc::CallbackServerContext* call, const v1::RenewCertificateRequest* request,
    v1::WorkerCertificate* response) {
  const Subject subject{"RenewCertificate", "",
                        [response] { return "workers/" + response->worker_id(); }};
  return AnswerLater(context_, call, subject,
                     [this, request, response](const access::Caller& caller, const Answer& answer) {
                       absl::Status status = CheckClosed();
                       if (status.ok()) status = CheckAuthority();
                       if (status.ok()) status = CheckSigningRequest(request->signing_request());
                       if (status.ok())
                         status = Certify(caller.name, request->signing_request(), *response);
                       if (!status.ok()) {
                         answer(status);
                         return;
                       }
                       log::Info("certificate_renewed", {{"worker", caller.name}});
                       context_.jobs.AnswerWhenWritten(answer);
                     });
}

grpc::ServerUnaryReactor* AccessService::RevokeWorker(grpc::CallbackServerContext* call,
                                                      const v1::RevokeWorkerRequest* request,
                                                      v1::RevokeWorkerResponse*) {
  return AnswerLater(context_, call, {"RevokeWorker", request->name()},
                     [this, request](const access::Caller&, const Answer& answer) {
                       const std::string worker(absl::StripPrefix(request->name(), "workers/"));
                       absl::Status status = CheckClosed();
                       if (status.ok()) {
                         const auto shown = context_.access.open_calls.CertificateOf(worker);
                         status = context_.access.registry.RevokeWorker(
                             worker, shown.has_value() ? &*shown : nullptr);
                       }
                       if (!status.ok()) {
                         answer(status);
                         return;
                       }
                       log::Info("worker_revoked", {{"worker", worker}});
                       context_.access.open_calls.Check(context_.access.gate);
                       context_.jobs.AnswerWhenWritten(answer);
                     });
}

grpc::ServerUnaryReactor* AccessService::CreateToken(grpc::CallbackServerContext* call,
                                                     const v1::CreateTokenRequest* request,
                                                     v1::CreateTokenResponse* response) {
  const Subject subject{"CreateToken", "", [response] { return response->token().name(); }};
  return AnswerLater(context_, call, subject,
                     [this, request, response](const access::Caller& caller, const Answer& answer) {
                       absl::Status status = CheckClosed();
                       if (status.ok() && request->token().kind() == v1::Token::KIND_JOIN)
                         status = CheckAuthority();
                       if (!status.ok()) {
                         answer(status);
                         return;
                       }
                       auto made = context_.access.registry.CreateToken(
                           request->token(), wire::FromProto(request->lifetime()), caller.name);
                       if (!made.ok()) {
                         answer(made.status());
                         return;
                       }
                       *response->mutable_token() = std::move(made->token);
                       response->set_secret(std::move(made->secret));
                       context_.jobs.AnswerWhenWritten(answer);
                     });
}

grpc::ServerUnaryReactor* AccessService::ListTokens(grpc::CallbackServerContext* call,
                                                    const v1::ListTokensRequest* request,
                                                    v1::ListTokensResponse* response) {
  return AnswerOnCore(
      context_, call, {"ListTokens"},
      [this, request, response](const access::Caller&) -> absl::Status {
        const auto tokens = context_.access.registry.Tokens();
        ESPALIER_ASSIGN_OR_RETURN(
            const Page page, MakePage(request->page_size(), request->page_token(), tokens.size()));
        FillPage(
            page, [&](size_t i) { return tokens[i]; }, response->mutable_tokens(), response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* AccessService::RevokeToken(grpc::CallbackServerContext* call,
                                                     const v1::RevokeTokenRequest* request,
                                                     v1::RevokeTokenResponse*) {
  return AnswerLater(context_, call, {"RevokeToken", request->name()},
                     [this, request](const access::Caller&, const Answer& answer) {
                       absl::Status status = context_.access.registry.RevokeToken(request->name());
                       if (!status.ok()) {
                         answer(status);
                         return;
                       }
                       context_.access.open_calls.Check(context_.access.gate);
                       context_.jobs.AnswerWhenWritten(answer);
                     });
}

}  // namespace espalier::server::api
