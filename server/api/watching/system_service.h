// SystemService: what the coordinator has of its machine.
//
// Threading: as the other services; what is asked of the disk is asked beside the core.
#pragma once

#include "espalier/v1/system.grpc.pb.h"
#include "server/api/calls.h"
#include "server/api/context.h"

namespace espalier::server::api {

class SystemService : public v1::SystemService::CallbackService {
 public:
  // `store`: what jobs are kept in, as SystemInfo.store says it.
  SystemService(const Context& context, std::string store)
      : context_(context), store_(std::move(store)) {}
  grpc::ServerUnaryReactor* GetSystem(grpc::CallbackServerContext* call,
                                      const v1::GetSystemRequest* request,
                                      v1::SystemInfo* response) override;

 private:
  const Context& context_;
  const std::string store_;
};

}  // namespace espalier::server::api
