#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/proto_time.h"
#include "server/api/calls.h"
#include "server/api/client_services.h"

namespace espalier::server::api {

grpc::ServerUnaryReactor* MethodService::ListMethods(grpc::CallbackServerContext* call,
                                                     const v1::ListMethodsRequest* request,
                                                     v1::ListMethodsResponse* response) {
  return AnswerOnCore(context_, call, {"ListMethods"}, [this, response](const access::Caller&) {
    for (const auto& method : context_.methods.all()) {
      *response->add_methods() = context_.methods.Describe(method);
    }
    return absl::OkStatus();
  });
}

grpc::ServerUnaryReactor* MethodService::DescribeMethod(grpc::CallbackServerContext* call,
                                                        const v1::DescribeMethodRequest* request,
                                                        v1::Method* response) {
  return AnswerOnCore(
      context_, call, {"DescribeMethod"},
      [this, request, response](const access::Caller&) -> absl::Status {
        const auto* method = context_.methods.Find(request->name());
        if (method == nullptr) {
          const std::string nearest = config::Nearest(request->name(), context_.methods.names());
          return base::NotFound("METHOD_NOT_FOUND",
                                "expected the name of a method, found '" + request->name() + "'; " +
                                    (nearest.empty() ? "see `espalier method list`"
                                                     : "did you mean '" + nearest + "'?"));
        }
        *response = context_.methods.Describe(*method);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ClusterService::ListWorkers(grpc::CallbackServerContext* call,
                                                      const v1::ListWorkersRequest* request,
                                                      v1::ListWorkersResponse* response) {
  return AnswerOnCore(
      context_, call, {"ListWorkers"},
      [this, request, response](const access::Caller&) -> absl::Status {
        const auto workers = context_.fleet.List();
        ESPALIER_ASSIGN_OR_RETURN(
            const Page page, MakePage(request->page_size(), request->page_token(), workers.size()));
        FillPage(
            page, [&](size_t i) { return workers[i]; }, response->mutable_workers(), response);
        return absl::OkStatus();
      });
}

grpc::ServerUnaryReactor* ClusterService::DrainWorker(grpc::CallbackServerContext* call,
                                                      const v1::DrainWorkerRequest* request,
                                                      v1::Worker* response) {
  return AnswerOnCore(context_, call, {"DrainWorker", request->name()},
                      [this, request, response](const access::Caller&) {
                        return SetDraining(request->name(), true, *response);
                      });
}

grpc::ServerUnaryReactor* ClusterService::UndrainWorker(grpc::CallbackServerContext* call,
                                                        const v1::UndrainWorkerRequest* request,
                                                        v1::Worker* response) {
  return AnswerOnCore(context_, call, {"UndrainWorker", request->name()},
                      [this, request, response](const access::Caller&) {
                        return SetDraining(request->name(), false, *response);
                      });
}

absl::Status ClusterService::SetDraining(const std::string& name, bool draining,
                                         v1::Worker& worker) {
  const std::string id(absl::StripPrefix(name, "workers/"));
  ESPALIER_ASSIGN_OR_RETURN(worker, context_.fleet.SetDraining(id, draining));
  log::Info(draining ? "worker_drained" : "worker_undrained", {{"worker", id}});
  return absl::OkStatus();
}

grpc::ServerUnaryReactor* ClusterService::GetClusterInfo(grpc::CallbackServerContext* call,
                                                         const v1::GetClusterInfoRequest* request,
                                                         v1::ClusterInfo* response) {
  return AnswerOnCore(context_, call, {"GetClusterInfo"}, [this, response](const access::Caller&) {
    *response = context_.info;
    response->set_workers_active(context_.fleet.active());
    response->set_jobs_running(context_.jobs.Count(v1::Job::STATE_RUNNING));
    response->set_jobs_total(context_.jobs.size());
    const absl::Time end = context_.access.certificate_end();
    if (end != absl::InfiniteFuture()) {
      wire::SetTimestamp(end, response->mutable_certificate_expire_time());
    }
    return absl::OkStatus();
  });
}

}  // namespace espalier::server::api
