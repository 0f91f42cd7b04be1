// The service of those who may use the cluster: workers join, tokens are made and revoked.
//
// Threading: gRPC's callback threads; everything that touches the core runs on its executor.
#pragma once

#include <string>

#include "espalier/v1/access.grpc.pb.h"
#include "server/api/calls.h"
#include "server/api/context.h"

namespace espalier::server::api {

class AccessService : public v1::AccessService::CallbackService {
 public:
  explicit AccessService(const Context& context) : context_(context) {}
  grpc::ServerUnaryReactor* WhoAmI(grpc::CallbackServerContext* call,
                                   const v1::WhoAmIRequest* request,
                                   v1::Identity* response) override;
  grpc::ServerUnaryReactor* Join(grpc::CallbackServerContext* call, const v1::JoinRequest* request,
                                 v1::WorkerCertificate* response) override;
  grpc::ServerUnaryReactor* RenewCertificate(grpc::CallbackServerContext* call,
                                             const v1::RenewCertificateRequest* request,
                                             v1::WorkerCertificate* response) override;
  grpc::ServerUnaryReactor* RevokeWorker(grpc::CallbackServerContext* call,
                                         const v1::RevokeWorkerRequest* request,
                                         v1::RevokeWorkerResponse* response) override;
  grpc::ServerUnaryReactor* CreateToken(grpc::CallbackServerContext* call,
                                        const v1::CreateTokenRequest* request,
                                        v1::CreateTokenResponse* response) override;
  grpc::ServerUnaryReactor* ListTokens(grpc::CallbackServerContext* call,
                                       const v1::ListTokensRequest* request,
                                       v1::ListTokensResponse* response) override;
  grpc::ServerUnaryReactor* RevokeToken(grpc::CallbackServerContext* call,
                                        const v1::RevokeTokenRequest* request,
                                        v1::RevokeTokenResponse* response) override;

 private:
  // A certificate for the worker of this name, and the key that signed the request.
  absl::Status Certify(const std::string& worker, const std::string& signing_request,
                       v1::WorkerCertificate& certificate) const;
  // Errors: FailedPrecondition WORKERS_CANNOT_JOIN, CLUSTER_IS_OPEN.
  absl::Status CheckAuthority() const;
  absl::Status CheckClosed() const;

  const Context& context_;
};

}  // namespace espalier::server::api
