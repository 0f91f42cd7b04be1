#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"
#include "common/rpc/status.h"
#include "server/api/calls.h"
#include "server/api/client_services.h"
#include "server/api/ownership.h"
#include "server/api/write_stream.h"

namespace espalier::server::api {
namespace {

absl::Status WithFields(const absl::Status& status,
                        const std::vector<config::Violation>& violations) {
  std::vector<v1::FieldViolation> fields;
  for (const config::Violation& violation : violations) {
    fields.emplace_back();
    fields.back().set_field("spec." + violation.field);
    fields.back().set_description(violation.description);
  }
  return rpc::WithViolations(status, fields);
}

// Answers repeat a job's spec.
absl::Status CheckSize(const v1::JobSpec& spec) {
  const size_t bytes = spec.ByteSizeLong();
  if (bytes <= base::kMaxSpecBytes) return absl::OkStatus();
  return base::InvalidArgument("SPEC_TOO_LARGE", "expected a job of at most " +
                                                     std::to_string(base::kMaxSpecBytes) +
                                                     " bytes, found " + std::to_string(bytes) +
                                                     "; describe the model with fewer layers");
}

absl::Status CheckSequence(const std::string& job, int64_t after, const events::EventLog& log) {
  if (after < 0) {
    return base::InvalidArgument("INVALID_SEQUENCE",
                                 "expected after_sequence ≥ 0, found " + std::to_string(after));
  }
  const int64_t last = log.last_shown();
  if (after <= last) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kOutOfRange, "INVALID_SEQUENCE",
                         "expected after_sequence of at most " + std::to_string(last) +
                             ", the newest event of '" + job + "', found " + std::to_string(after) +
                             "; the number is of another job or of an earlier life of the "
                             "coordinator: begin with 0");
}

// A listing of rounds: how many there were and which was the best when its first page was asked
// for, so that all pages choose from the same ones, and where a page begins in what is chosen.
// In page tokens: "{position}.{total}.{best}", best being total where there is none.
struct RoundListing {
  std::string position;  // "" on the first page
  size_t total = 0;
  std::optional<size_t> best;

  std::string TokenAt(const std::string& at) const {
    return absl::StrCat(at, ".", total, ".", best.value_or(total));
  }
};

absl::StatusOr<RoundListing> ListingOf(const v1::ListRoundsRequest& request,
                                       const jobs::RoundHistory& rounds) {
  if (request.max_points() < 0) {
    return base::InvalidArgument(
        "INVALID_PAGE", "expected max_points ≥ 0, found " + std::to_string(request.max_points()));
  }
  if (request.page_token().empty()) return RoundListing{"", rounds.size(), rounds.best()};
  const std::vector<std::string> parts = absl::StrSplit(request.page_token(), '.');
  RoundListing listing;
  uint64_t total = 0;
  uint64_t best = 0;
  if (parts.size() != 3 || parts[0].empty() || !absl::SimpleAtoi(parts[1], &total) ||
      !absl::SimpleAtoi(parts[2], &best) || total > rounds.size() || best > total) {
    return base::InvalidArgument("INVALID_PAGE",
                                 "expected a page_token from an earlier answer about this job, "
                                 "found '" +
                                     request.page_token() + "'; begin without one");
  }
  listing.position = parts[0];
  listing.total = total;
  if (best < total) listing.best = best;
  return listing;
}

absl::Status FillRounds(const v1::ListRoundsRequest& request, const jobs::RoundHistory& rounds,
                        v1::ListRoundsResponse& response) {
  ESPALIER_ASSIGN_OR_RETURN(const RoundListing listing, ListingOf(request, rounds));
  const std::vector<size_t> chosen =
      rounds.Choose(listing.total, listing.best, static_cast<size_t>(request.max_points()));
  ESPALIER_ASSIGN_OR_RETURN(const Page page,
                            MakePage(request.page_size(), listing.position, chosen.size()));
  FillPage(
      page, [&](size_t i) { return rounds.At(chosen[i]); }, response.mutable_rounds(), &response);
  if (const std::string next = response.next_page_token(); !next.empty()) {
    response.set_next_page_token(listing.TokenAt(next));
  }
  response.set_total_rounds(static_cast<int32_t>(listing.total));
  return absl::OkStatus();
}

// A page of jobs, and whether others follow.
struct JobPage {
  std::vector<jobs::JobIndex::Place> places;
  bool has_more = false;
};

// In page tokens: the job after which the next page begins, "{number}.{name}", so that no job is
// listed twice or left out when others come or go meanwhile.
std::string TokenAfter(const jobs::JobIndex::Place& place) {
  return absl::StrCat(place.number, ".", place.name);
}

absl::StatusOr<JobPage> PageOf(const v1::ListJobsRequest& request, const access::Caller& caller,
                               jobs::JobManager& jobs) {
  std::optional<std::string> owner;
  if (caller.role == pki::Role::kSubmitter) owner = caller.name;
  ESPALIER_ASSIGN_OR_RETURN(auto places, jobs.Select(request, owner));
  if (!request.page_token().empty()) {
    const std::pair<std::string, std::string> parts =
        absl::StrSplit(request.page_token(), absl::MaxSplits('.', 1));
    jobs::JobIndex::Place last{0, parts.second};
    if (!absl::SimpleAtoi(parts.first, &last.number) || last.name.empty()) {
      return base::InvalidArgument("INVALID_PAGE",
                                   "expected a page_token from an earlier answer, found '" +
                                       request.page_token() + "'; begin without one");
    }
    std::erase_if(places, [&](const auto& place) {
      return !jobs::JobIndex::IsBefore(last, place, request.order());
    });
  }
  ESPALIER_ASSIGN_OR_RETURN(const Page page, MakePage(request.page_size(), "", places.size()));
  const bool has_more = page.last < places.size();
  places.resize(page.last);
  return JobPage{std::move(places), has_more};
}

jobs::JobManager::Changed AnswerWithJob(v1::Job* response,
                                        const std::function<void(const absl::Status&)>& answer) {
  return [response, answer](const absl::StatusOr<v1::Job>& job) {
    if (job.ok()) *response = Fitting(*job);
    answer(job.status());
  };
}

// One watcher of one job.
class JobWatch : public WriteStream<v1::WatchJobResponse> {
 public:
  JobWatch(const Context& context, grpc::CallbackServerContext* call, int64_t after)
      : WriteStream(context, "WatchJob", call,
                    {context.limits.watch_stall,
                     LimitError("WATCH_STALLED", "an event to be read", context.limits.watch_stall,
                                "watch again with after_sequence set to the last event that "
                                "arrived",
                                absl::StatusCode::kResourceExhausted)}),
        sequence_(after) {}

  // On the core.
  void Attach(const std::string& job, absl::StatusOr<std::shared_ptr<events::EventLog>> log) {
    // The call may have ended while the job was read.
    if (released_) return;
    const absl::Status usable = log.ok() ? CheckSequence(job, sequence_, **log) : log.status();
    if (!usable.ok()) {
      End(usable);
      return;
    }
    log_ = *std::move(log);
    listener_ = log_->Listen([this] { Pump(); });
    Pump();
  }

 protected:
  bool Produce(v1::WatchJobResponse& message, bool& at_end, absl::Status& end) override {
    // Asked before looking for an event, so that none can slip in between.
    at_end = log_->closed();
    auto event = log_->After(sequence_);
    if (!event.has_value()) return false;
    sequence_ = event->sequence();
    *message.mutable_event() = *std::move(event);
    return true;
  }

  void Released() override {
    released_ = true;
    if (log_ != nullptr) log_->Unlisten(listener_);
  }

 private:
  bool released_ = false;
  std::shared_ptr<events::EventLog> log_;
  int64_t sequence_;
  uint64_t listener_ = 0;
};

}  // namespace

grpc::ServerUnaryReactor* JobService::CreateJob(grpc::CallbackServerContext* call,
                                                const v1::CreateJobRequest* request,
                                                v1::Job* response) {
  return AnswerLater(
      context_, call, {"CreateJob", request->job_id(), [response] { return response->name(); }},
      [this, request, response](const access::Caller& caller, const Answer& answer) {
        absl::Status status = CheckSize(request->spec());
        if (status.ok()) status = CheckPretrained(context_, caller, request->spec().model());
        if (!status.ok()) {
          answer(status);
          return;
        }
        context_.jobs.Create(*request, caller.name,
                             [response, answer](jobs::JobManager::Created created) {
                               if (created.job.ok()) *response = Fitting(*std::move(created.job));
                               answer(WithFields(created.job.status(), created.violations));
                             });
      });
}

grpc::ServerUnaryReactor* JobService::GetJob(grpc::CallbackServerContext* call,
                                             const v1::GetJobRequest* request, v1::Job* response) {
  return AnswerAboutJob(call, {"GetJob", request->name()},
                        [this, request, response](const Answer& answer) {
                          context_.jobs.With(request->name(), [response, answer](const auto& job) {
                            if (job.ok()) *response = Fitting((*job)->View(true));
                            answer(job.status());
                          });
                        });
}

grpc::ServerUnaryReactor* JobService::ListJobs(grpc::CallbackServerContext* call,
                                               const v1::ListJobsRequest* request,
                                               v1::ListJobsResponse* response) {
  return AnswerLater(
      context_, call, {"ListJobs"},
      [this, request, response](const access::Caller& caller, const Answer& answer) {
        const absl::StatusOr<JobPage> page = PageOf(*request, caller, context_.jobs);
        if (!page.ok()) {
          answer(page.status());
          return;
        }
        std::vector<std::string> names;
        for (const auto& place : page->places) names.push_back(place.name);
        context_.jobs.View(names, [response, answer, page = *page](auto jobs) {
          if (!jobs.ok()) {
            answer(jobs.status());
            return;
          }
          FillPage(
              Page{0, jobs->size(), page.has_more ? std::to_string(jobs->size()) : ""},
              [&](size_t i) { return std::move((*jobs)[i]); }, response->mutable_jobs(), response);
          if (!response->next_page_token().empty()) {
            response->set_next_page_token(TokenAfter(page.places[response->jobs_size() - 1]));
          }
          answer(absl::OkStatus());
        });
      });
}

grpc::ServerUnaryReactor* JobService::ListRounds(grpc::CallbackServerContext* call,
                                                 const v1::ListRoundsRequest* request,
                                                 v1::ListRoundsResponse* response) {
  return AnswerAboutJob(
      call, {"ListRounds", request->job()}, [this, request, response](const Answer& answer) {
        context_.jobs.With(request->job(), [request, response, answer](const auto& job) {
          answer(job.ok() ? FillRounds(*request, (*job)->rounds(), *response) : job.status());
        });
      });
}

grpc::ServerUnaryReactor* JobService::CancelJob(grpc::CallbackServerContext* call,
                                                const v1::CancelJobRequest* request,
                                                v1::Job* response) {
  return AnswerAboutJob(
      call, {"CancelJob", request->name()}, [this, request, response](const Answer& answer) {
        AnswerOnceWritten(context_.jobs.Cancel(request->name()), response, answer);
      });
}

grpc::ServerUnaryReactor* JobService::PauseJob(grpc::CallbackServerContext* call,
                                               const v1::PauseJobRequest* request,
                                               v1::Job* response) {
  return AnswerAboutJob(call, {"PauseJob", request->name()},
                        [this, request, response](const Answer& answer) {
                          AnswerOnceWritten(context_.jobs.Pause(request->name()), response, answer);
                        });
}

grpc::ServerUnaryReactor* JobService::ResumeJob(grpc::CallbackServerContext* call,
                                                const v1::ResumeJobRequest* request,
                                                v1::Job* response) {
  return AnswerAboutJob(call, {"ResumeJob", request->name()},
                        [this, request, response](const Answer& answer) {
                          context_.jobs.Resume(request->name(), AnswerWithJob(response, answer));
                        });
}

grpc::ServerUnaryReactor* JobService::RetryJob(grpc::CallbackServerContext* call,
                                               const v1::RetryJobRequest* request,
                                               v1::Job* response) {
  return AnswerAboutJob(call, {"RetryJob", request->name()},
                        [this, request, response](const Answer& answer) {
                          context_.jobs.Retry(request->name(), AnswerWithJob(response, answer));
                        });
}

grpc::ServerUnaryReactor* JobService::DeleteJob(grpc::CallbackServerContext* call,
                                                const v1::DeleteJobRequest* request,
                                                v1::DeleteJobResponse* response) {
  return AnswerAboutJob(call, {"DeleteJob", request->name()},
                        [this, request, response](const Answer& answer) {
                          context_.jobs.Delete(*request, [response, answer](const auto& deleted) {
                            if (deleted.ok()) *response = *deleted;
                            answer(deleted.status());
                          });
                        });
}

grpc::ServerUnaryReactor* JobService::AnswerAboutJob(
    grpc::CallbackServerContext* call, Subject subject,
    std::function<void(const Answer& answer)> work) {
  const std::string job = subject.object;
  return AnswerLater(
      context_, call, std::move(subject),
      [this, job, work = std::move(work)](const access::Caller& caller, const Answer& answer) {
        const absl::Status own = CheckJob(context_, caller, job);
        if (own.ok()) {
          work(answer);
        } else {
          answer(own);
        }
      });
}

void JobService::AnswerOnceWritten(absl::StatusOr<v1::Job> job, v1::Job* response,
                                   const std::function<void(const absl::Status&)>& answer) {
  if (!job.ok()) {
    answer(job.status());
    return;
  }
  *response = Fitting(*std::move(job));
  context_.jobs.AnswerWhenWritten(answer);
}

grpc::ServerWriteReactor<v1::WatchJobResponse>* JobService::WatchJob(
    grpc::CallbackServerContext* call, const v1::WatchJobRequest* request) {
  const auto watch = std::make_shared<JobWatch>(context_, call, request->after_sequence());
  auto* reactor = JobWatch::Start(watch, {"WatchJob", request->name()});
  if (!watch->caller().ok() || !watch->StayOpen()) return reactor;
  context_.core.Post([this, watch, name = request->name()] {
    if (const absl::Status own = CheckJob(context_, *watch->caller(), name); !own.ok()) {
      watch->End(own);
      return;
    }
    context_.jobs.With(name, [watch, name](const auto& job) {
      watch->Attach(name, job.ok()
                              ? absl::StatusOr<std::shared_ptr<events::EventLog>>((*job)->events())
                              : job.status());
    });
  });
  return reactor;
}

}  // namespace espalier::server::api
