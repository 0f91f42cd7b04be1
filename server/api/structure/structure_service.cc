#include "server/api/structure/structure_service.h"

#include <functional>
#include <memory>
#include <utility>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "server/api/ownership.h"
#include "server/checkpoint/structure/structure_map.h"

namespace espalier::server::api {

absl::Status StructureService::Check(const access::Caller& caller,
                                     const v1::GetTopologyRequest& request) const {
  ESPALIER_RETURN_IF_ERROR(CheckCheckpoint(context_, caller, request.checkpoint()));
  ESPALIER_ASSIGN_OR_RETURN(const auto shown, context_.checkpoints.Get(request.checkpoint()));
  if (request.compare_to().empty()) return absl::OkStatus();
  ESPALIER_RETURN_IF_ERROR(CheckCheckpoint(context_, caller, request.compare_to()));
  ESPALIER_ASSIGN_OR_RETURN(const auto before, context_.checkpoints.Get(request.compare_to()));
  if (before.job == shown.job) return absl::OkStatus();
  return base::InvalidArgument("COMPARE_OTHER_JOB",
                               "expected compare_to to be a checkpoint of jobs/" + shown.job +
                                   ", as checkpoint is, found '" + request.compare_to() + "'");
}

absl::StatusOr<v1::Topology> StructureService::Compute(
    const v1::GetTopologyRequest& request, absl::Duration until,
    const std::function<bool()>& is_cancelled) const {
  const auto keep_going = [&]() -> absl::Status {
    if (is_cancelled()) return absl::CancelledError("the caller has gone");
    if (context_.clock.Elapsed() < until) return absl::OkStatus();
    return base::MakeError(absl::StatusCode::kDeadlineExceeded, "TOPOLOGY_TIMEOUT",
                           "expected to have read the tensor within " +
                               absl::FormatDuration(kLongest) +
                               ", waiting for other calls included; ask again later");
  };
  ESPALIER_RETURN_IF_ERROR(keep_going());
  ESPALIER_ASSIGN_OR_RETURN(const auto shown, context_.checkpoints.Get(request.checkpoint()));
  ESPALIER_ASSIGN_OR_RETURN(const auto file, context_.checkpoints.OpenFile(shown.name));
  std::unique_ptr<io::ReadableFile> before;
  std::string before_name;
  if (!request.compare_to().empty()) {
    ESPALIER_ASSIGN_OR_RETURN(const auto other, context_.checkpoints.Get(request.compare_to()));
    ESPALIER_ASSIGN_OR_RETURN(before, context_.checkpoints.OpenFile(other.name));
    before_name = other.name;
  }
  ESPALIER_ASSIGN_OR_RETURN(
      v1::Topology topology,
      checkpoint::MapStructure(
          *file, before.get(),
          {.tensor = request.tensor(), .bins = request.bins(), .max_bytes = base::kMaxAnswerBytes},
          keep_going));
  topology.set_checkpoint(shown.name);
  topology.set_round(shown.round);
  topology.set_compare_to(before_name);
  return topology;
}

grpc::ServerUnaryReactor* StructureService::GetTopology(grpc::CallbackServerContext* call,
                                                        const v1::GetTopologyRequest* request,
                                                        v1::Topology* response) {
  return AnswerLater(
      context_, call, {"GetTopology", request->checkpoint()},
      [this, call, request, response](const access::Caller& caller, const Answer& answer) {
        if (const absl::Status fit = Check(caller, *request); !fit.ok()) {
          answer(fit);
          return;
        }
        if (waiting_.fetch_add(1) >= kMostWaiting) {
          waiting_.fetch_sub(1);
          answer(base::MakeError(absl::StatusCode::kUnavailable, "TOPOLOGIES_FULL",
                                 "expected fewer than " + std::to_string(kMostWaiting) +
                                     " calls of GetTopology at a time; ask again in a moment"));
          return;
        }
        const bool structure_alone = caller.role == pki::Role::kViewer;
        const absl::Duration until = context_.clock.Elapsed() + kLongest;
        reader_.Post([this, call, request, response, answer, structure_alone, until] {
          absl::StatusOr<v1::Topology> topology =
              Compute(*request, until, [call] { return call->IsCancelled(); });
          waiting_.fetch_sub(1);
          absl::Status status = topology.status();
          if (status.ok()) {
            *response = *std::move(topology);
            if (structure_alone) {
              response->clear_strength();
              response->clear_column_strength();
            }
          }
          context_.core.Post([answer, status = std::move(status)] { answer(status); });
        });
      });
}

}  // namespace espalier::server::api
