// EventService: streams of what changes among all jobs and all workers; ProgressService: the round in
// work.
//
// Threading: as the other services.
#pragma once

#include "espalier/v1/events.grpc.pb.h"
#include "espalier/v1/progress.grpc.pb.h"
#include "server/api/calls.h"
#include "server/api/context.h"

namespace espalier::server::api {

class EventService : public v1::EventService::CallbackService {
 public:
  explicit EventService(const Context& context) : context_(context) {}
  grpc::ServerWriteReactor<v1::WatchJobsResponse>* WatchJobs(
      grpc::CallbackServerContext* call, const v1::WatchJobsRequest* request) override;
  grpc::ServerWriteReactor<v1::WatchWorkersResponse>* WatchWorkers(
      grpc::CallbackServerContext* call, const v1::WatchWorkersRequest* request) override;

 private:
  const Context& context_;
};

class ProgressService : public v1::ProgressService::CallbackService {
 public:
  explicit ProgressService(const Context& context) : context_(context) {}
  grpc::ServerUnaryReactor* GetRoundProgress(grpc::CallbackServerContext* call,
                                             const v1::GetRoundProgressRequest* request,
                                             v1::RoundProgress* response) override;

 private:
  const Context& context_;
};

}  // namespace espalier::server::api
