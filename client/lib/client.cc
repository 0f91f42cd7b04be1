#include "client/lib/client.h"

#include <limits>
#include <random>
#include <string_view>
#include <utility>

#include "client/lib/client_impl.h"
#include "common/base/status.h"
#include "common/rpc/status.h"
#include "common/wire/proto_time.h"
#include "fmt/format.h"

namespace espalier::client {
namespace {

// A request id makes another attempt safe: a second call returns the first call's job.
std::string FreshRequestId() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

// "spec.federation.rounds" → "federation.rounds": requests wrap what a job file has at its root.
std::string WithoutPrefix(const std::string& field) {
  constexpr std::string_view kPrefix = "spec.";
  return field.starts_with(kPrefix) ? field.substr(kPrefix.size()) : field;
}

}  // namespace

std::vector<config::Violation> ViolationsOf(const absl::Status& status) {
  std::vector<config::Violation> violations;
  for (const v1::FieldViolation& violation : rpc::ViolationsOf(status)) {
    violations.push_back({WithoutPrefix(violation.field()), violation.description()});
  }
  return violations;
}

absl::Status WithViolations(const absl::Status& status,
                            const std::vector<config::Violation>& violations, int left_out) {
  std::vector<v1::FieldViolation> wire;
  for (const config::Violation& violation : violations) {
    v1::FieldViolation& item = wire.emplace_back();
    item.set_field(violation.field);
    item.set_description(violation.description);
  }
  return rpc::WithViolations(status, wire, left_out);
}

int ViolationsLeftOut(const absl::Status& status) { return rpc::ViolationsLeftOut(status); }

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

absl::StatusOr<std::unique_ptr<Client>> Client::Create(ClientOptions options) {
  ESPALIER_ASSIGN_OR_RETURN(auto servers, Servers::Create(options));
  return std::unique_ptr<Client>(
      new Client(std::make_unique<Impl>(std::move(options), std::move(servers))));
}

absl::StatusOr<v1::Job> Client::CreateJob(v1::CreateJobRequest request) {
  if (request.request_id().empty()) request.set_request_id(FreshRequestId());
  return impl_->Call<v1::Job>(&Server::jobs, &v1::JobService::Stub::CreateJob, request);
}

absl::StatusOr<v1::Job> Client::GetJob(const std::string& name, const std::stop_token& stop) {
  v1::GetJobRequest request;
  request.set_name(name);
  return impl_->Call<v1::Job>(&Server::jobs, &v1::JobService::Stub::GetJob, request, stop);
}

absl::StatusOr<v1::Job> Client::CancelJob(const std::string& name) {
  return impl_->CallNamed<v1::Job, v1::CancelJobRequest>(&Server::jobs,
                                                         &v1::JobService::Stub::CancelJob, name);
}

absl::StatusOr<v1::Job> Client::PauseJob(const std::string& name) {
  return impl_->CallNamed<v1::Job, v1::PauseJobRequest>(&Server::jobs,
                                                        &v1::JobService::Stub::PauseJob, name);
}

absl::StatusOr<v1::Job> Client::ResumeJob(const std::string& name) {
  return impl_->CallNamed<v1::Job, v1::ResumeJobRequest>(&Server::jobs,
                                                         &v1::JobService::Stub::ResumeJob, name);
}

absl::StatusOr<v1::Job> Client::RetryJob(const std::string& name) {
  return impl_->CallNamed<v1::Job, v1::RetryJobRequest>(&Server::jobs,
                                                        &v1::JobService::Stub::RetryJob, name);
}

absl::StatusOr<v1::DeleteJobResponse> Client::DeleteJob(const v1::DeleteJobRequest& request) {
  return impl_->Call<v1::DeleteJobResponse>(&Server::jobs, &v1::JobService::Stub::DeleteJob,
                                            request);
}

absl::StatusOr<v1::ListJobsResponse> Client::ListJobs(const v1::ListJobsRequest& request,
                                                      size_t limit) {
  return impl_->ListAll<v1::ListJobsResponse>(
      &Server::jobs, &v1::JobService::Stub::ListJobs, request, limit,
      [](v1::ListJobsResponse& response) { return response.mutable_jobs(); });
}

absl::StatusOr<v1::ListRoundsResponse> Client::ListRounds(const std::string& name,
                                                          int32_t max_points) {
  v1::ListRoundsRequest request;
  request.set_job(name);
  request.set_max_points(max_points);
  return impl_->ListAll<v1::ListRoundsResponse>(
      &Server::jobs, &v1::JobService::Stub::ListRounds, request, std::numeric_limits<size_t>::max(),
      [](v1::ListRoundsResponse& response) { return response.mutable_rounds(); });
}

absl::StatusOr<v1::ListMethodsResponse> Client::ListMethods() {
  return impl_->Call<v1::ListMethodsResponse>(
      &Server::methods, &v1::MethodService::Stub::ListMethods, v1::ListMethodsRequest());
}

absl::StatusOr<v1::Method> Client::DescribeMethod(const std::string& name) {
  v1::DescribeMethodRequest request;
  request.set_name(name);
  return impl_->Call<v1::Method>(&Server::methods, &v1::MethodService::Stub::DescribeMethod,
                                 request);
}

absl::StatusOr<v1::ListWorkersResponse> Client::ListWorkers(size_t limit) {
  return impl_->ListAll<v1::ListWorkersResponse>(
      &Server::cluster, &v1::ClusterService::Stub::ListWorkers, v1::ListWorkersRequest(), limit,
      [](v1::ListWorkersResponse& response) { return response.mutable_workers(); });
}

absl::StatusOr<v1::Identity> Client::WhoAmI() {
  return impl_->Call<v1::Identity>(&Server::access, &v1::AccessService::Stub::WhoAmI,
                                   v1::WhoAmIRequest());
}

absl::StatusOr<v1::CreateTokenResponse> Client::CreateToken(const v1::Token& token,
                                                            absl::Duration lifetime) {
  v1::CreateTokenRequest request;
  *request.mutable_token() = token;
  wire::SetDuration(lifetime, request.mutable_lifetime());
  return impl_->Call<v1::CreateTokenResponse>(&Server::access,
                                              &v1::AccessService::Stub::CreateToken, request);
}

absl::StatusOr<v1::ListTokensResponse> Client::ListTokens(size_t limit) {
  return impl_->ListAll<v1::ListTokensResponse>(
      &Server::access, &v1::AccessService::Stub::ListTokens, v1::ListTokensRequest(), limit,
      [](v1::ListTokensResponse& response) { return response.mutable_tokens(); });
}

absl::Status Client::RevokeToken(const std::string& name) {
  return impl_
      ->CallNamed<v1::RevokeTokenResponse, v1::RevokeTokenRequest>(
          &Server::access, &v1::AccessService::Stub::RevokeToken, name)
      .status();
}

absl::Status Client::RevokeWorker(const std::string& name) {
  return impl_
      ->CallNamed<v1::RevokeWorkerResponse, v1::RevokeWorkerRequest>(
          &Server::access, &v1::AccessService::Stub::RevokeWorker, name)
      .status();
}

absl::StatusOr<v1::Worker> Client::DrainWorker(const std::string& name) {
  return impl_->CallNamed<v1::Worker, v1::DrainWorkerRequest>(
      &Server::cluster, &v1::ClusterService::Stub::DrainWorker, name);
}

absl::StatusOr<v1::Worker> Client::UndrainWorker(const std::string& name) {
  return impl_->CallNamed<v1::Worker, v1::UndrainWorkerRequest>(
      &Server::cluster, &v1::ClusterService::Stub::UndrainWorker, name);
}

absl::StatusOr<v1::Checkpoint> Client::VerifyCheckpoint(const std::string& name) {
  return impl_->CallNamed<v1::Checkpoint, v1::VerifyCheckpointRequest>(
      &Server::checkpoints, &v1::CheckpointService::Stub::VerifyCheckpoint, name);
}

absl::Status Client::DeleteCheckpoint(const std::string& name) {
  return impl_
      ->CallNamed<v1::DeleteCheckpointResponse, v1::DeleteCheckpointRequest>(
          &Server::checkpoints, &v1::CheckpointService::Stub::DeleteCheckpoint, name)
      .status();
}

absl::StatusOr<v1::ClusterInfo> Client::GetClusterInfo() {
  return impl_->Call<v1::ClusterInfo>(&Server::cluster, &v1::ClusterService::Stub::GetClusterInfo,
                                      v1::GetClusterInfoRequest());
}

absl::StatusOr<v1::ListCheckpointsResponse> Client::ListCheckpoints(const std::string& job,
                                                                    size_t limit) {
  v1::ListCheckpointsRequest request;
  request.set_job(job);
  return impl_->ListAll<v1::ListCheckpointsResponse>(
      &Server::checkpoints, &v1::CheckpointService::Stub::ListCheckpoints, request, limit,
      [](v1::ListCheckpointsResponse& response) { return response.mutable_checkpoints(); });
}

absl::StatusOr<v1::Topology> Client::GetTopology(const v1::GetTopologyRequest& request) {
  return impl_->Call<v1::Topology>(&Server::structure, &v1::StructureService::Stub::GetTopology,
                                   request);
}

absl::StatusOr<v1::SystemInfo> Client::GetSystem() {
  return impl_->Call<v1::SystemInfo>(&Server::system, &v1::SystemService::Stub::GetSystem,
                                     v1::GetSystemRequest());
}

absl::StatusOr<v1::RoundProgress> Client::GetRoundProgress(
    const v1::GetRoundProgressRequest& request) {
  return impl_->Call<v1::RoundProgress>(&Server::progress,
                                        &v1::ProgressService::Stub::GetRoundProgress, request);
}

absl::StatusOr<v1::RecommendResponse> Client::Recommend(const v1::RecommendRequest& request) {
  return impl_->Call<v1::RecommendResponse>(&Server::checkpoints,
                                            &v1::CheckpointService::Stub::Recommend, request);
}

absl::StatusOr<v1::Checkpoint> Client::GetCheckpoint(const std::string& name) {
  v1::GetCheckpointRequest request;
  request.set_name(name);
  ESPALIER_ASSIGN_OR_RETURN(
      v1::Checkpoint checkpoint,
      impl_->Call<v1::Checkpoint>(&Server::checkpoints, &v1::CheckpointService::Stub::GetCheckpoint,
                                  request));
  // Whoever prints a checkpoint must not print what opens its download.
  checkpoint.clear_download_ticket();
  return checkpoint;
}

}  // namespace espalier::client
