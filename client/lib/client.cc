#include "client/lib/client.h"

#include <grpcpp/client_context.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <random>
#include <string_view>
#include <utility>

#include "client/lib/download.h"
#include "client/lib/servers.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/rpc/connection_check.h"
#include "common/rpc/status.h"
#include "common/wire/proto_time.h"
#include "fmt/format.h"

namespace espalier::client {
namespace {

// One stream lives at most this long before it is taken up again: no call is without a deadline.
constexpr absl::Duration kStreamLifetime = absl::Hours(1);
constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
constexpr absl::Duration kLongestBackoff = absl::Seconds(5);
// Where another server stands in or is about to: what is known of the failed one need not be much, and
// nobody should wait long beyond the moment in which it takes over, or at most so long.
constexpr absl::Duration kExplainLimitOfSeveral = absl::Seconds(1);
constexpr absl::Duration kLongestBackoffOfSeveral = absl::Seconds(1);
constexpr absl::Duration kTakeOver = absl::Seconds(20);
constexpr int kPageSize = 1000;

// The stream can be taken up again: a broken connection, the stream's own lifetime, or a pause of
// ours that was longer than the coordinator waits for a reader.
bool IsTransient(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kResourceExhausted ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

absl::Status Stopped() {
  return base::MakeError(absl::StatusCode::kCancelled, "STOPPED", "stopped by the user");
}

// Retries a stream with growing pauses, until it makes no progress for too long.
class Reconnector {
 public:
  Reconnector(absl::Duration reconnect_for, absl::Time deadline, absl::Duration longest_pause)
      : reconnect_for_(reconnect_for), deadline_(deadline), longest_pause_(longest_pause) {}

  // Something arrived: the next failure counts from here.
  void Progress() {
    failing_since_ = absl::InfiniteFuture();
    backoff_ = kFirstBackoff;
  }

  // Pauses before the next attempt. False when `status` is final.
  bool MayRetry(const absl::Status& status, const std::stop_token& stop) {
    const absl::Time now = absl::Now();
    if (!IsTransient(status) || now >= deadline_) return false;
    failing_since_ = std::min(failing_since_, now);
    if (now - failing_since_ >= reconnect_for_) return false;
    const absl::Duration pause = std::min(backoff_, deadline_ - now);
    backoff_ = std::min(backoff_ * 2, longest_pause_);
    return base::SleepUnlessStopped(absl::ToChronoNanoseconds(pause), stop);
  }

 private:
  absl::Duration reconnect_for_;
  absl::Time deadline_;
  absl::Duration longest_pause_;
  absl::Time failing_since_ = absl::InfiniteFuture();
  absl::Duration backoff_ = kFirstBackoff;
};

// Whether a call that ended like this is worth another attempt: no connection came about, or the
// coordinator's buffers are full, and nothing is known that would stay.
bool MayPass(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return status.code() == absl::StatusCode::kUnavailable &&
         (reason.empty() || reason == "COORDINATOR_BUSY");
}

// Whether no server was there at all, which another one may be.
bool CannotBeReached(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return status.code() == absl::StatusCode::kUnavailable &&
         (reason.empty() || reason == "CONNECTION_REFUSED" || reason == "HOST_UNKNOWN");
}

// Whether there is a server, or a proxy, that does not let us in. That will stay; another server may.
bool IsOfConnection(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return status.code() == absl::StatusCode::kUnavailable &&
         (reason == "PROXY_FAILED" || reason.starts_with("TLS_"));
}

// Text in a request must be UTF-8; gRPC would send other bytes, and the server could not say what
// is wrong with them.
absl::Status CheckText(const google::protobuf::MessageLite& request) {
  const std::unique_ptr<google::protobuf::MessageLite> copy(request.New());
  if (copy->ParseFromString(request.SerializeAsString())) return absl::OkStatus();
  return base::InvalidArgument(
      "TEXT_INVALID", "expected all names and texts of a request in UTF-8, found other bytes");
}

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

struct Client::Impl {
  Impl(ClientOptions client_options, std::unique_ptr<Servers> known)
      : options(std::move(client_options)), servers(std::move(known)) {}

  // What the transport says when there is no answer of the server, in words that help.
  absl::Status Told(const absl::Status& error) const {
    const std::string reason = base::ReasonOf(error);
    if (CannotBeReached(error)) {
      return base::MakeError(
          error.code(), "COORDINATOR_UNREACHABLE",
          fmt::format(
              "expected a coordinator at {}, found none ({}); start one with `espalier up`, "
              "or name its address with --server or ESPALIER_SERVER; a coordinator with "
              "TLS also needs --ca, and where it asks for certificates --cert and --key",
              options.server, base::MessageOf(error)));
    }
    if (error.code() == absl::StatusCode::kDeadlineExceeded && reason.empty()) {
      return base::MakeError(
          error.code(), "DEADLINE_EXCEEDED",
          fmt::format("{} did not answer within {}; raise --timeout, or check the "
                      "coordinator's load",
                      options.server, Text(options.timeout)));
    }
    return error;
  }

  // Ends of a wait for a job. What became of the job is said only as far as it is known.
  absl::Status WaitedTooLong(const std::string& name, bool lost) const {
    return base::MakeError(
        absl::StatusCode::kDeadlineExceeded, "WAIT_TIMEOUT",
        lost ? fmt::format("{} has not ended within --timeout, and the coordinator at {} cannot be "
                           "reached; the job goes on when that is back",
                           name, options.server)
             : fmt::format("{} has not ended within --timeout; it goes on", name));
  }
  absl::Status CoordinatorLost(const std::string& name, const absl::Status& cause) const {
    return base::MakeError(
        absl::StatusCode::kUnavailable, "COORDINATOR_LOST",
        fmt::format("the coordinator at {} was lost while {} was watched, and did not come back "
                    "within {} ({}); the job goes on when the coordinator is back, then watch "
                    "again: espalier job watch {}",
                    options.server, name, Text(options.reconnect_for), base::MessageOf(cause),
                    name));
  }
  absl::Status JobGone(const std::string& name) const {
    return base::NotFound(
        "JOB_LOST",
        fmt::format("the coordinator at {} was started again and does not know {}: it began "
                    "without the jobs of the one before, with another --data-dir or with --store "
                    "memory; checkpoints stay: espalier checkpoint list --job {}",
                    options.server, name, name));
  }

  Reconnector MakeReconnector(absl::Time deadline) const {
    return {options.reconnect_for, deadline,
            several() ? kLongestBackoffOfSeveral : kLongestBackoff};
  }

  bool several() const { return servers->size() > 1; }

  // The error of a call to `server`, and why no connection came about where that is so. A server that
  // cannot be reached is left out from now on, if there is another one.
  absl::Status Explained(const Servers::Handle& server, const grpc::Status& status,
                         absl::Duration limit, const std::stop_token& stop) const {
    absl::Status error = rpc::ExplainFailure(
        server->connection, rpc::FromGrpc(status),
        std::min(limit, several() ? kExplainLimitOfSeveral : rpc::kExplainLimit), stop);
    if (CannotBeReached(error) || (several() && IsOfConnection(error))) servers->LeaveOut(server);
    return error;
  }

  // Whether a call that ended like this, in its attempt of this number, is worth another one: at the
  // server itself, or at one that stands in for it or is about to. `was_there`: an earlier attempt was
  // not refused.
  bool MayPassHere(const absl::Status& error, size_t attempt, bool was_there,
                   absl::Duration waited) const {
    if (MayPass(error)) return true;
    // One that was there a moment ago, too, may be about to be there again.
    if (CannotBeReached(error) && (several() || was_there)) return waited < kTakeOver;
    if (!several()) return false;
    return IsOfConnection(error) && attempt < servers->size();
  }

  static std::string Text(absl::Duration duration) { return absl::FormatDuration(duration); }

  // A unary call with the client's deadline. While nothing but the connection is in its way it is
  // tried again until then: every call of the API may be repeated (CreateJob by its request id).
  template <typename Response, typename Stub, typename Method, typename Request>
  absl::StatusOr<Response> Call(Stub stub, Method method, const Request& request,
                                const std::stop_token& stop = {}) const {
    ESPALIER_RETURN_IF_ERROR(CheckText(request));
    const absl::Time begin = absl::Now();
    const absl::Time deadline = begin + options.timeout;
    absl::Duration pause = kFirstBackoff;
    absl::Status cause;
    for (size_t attempt = 1;; ++attempt) {
      grpc::ClientContext context;
      context.set_deadline(absl::ToChronoTime(deadline));
      const std::stop_callback cancel(stop, [&] { context.TryCancel(); });
      Response response;
      const Servers::Handle server = servers->current();
      const grpc::Status status = ((*((*server).*stub)).*method)(&context, request, &response);
      if (status.ok()) return response;
      if (stop.stop_requested()) return Stopped();
      const absl::Status error = Explained(server, status, deadline - absl::Now(), stop);
      // The last attempt ran into the deadline: what was in the way before says more.
      const bool late = error.code() == absl::StatusCode::kDeadlineExceeded;
      if (late && base::ReasonOf(error).empty() && !cause.ok()) return Told(cause);
      // After half of what is left another attempt has as much time again.
      const absl::Duration left = deadline - absl::Now();
      if (!MayPassHere(error, attempt, !cause.ok(), absl::Now() - begin) || left < kFirstBackoff)
        return Told(error);
      cause = error;
      // The others are tried at once.
      if (attempt % servers->size() != 0) continue;
      if (!base::SleepUnlessStopped(absl::ToChronoNanoseconds(std::min(pause, left / 2)), stop)) {
        return Stopped();
      }
      pause = std::min(pause * 2, several() ? kLongestBackoffOfSeveral : kLongestBackoff);
    }
  }

  // A call whose request is a name.
  template <typename Response, typename Request, typename Stub, typename Method>
  absl::StatusOr<Response> CallNamed(Stub stub, Method method, const std::string& name) const {
    Request request;
    request.set_name(name);
    return Call<Response>(stub, method, request);
  }

  // All pages of a list, merged into the first response.
  template <typename Response, typename Stub, typename Method, typename Request, typename Items>
  absl::StatusOr<Response> ListAll(Stub stub, Method method, Request request, size_t limit,
                                   Items items) const {
    Response all;
    for (bool first = true;; first = false) {
      const size_t left = limit - static_cast<size_t>(items(all)->size());
      request.set_page_size(static_cast<int>(std::min<size_t>(left, kPageSize)));
      ESPALIER_ASSIGN_OR_RETURN(auto page, (Call<Response>(stub, method, request)));
      const std::string next = page.next_page_token();
      if (first) {
        all = std::move(page);
      } else {
        for (auto& item : *items(page)) items(all)->Add(std::move(item));
        all.set_next_page_token(next);
      }
      if (next.empty()) return all;
      if (static_cast<size_t>(items(all)->size()) >= limit) return all;
      request.set_page_token(next);
    }
  }

  // Reads one stream to its end; `on_message` may end it with an error.
  template <typename Message, typename Open>
  absl::Status ReadStream(Open open, absl::Time deadline, const std::stop_token& stop,
                          const std::function<absl::Status(const Message&)>& on_message) const {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(std::min(deadline, absl::Now() + kStreamLifetime)));
    const std::stop_callback cancel(stop, [&] { context.TryCancel(); });
    const Servers::Handle server = servers->current();
    const auto reader = open(*server, &context);
    Message message;
    absl::Status refused;
    while (refused.ok() && reader->Read(&message)) refused = on_message(message);
    if (!refused.ok()) context.TryCancel();
    const grpc::Status status = reader->Finish();
    if (stop.stop_requested()) return Stopped();
    if (!refused.ok()) return refused;
    return status.ok() ? absl::OkStatus()
                       : Told(Explained(server, status, rpc::kExplainLimit, stop));
  }

  ClientOptions options;
  std::unique_ptr<Servers> servers;
};

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

absl::Status Client::WatchJob(const std::string& name, int64_t after_sequence,
                              const std::function<void(const v1::JobEvent&)>& on_event,
                              const std::function<void(const absl::Status&)>& on_reconnect,
                              std::stop_token stop, absl::Time deadline) {
  Reconnector reconnector = impl_->MakeReconnector(deadline);
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_after_sequence(after_sequence);
  bool was_lost = false;  // since the beginning
  bool is_lost = false;   // since the last event; an attempt that runs out of time says nothing
  for (;;) {
    const absl::Status status = impl_->ReadStream<v1::WatchJobResponse>(
        [&](const Server& server, grpc::ClientContext* context) {
          return server.jobs->WatchJob(context, request);
        },
        deadline, stop,
        [&](const v1::WatchJobResponse& response) {
          // A server that repeats itself after a resume is heard once.
          if (response.event().sequence() <= request.after_sequence()) return absl::OkStatus();
          is_lost = false;
          request.set_after_sequence(response.event().sequence());
          reconnector.Progress();
          on_event(response.event());
          return absl::OkStatus();
        });
    if (status.ok() || status.code() == absl::StatusCode::kCancelled) return status;
    const bool lost = status.code() == absl::StatusCode::kUnavailable;
    is_lost = is_lost || lost;
    if (absl::Now() >= deadline) return impl_->WaitedTooLong(name, is_lost);
    if (status.code() == absl::StatusCode::kNotFound && was_lost) return impl_->JobGone(name);
    was_lost = was_lost || lost;
    if (lost) on_reconnect(status);
    if (!reconnector.MayRetry(status, stop)) {
      if (stop.stop_requested()) return Stopped();
      // At the deadline of the wait a pause ends, too.
      if (absl::Now() >= deadline) return impl_->WaitedTooLong(name, is_lost);
      return lost ? impl_->CoordinatorLost(name, status) : status;
    }
  }
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

absl::Status Client::DownloadCheckpoint(const v1::Checkpoint& checkpoint, const std::string& path,
                                        const std::function<void(int64_t)>& on_progress,
                                        std::stop_token stop) {
  ESPALIER_ASSIGN_OR_RETURN(PartFile file,
                            PartFile::Open(path, static_cast<uint64_t>(checkpoint.size_bytes())));
  Reconnector reconnector = impl_->MakeReconnector(absl::InfiniteFuture());
  v1::GetCheckpointRequest about;
  about.set_name(checkpoint.name());
  v1::DownloadCheckpointRequest request;
  request.set_name(checkpoint.name());
  const auto download = [&]() -> absl::Status {
    // Another one for each attempt: a coordinator that was started anew knows none of the old ones.
    ESPALIER_ASSIGN_OR_RETURN(
        const v1::Checkpoint found,
        impl_->Call<v1::Checkpoint>(&Server::checkpoints,
                                    &v1::CheckpointService::Stub::GetCheckpoint, about));
    request.set_ticket(found.download_ticket());
    request.set_offset(file.offset());
    return impl_->ReadStream<v1::Chunk>(
        [&](const Server& server, grpc::ClientContext* context) {
          return server.checkpoints->DownloadCheckpoint(context, request);
        },
        absl::InfiniteFuture(), stop,
        [&](const v1::Chunk& chunk) {
          ESPALIER_RETURN_IF_ERROR(file.Append(chunk));
          reconnector.Progress();
          on_progress(static_cast<int64_t>(file.offset()));
          return absl::OkStatus();
        });
  };
  for (;;) {
    const absl::Status status = download();
    if (status.ok()) return file.Finish(checkpoint.sha256());
    if (!reconnector.MayRetry(status, stop)) return stop.stop_requested() ? Stopped() : status;
  }
}

}  // namespace espalier::client
