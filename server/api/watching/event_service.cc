#include "server/api/watching/event_service.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/strip.h"
#include "common/base/status.h"
#include "server/api/ownership.h"
#include "server/api/watching/change_watch.h"

namespace espalier::server::api {
namespace {

using Kind = events::ChangeFeed::Change::Kind;

constexpr int kDefaultPastEvents = 100;
constexpr int kMostPastEvents = 1000;

class JobsWatch : public ChangeWatch<v1::WatchJobsResponse> {
 public:
  JobsWatch(const Context& context, grpc::CallbackServerContext* call)
      : ChangeWatch(context, "WatchJobs", call) {}

 protected:
  bool Shows(const Change& change) const override { return caller()->MaySee(change.owner); }

  void Fetch(std::vector<Change> changes, Fetched done) override {
    std::vector<std::string> names;
    for (const Change& change : changes) {
      const bool is_there = context().jobs.UserOf(change.name).has_value();
      if (change.kind == Kind::kChanged && is_there) names.push_back(change.name);
    }
    context().jobs.View(names, [changes = std::move(changes),
                                done = std::move(done)](absl::StatusOr<std::vector<v1::Job>> jobs) {
      if (!jobs.ok()) {
        done(jobs.status());
        return;
      }
      done(MessagesOf(changes, *std::move(jobs)));
    });
  }

 private:
  // `jobs`: those of the changes that are still there, in this order.
  static std::vector<Told> MessagesOf(const std::vector<Change>& changes,
                                      std::vector<v1::Job> jobs) {
    std::vector<Told> messages;
    auto job = jobs.begin();
    for (const Change& change : changes) {
      v1::WatchJobsResponse message;
      if (change.kind == Kind::kEvent) {
        *message.mutable_event() = *change.event;
      } else if (change.kind == Kind::kGone) {
        message.set_gone(change.name);
      } else if (job != jobs.end() && job->name() == change.name) {
        *message.mutable_job() = Fitting(std::move(*job++));
      } else {
        continue;  // it is gone, which a later change says
      }
      messages.push_back({change.number, std::move(message)});
    }
    return messages;
  }
};

class WorkersWatch : public ChangeWatch<v1::WatchWorkersResponse> {
 public:
  WorkersWatch(const Context& context, grpc::CallbackServerContext* call)
      : ChangeWatch(context, "WatchWorkers", call) {}

 protected:
  bool Shows(const Change&) const override { return true; }

  void Fetch(std::vector<Change> changes, Fetched done) override {
    std::vector<Told> messages;
    for (const Change& change : changes) {
      v1::WatchWorkersResponse message;
      if (change.kind == Kind::kGone) {
        message.set_gone(change.name);
      } else if (const v1::Worker* worker = context().fleet.Find(
                     std::string(absl::StripPrefix(change.name, "workers/")))) {
        *message.mutable_worker() = *worker;
      } else {
        continue;
      }
      messages.push_back({change.number, std::move(message)});
    }
    done(std::move(messages));
  }
};

absl::StatusOr<size_t> PastEvents(int asked) {
  if (asked == 0) return kDefaultPastEvents;
  if (asked == -1) return 0;
  if (asked > 0 && asked <= kMostPastEvents) return static_cast<size_t>(asked);
  return base::InvalidArgument("INVALID_PAST_EVENTS", "expected past_events from -1 to " +
                                                          std::to_string(kMostPastEvents) +
                                                          ", found " + std::to_string(asked));
}

}  // namespace

grpc::ServerWriteReactor<v1::WatchJobsResponse>* EventService::WatchJobs(
    grpc::CallbackServerContext* call, const v1::WatchJobsRequest* request) {
  const auto watch = std::make_shared<JobsWatch>(context_, call);
  auto* reactor = JobsWatch::Start(watch, {"WatchJobs"});
  if (!watch->caller().ok() || !watch->StayOpen()) return reactor;
  const absl::StatusOr<size_t> past_events = PastEvents(request->past_events());
  if (!past_events.ok()) {
    watch->End(past_events.status());
    return reactor;
  }
  context_.core.Post([this, watch, token = request->resume_token(), past = *past_events] {
    context_.jobs.LookAtChanges();
    jobs::ClusterFeeds& feeds = context_.jobs.feeds();
    watch->Attach(feeds.jobs(), feeds.life(), token, past);
  });
  return reactor;
}

grpc::ServerWriteReactor<v1::WatchWorkersResponse>* EventService::WatchWorkers(
    grpc::CallbackServerContext* call, const v1::WatchWorkersRequest* request) {
  const auto watch = std::make_shared<WorkersWatch>(context_, call);
  auto* reactor = WorkersWatch::Start(watch, {"WatchWorkers"});
  if (!watch->caller().ok() || !watch->StayOpen()) return reactor;
  context_.core.Post([this, watch, token = request->resume_token()] {
    context_.jobs.LookAtChanges();
    jobs::ClusterFeeds& feeds = context_.jobs.feeds();
    watch->Attach(feeds.workers(), feeds.life(), token, 0);
  });
  return reactor;
}

grpc::ServerUnaryReactor* ProgressService::GetRoundProgress(
    grpc::CallbackServerContext* call, const v1::GetRoundProgressRequest* request,
    v1::RoundProgress* response) {
  return AnswerOnCore(context_, call, {"GetRoundProgress", request->job()},
                      [this, request, response](const access::Caller& caller) -> absl::Status {
                        ESPALIER_RETURN_IF_ERROR(CheckJob(context_, caller, request->job()));
                        ESPALIER_ASSIGN_OR_RETURN(*response, context_.jobs.ProgressOf(*request));
                        return absl::OkStatus();
                      });
}

}  // namespace espalier::server::api
