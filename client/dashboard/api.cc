#include "client/dashboard/api.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "client/dashboard/parameters.h"
#include "client/dashboard/replies.h"
#include "client/dashboard/streams/download.h"
#include "client/dashboard/streams/event_stream.h"
#include "client/dashboard/submission.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

constexpr size_t kMostJobs = 50;
constexpr size_t kAll = std::numeric_limits<size_t>::max();
constexpr absl::Duration kFirstBlock = absl::Seconds(30);

// The message of a call as a reply.
template <typename Message>
absl::StatusOr<Reply> Answered(const absl::StatusOr<Message>& message) {
  if (!message.ok()) return message.status();
  return JsonReply(*message);
}

Reply StreamReply(std::unique_ptr<FrameSource> source, ConnectionMonitor& monitor) {
  Reply reply;
  // Proxies that gather what they pass on are told not to.
  reply.headers = {{"Content-Type", "text/event-stream"},
                   {"Cache-Control", "no-store"},
                   {"X-Accel-Buffering", "no"}};
  reply.live = std::make_shared<EventStream>(std::move(source), monitor);
  return reply;
}

// As the name of a file in a header.
std::string FileName(const std::string& name) {
  std::string file = name.substr(name.rfind('/') + 1);
  std::replace_if(
      file.begin(), file.end(),
      [](char c) {
        return !absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' &&
               c != '.';
      },
      '_');
  return file + ".safetensors";
}

std::string JobName(const Route& route) { return "jobs/" + route.id; }

}  // namespace

Api::Api(client::Client& client, Hub& hub, ConnectionMonitor& monitor, std::string server,
         std::string csrf_token)
    : client_(client),
      hub_(hub),
      monitor_(monitor),
      server_(std::move(server)),
      csrf_token_(std::move(csrf_token)) {}

Api::~Api() {
  const base::MutexLock lock(mutex_);
  download_ended_.Wait(mutex_,
                       [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return downloads_ == 0; });
}

Reply Api::Handle(const Route& route, const Request& request) {
  const absl::StatusOr<Reply> reply =
      IsAction(route.call) ? Act(route, request) : Answer(route, request);
  return reply.ok() ? *reply : ErrorReply(reply.status());
}

absl::StatusOr<Reply> Api::Answer(const Route& route, const Request& request) {
  switch (route.call) {
    case Call::kListJobs:
      return ListJobs(request);
    case Call::kGetJob:
      return Answered(client_.GetJob(JobName(route)));
    case Call::kListRounds:
      return ListRounds(route, request);
    case Call::kGetRoundProgress:
      return GetRoundProgress(route, request);
    case Call::kListJobCheckpoints:
      return Answered(client_.ListCheckpoints(JobName(route), kAll));
    case Call::kGetCheckpoint:
      return Answered(client_.GetCheckpoint("checkpoints/" + route.id));
    case Call::kDownloadCheckpoint:
      return ReadFile("checkpoints/" + route.id);
    case Call::kGetTopology:
      return GetTopology(request);
    case Call::kListWorkers:
      return Answered(client_.ListWorkers(kAll));
    case Call::kGetCluster:
      return Answered(client_.GetClusterInfo());
    case Call::kGetSystem:
      return Answered(client_.GetSystem());
    case Call::kListMethods:
      return Answered(client_.ListMethods());
    case Call::kDescribeMethod:
      return Answered(client_.DescribeMethod(route.id));
    case Call::kGetSession:
      return Session();
    case Call::kWatchJob:
      return WatchJob(route, request);
    case Call::kWatchJobs:
      return WatchBoard("jobs", request);
    case Call::kWatchWorkers:
      return WatchBoard("workers", request);
    default:
      return absl::InternalError("a call that is an action came as a question");
  }
}

absl::StatusOr<Reply> Api::Act(const Route& route, const Request& request) {
  ESPALIER_ASSIGN_OR_RETURN(const client::Json body, ObjectOf(request.body));
  if (route.call == Call::kCreateJob) {
    ESPALIER_ASSIGN_OR_RETURN(const JobSubmission submission, SubmissionOf(body));
    return Answered(Submit(client_, submission));
  }
  if (route.call == Call::kRecommend) {
    ESPALIER_ASSIGN_OR_RETURN(const v1::RecommendRequest asked, RecommendOf(body));
    return Answered(Recommend(client_, JobName(route), asked));
  }
  ESPALIER_RETURN_IF_ERROR(ExpectNothing(body));
  const std::string worker = "workers/" + route.id;
  switch (route.call) {
    case Call::kPauseJob:
      return Answered(client_.PauseJob(JobName(route)));
    case Call::kResumeJob:
      return Answered(client_.ResumeJob(JobName(route)));
    case Call::kCancelJob:
      return Answered(client_.CancelJob(JobName(route)));
    case Call::kRetryJob:
      return Answered(client_.RetryJob(JobName(route)));
    case Call::kDrainWorker:
      return Answered(client_.DrainWorker(worker));
    case Call::kUndrainWorker:
      return Answered(client_.UndrainWorker(worker));
    default:
      return absl::InternalError("a call that is a question came as an action");
  }
}

absl::StatusOr<Reply> Api::ListJobs(const Request& request) {
  ESPALIER_ASSIGN_OR_RETURN(const v1::ListJobsRequest asked, ListJobsOf(request.target));
  const size_t most = asked.page_size() > 0 ? static_cast<size_t>(asked.page_size()) : kMostJobs;
  return Answered(client_.ListJobs(asked, most));
}

absl::StatusOr<Reply> Api::ListRounds(const Route& route, const Request& request) {
  // An answer is made in memory, of which a round takes one to two kilobytes.
  constexpr int64_t kMostPoints = 10'000;
  ESPALIER_ASSIGN_OR_RETURN(const int64_t points,
                            NumberAt(request.target, "max_points", 1, kMostPoints, kPoints));
  return Answered(client_.ListRounds(JobName(route), static_cast<int32_t>(points)));
}

absl::StatusOr<Reply> Api::GetRoundProgress(const Route& route, const Request& request) {
  ESPALIER_ASSIGN_OR_RETURN(v1::GetRoundProgressRequest asked, RoundProgressOf(request.target));
  asked.set_job(JobName(route));
  return Answered(client_.GetRoundProgress(asked));
}

absl::StatusOr<Reply> Api::GetTopology(const Request& request) {
  ESPALIER_ASSIGN_OR_RETURN(const v1::GetTopologyRequest asked, TopologyOf(request.target));
  return Answered(client_.GetTopology(asked));
}

absl::StatusOr<Reply> Api::Session() {
  ESPALIER_ASSIGN_OR_RETURN(const v1::Identity identity, client_.WhoAmI());
  const bool open = identity.source() == v1::Identity::SOURCE_OPEN;
  const bool admin = open || identity.role() == v1::ACCESS_ROLE_ADMIN;
  const bool submitter = admin || identity.role() == v1::ACCESS_ROLE_SUBMITTER;
  client::Json json;
  json["identity"] = client::JsonOf(identity);
  json["server"] = server_;
  json["version"] = base::Version();
  json["csrf_token"] = csrf_token_;
  json["may"] = {{"submit", submitter}, {"control", submitter}, {"drain", admin}};
  return JsonReply(json);
}

absl::StatusOr<Reply> Api::WatchJob(const Route& route, const Request& request) {
  ESPALIER_ASSIGN_OR_RETURN(const int64_t after,
                            AfterOf(request.target, request.Header("last-event-id")));
  // A job that is not there, or not ours, is an error and no stream. A coordinator that is away is said
  // by the stream, which goes on when it is back.
  const absl::Status known = client_.GetJob(JobName(route)).status();
  if (ConnectionMonitor::IsLoss(known)) {
    monitor_.Lost(known);
  } else if (!known.ok()) {
    return known;
  }
  ESPALIER_ASSIGN_OR_RETURN(auto source, hub_.Job(JobName(route), after));
  return StreamReply(std::move(source), monitor_);
}

absl::StatusOr<Reply> Api::WatchBoard(const std::string& board, const Request& request) {
  // Who may not see it gets an error and no stream, as with a job.
  const absl::Status known = client_.WhoAmI().status();
  if (ConnectionMonitor::IsLoss(known)) {
    monitor_.Lost(known);
  } else if (!known.ok()) {
    return known;
  }
  ESPALIER_ASSIGN_OR_RETURN(auto source, hub_.OfBoard(board, request.Header("last-event-id")));
  return StreamReply(std::move(source), monitor_);
}

absl::StatusOr<Reply> Api::ReadFile(const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(const v1::Checkpoint checkpoint, client_.GetCheckpoint(name));
  {
    const base::MutexLock lock(mutex_);
    if (downloads_ >= kDownloads) {
      return base::MakeError(
          absl::StatusCode::kResourceExhausted, "TOO_MANY_DOWNLOADS",
          fmt::format(
              "expected room for one more download, found {} at work; wait for one of them, "
              "or use espalier checkpoint get {}",
              kDownloads, name));
    }
    ++downloads_;
  }
  const auto download = Download::Start(
      [this, checkpoint](const auto& take, const std::stop_token& stop) {
        return client_.ReadCheckpoint(checkpoint, take, stop);
      },
      [this] {
        const base::MutexLock lock(mutex_);
        --downloads_;
        download_ended_.NotifyAll();
      });
  // Who may not have it gets an error, and not a file that breaks off.
  ESPALIER_RETURN_IF_ERROR(download->WaitForBegin(kFirstBlock));
  Reply reply;
  reply.headers = {
      {"Content-Type", "application/octet-stream"},
      {"Cache-Control", "no-store"},
      {"Content-Disposition", fmt::format("attachment; filename=\"{}\"", FileName(name))}};
  reply.live = download;
  reply.live_bytes = checkpoint.size_bytes();
  return reply;
}

}  // namespace espalier::dashboard
