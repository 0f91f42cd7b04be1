// StructureService: which weights of a saved model exist, in few numbers.
//
// Limits:    one call is computed at a time, on a thread of its own, so that jobs wait for none; at most
//            kMostWaiting wait for it, each for at most kLongest from its begin.
// Viewers:   are given the structure and not how large weights are: a fine grid of a small layer would
//            tell the weights themselves.
// Threading: as the other services.
#pragma once

#include <atomic>

#include "common/base/executor.h"
#include "espalier/v1/structure.grpc.pb.h"
#include "server/api/calls.h"
#include "server/api/context.h"

namespace espalier::server::api {

class StructureService : public v1::StructureService::CallbackService {
 public:
  static constexpr int kMostWaiting = 16;
  static constexpr absl::Duration kLongest = absl::Seconds(20);

  explicit StructureService(const Context& context) : context_(context) {}
  grpc::ServerUnaryReactor* GetTopology(grpc::CallbackServerContext* call,
                                        const v1::GetTopologyRequest* request,
                                        v1::Topology* response) override;

 private:
  absl::Status Check(const access::Caller& caller, const v1::GetTopologyRequest& request) const;
  absl::StatusOr<v1::Topology> Compute(const v1::GetTopologyRequest& request, absl::Duration until,
                                       const std::function<bool()>& is_cancelled) const;

  const Context& context_;
  std::atomic<int> waiting_{0};
  base::ThreadExecutor reader_{1};  // goes first
};

}  // namespace espalier::server::api
