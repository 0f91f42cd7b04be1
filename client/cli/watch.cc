#include "client/cli/watch.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "client/cli/format.h"
#include "client/cli/output.h"
#include "client/cli/progress.h"
#include "common/base/mutex.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/io/standard_output.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

// Says why a job makes no progress: asks for its conditions whenever no event came for a while.
class WaitExplainer {
 public:
  WaitExplainer(client::Client& client, std::string name,
                std::function<void(const std::string&)> explain)
      : client_(client), name_(std::move(name)), explain_(std::move(explain)) {
    thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
  }

  void EventSeen() { events_ += 1; }

 private:
  void Run(const std::stop_token& stop) {
    constexpr auto kQuiet = std::chrono::seconds(2);
    while (!stop.stop_requested()) {
      const int64_t before = events_;
      if (base::SleepUnlessStopped(kQuiet, stop) && events_ == before) Ask(stop);
    }
  }

  void Ask(const std::stop_token& stop) {
    const auto job = client_.GetJob(name_, stop);
    if (!job.ok() || job->conditions().empty()) return;
    std::string text;
    for (const v1::Condition& condition : job->conditions()) {
      text += (text.empty() ? "" : "; ") + condition.type() + ": " + condition.message();
    }
    if (text != told_) explain_(text);
    told_ = text;
  }

  client::Client& client_;
  std::string name_;
  std::function<void(const std::string&)> explain_;
  std::string told_;
  std::atomic<int64_t> events_ = 0;
  std::jthread thread_;
};

void PrintEvent(const Context& context, const v1::JobEvent& event) {
  context.out << ToJson(event, Layout::kLine) << std::flush;
}

constexpr char kStoppedWhileLost[] = "STOPPED_WHILE_LOST";

// `lost`: without a connection to the coordinator, which may have ended.
absl::Status Interrupted(const std::string& name, bool lost) {
  const std::string text =
      lost ? fmt::format(
                 "stopped watching; the coordinator cannot be reached, and {} goes on when it is "
                 "back.",
                 name)
           : fmt::format("stopped watching; {} goes on.", name);
  return WithFurtherLines(base::MakeError(absl::StatusCode::kCancelled, "INTERRUPTED", text),
                          {fmt::format("Watch again:  espalier job watch {}", name),
                           fmt::format("Cancel it:    espalier job cancel {}", name)});
}

}  // namespace

absl::StatusOr<v1::Job> ObserveJob(client::Client& client, const std::string& name,
                                   int64_t after_sequence, const JobObserver& observer,
                                   const std::stop_token& stop, absl::Time deadline) {
  base::Mutex mutex;  // the explainer calls from its own thread
  const auto note = [&](const std::string& text) {
    const base::MutexLock lock(mutex);
    observer.on_note(text);
  };
  bool lost = false;  // said once, however many attempts follow
  {
    WaitExplainer explainer(client, name, note);
    const absl::Status watched = client.WatchJob(
        name, after_sequence,
        [&](const v1::JobEvent& event) {
          explainer.EventSeen();
          lost = false;
          const base::MutexLock lock(mutex);
          observer.on_event(event);
        },
        [&](const absl::Status& broken) {
          if (!std::exchange(lost, true)) {
            note("connection lost, trying again: " + base::MessageOf(broken));
          }
        },
        stop, deadline);
    if (watched.code() == absl::StatusCode::kCancelled && lost) {
      return base::MakeError(watched.code(), kStoppedWhileLost, base::MessageOf(watched));
    }
    ESPALIER_RETURN_IF_ERROR(watched);
  }
  return client.GetJob(name, stop);
}

absl::StatusOr<v1::Job> FollowJob(Context& context, client::Client& client, const v1::Job& job,
                                  const WatchOptions& options) {
  Progress progress(context.err, context.err_terminal, job);
  std::stop_source ended_early;
  const std::stop_callback forward(context.stop(), [&] { ended_early.request_stop(); });
  const auto on_event = [&](const v1::JobEvent& event) {
    if (options.events_as_json) PrintEvent(context, event);
    // Nobody gets what follows.
    if (!context.out) ended_early.request_stop();
    if (options.show_progress) progress.OnEvent(event);
  };
  const absl::Time deadline = context.options.timeout_given
                                  ? absl::Now() + context.options.client.timeout
                                  : absl::InfiniteFuture();
  auto ended = ObserveJob(client, job.name(), options.after_sequence,
                          {on_event, [&](const std::string& text) { progress.Note(text); }},
                          ended_early.get_token(), deadline);
  progress.Finish();
  if (!context.out) return io::Unwritten();
  if (ended.status().code() == absl::StatusCode::kCancelled) {
    return Interrupted(job.name(), base::ReasonOf(ended.status()) == kStoppedWhileLost);
  }
  return ended;
}

void PrintOutcome(const Context& context, const v1::Job& job) {
  Fields fields = {{"job", job.name()}, {"state", StateWord(job.state())}};
  if (!job.failure_reason().empty()) {
    fields.emplace_back("reason", job.failure_reason());
    fields.emplace_back("message", job.failure_message());
  }
  fields.emplace_back("round", fmt::format("{} of {}", job.round(), TotalRounds(job)));
  const bool pruned = job.history_size() > 0 && job.history().rbegin()->has_dense_test_accuracy();
  if (HasBest(job) && !pruned) {
    fields.emplace_back(
        "best " + ScoreName(job.spec()),
        fmt::format("{} (round {})", ScoreText(job.spec(), job.best_metric()), job.best_round()));
  }
  // Of a job with runs, its table of them says more than its last round.
  if (job.history_size() > 0 && job.runs().empty()) {
    const v1::RoundSummary& last = *job.history().rbegin();
    const auto& metrics =
        last.test_metrics().empty() ? last.federated_test_metrics() : last.test_metrics();
    const bool same_as_loss =
        std::any_of(metrics.begin(), metrics.end(), [](const v1::Metric& metric) {
          return metric.name() == "log_loss" || metric.name() == "perplexity";
        });
    for (const v1::Metric& metric : metrics) {
      // Those of single labels are for programs.
      if (metric.name().find('/') != std::string::npos) continue;
      if (metric.name() == "loss" && same_as_loss) continue;
      fields.emplace_back(metric.name(), MetricText(metric.name(), metric.value()));
    }
    if (last.has_dense_perplexity()) {
      fields.emplace_back("perplexity before", fmt::format("{:.4f}", last.dense_perplexity()));
    }
    if (!last.has_dense_perplexity() && last.has_dense_test_accuracy()) {
      fields.emplace_back("accuracy before", Percent(last.dense_test_accuracy()));
    }
    if (last.has_knee_sparsity()) {
      fields.emplace_back("knee", fmt::format("sparsity {:.4g}", last.knee_sparsity()));
    }
    fields.emplace_back("density", fmt::format("{:.4g}", last.density()));
    fields.emplace_back("active weights", std::to_string(last.active_weights()));
  }
  if (!job.latest_checkpoint().empty()) fields.emplace_back("checkpoint", job.latest_checkpoint());
  PrintFields(context.out, context.out_terminal, fields);
}

}  // namespace espalier::cli
