#include "worker/session/session.h"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/limits.h"
#include "common/base/rng.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "common/config/access/worker_policy.h"
#include "common/log/log.h"
#include "common/rpc/status.h"
#include "common/wire/proto_time.h"
#include "worker/tasks/kinds.h"

namespace espalier::worker::session {
namespace {

using metrics::Metric;

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(200);
constexpr absl::Duration kLastBackoff = absl::Seconds(5);
// Where one that takes over shall not be kept waiting.
constexpr absl::Duration kLastBackoffOfSeveral = absl::Seconds(1);
// An id in use is often this worker's own old connection, which the coordinator has yet to notice.
constexpr absl::Duration kExistsPatience = absl::Seconds(30);
constexpr auto kConnectTimeout = std::chrono::seconds(10);
// How long a worker that leaves waits for the coordinator, which may be of a version that does not
// answer, before each of its two words.
constexpr auto kGoodbyePatience = std::chrono::seconds(2);
// How often it looks whether its time is over.
constexpr absl::Duration kLeavingPace = absl::Milliseconds(100);
// The coordinator asks eight at a time; more are of one that does not keep to that.
constexpr size_t kMaxQuestions = 64;
// What travels with a registration beyond names and counts may go; jobs ask for it anyway.
constexpr size_t kMaxRegistrationBytes = size_t{512} * 1024;

int64_t PeakMemoryBytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

int64_t ResidentBytes() {
  long pages = 0;
  if (FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%*s %ld", &pages) != 1) pages = 0;
    std::fclose(file);
  }
  return int64_t{pages} * sysconf(_SC_PAGESIZE);
}

bool IsForGood(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  for (const char* word :
       {"PROTOCOL_MISMATCH", "INVALID_WORKER_ID", "WORKER_ID_MISMATCH", "CERTIFICATE_REVOKED",
        "CERTIFICATE_WITHOUT_ROLE", "ROLE_NOT_ALLOWED", "CREDENTIALS_MISSING"}) {
    if (reason == word) return true;
  }
  return false;
}

// Whether the coordinator does not know this worker any more, by its certificate. Nothing is wrong with
// the task, and another certificate, or another worker, can do it.
bool IsNotLetIn(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return status.code() == absl::StatusCode::kUnauthenticated || reason == "ROLE_NOT_ALLOWED" ||
         reason == "SESSION_OF_ANOTHER";
}

void LogKept(const v1::Task& task) {
  log::Info("result_is_kept", {{"task", task.task_id()}, {"job", task.job()}});
}

void LeaveOutNames(v1::Register& registration) {
  for (v1::DatasetInfo& dataset : *registration.mutable_datasets()) {
    dataset.clear_columns();
    dataset.clear_class_names();
  }
}

}  // namespace

Session::Session(SessionOptions options, std::vector<Coordinator> coordinators,
                 metrics::Metrics& metrics)
    : options_(std::move(options)),
      coordinators_(std::move(coordinators)),
      metrics_(metrics),
      fetches_(metrics),
      submissions_(metrics),
      executor_({.data_root = options_.data_root,
                 .state_dir = options_.state_dir,
                 .threads = options_.threads,
                 .max_dataset_bytes = options_.max_dataset_bytes,
                 .memory_limit = options_.memory_limit},
                [this](const v1::BlobRef& blob) { return fetches_.Fetch(blob); }),
      descriptions_(options_.data_root, {.max_memory_bytes = options_.max_dataset_bytes,
                                         .cancelled = &stop_describing_}),
      policy_(options_.policy),
      compute_([this] { ComputeLoop(); }),
      hand_in_([this] { HandInLoop(); }),
      heartbeat_([this] { HeartbeatLoop(); }),
      describe_([this] { DescribeLoop(); }) {}

Session::~Session() {
  Stop();
  compute_.join();
  hand_in_.join();
  heartbeat_.join();
  describe_.join();
}

void Session::Stop() {
  {
    const base::MutexLock lock(mutex_);
    stopping_ = true;
    stop_describing_ = true;
    if (context_ != nullptr) context_->TryCancel();
    CancelComputation();
    submissions_.Cancel();
  }
  changed_.NotifyAll();
  result_wanted_.NotifyAll();
}

void Session::Leave() {
  {
    const base::MutexLock lock(mutex_);
    if (leaving_) return;
    leaving_ = true;
    leave_since_ = std::chrono::steady_clock::now();
    // Whatever it was told before, the answer to what follows counts.
    drained_ = false;
    says_so_ = true;
  }
  changed_.NotifyAll();
}

void Session::Reconnect() {
  const base::MutexLock lock(mutex_);
  if (context_ == nullptr || stream_ == nullptr) return;
  registers_anew_ = true;
  context_->TryCancel();
}

bool Session::MayLeave() const {
  if (!leaving_) return false;
  if (stream_ == nullptr) return true;
  const auto since = std::chrono::steady_clock::now() - leave_since_;
  if (in_work_.task != nullptr || next_ != nullptr || handing_in_ || results_.wanted() != nullptr) {
    return since > absl::ToChronoNanoseconds(options_.drain_timeout);
  }
  // A task may be on its way until the coordinator has answered.
  return drained_ || since > kGoodbyePatience;
}

void Session::SayGoodbye() {
  {
    const base::MutexLock write_lock(write_mutex_);
    Stream* stream = nullptr;
    {
      const base::MutexLock lock(mutex_);
      stream = stream_;
    }
    // The stream stays while the outer lock is held.
    if (stream != nullptr) stream->WritesDone();
  }
  {
    const base::MutexLock lock(mutex_);
    changed_.WaitFor(mutex_, kGoodbyePatience, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || stream_ == nullptr;
    });
  }
  log::Info("worker_left");
  Stop();
}

void Session::CancelComputation() {
  in_work_.cancelled = true;
  executor_.Cancel();
  fetches_.Cancel();
}

bool Session::WaitBeforeRetry(absl::Duration wait) {
  const base::MutexLock lock(mutex_);
  return !changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(wait),
                           [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_; });
}

absl::Status Session::Run() {
  base::Rng jitter(base::StreamKey(getpid(), options_.worker_id, {}));
  absl::Duration backoff = kFirstBackoff;
  const bool several = coordinators_.size() > 1;
  const absl::Duration last_backoff = several ? kLastBackoffOfSeveral : kLastBackoff;
  absl::Time exists_since = absl::InfiniteFuture();
  for (;;) {
    registered_ = false;
    const Coordinator& coordinator = coordinators_[coordinator_];
    const absl::Status status = coordinator.explain(RunOnce());
    metrics_.Set(Metric::kWorkerConnected, 0);
    {
      const base::MutexLock lock(mutex_);
      if (stopping_) return absl::OkStatus();
      if (std::exchange(registers_anew_, false)) continue;
    }
    if (IsForGood(status)) return status;
    if (base::ReasonOf(status) == "WORKER_EXISTS") {
      exists_since = std::min(exists_since, absl::Now());
      if (absl::Now() - exists_since > kExistsPatience) return status;
    } else if (registered_ || !several) {
      // Another coordinator that cannot be reached says nothing of that.
      exists_since = absl::InfiniteFuture();
    }
    if (registered_) {
      // It may be back in a moment, and knows us.
      backoff = kFirstBackoff;
    } else {
      coordinator_ = (coordinator_ + 1) % coordinators_.size();
    }
    log::Warning("coordinator_unreachable", {{"coordinator", coordinator.address},
                                             {"reason", absl::StatusCodeToString(status.code())},
                                             {"message", base::MessageOf(status)},
                                             {"retry_in", absl::FormatDuration(backoff)}});
    if (!WaitBeforeRetry(backoff * (0.5 + jitter.Uniform()))) return absl::OkStatus();
    backoff = std::min(backoff * 2, last_backoff);
  }
}

absl::Status Session::RunOnce() {
  ESPALIER_ASSIGN_OR_RETURN(const auto channel, coordinators_[coordinator_].connect());
  const Transfer::Stub stub(v1::WorkerService::NewStub(channel));
  fetches_.Use(stub);
  submissions_.Use(stub);
  grpc::ClientContext context;
  {
    const base::MutexLock lock(mutex_);
    if (stopping_) return absl::OkStatus();
    context_ = &context;
  }
  auto stream = stub->Session(&context);
  v1::WorkerMessage hello;
  {
    const base::MutexLock lock(mutex_);
    *hello.mutable_register_() = Registration();
    registers_anew_ = false;
  }
  // The stream itself has no deadline; its first answer has one.
  std::jthread watchdog([&context](const std::stop_token& stop) {
    if (base::SleepUnlessStopped(kConnectTimeout, stop)) context.TryCancel();
  });
  v1::CoordinatorMessage message;
  if (stream->Write(hello)) {
    while (stream->Read(&message)) {
      if (message.has_welcome()) {
        watchdog.request_stop();
        fetches_.SetLimits(message.welcome());
        submissions_.SetLimits(message.welcome());
        const base::MutexLock lock(mutex_);
        heartbeat_interval_ = wire::FromProto(message.welcome().heartbeat_interval());
        stream_ = stream.get();
        registered_ = true;
        metrics_.Set(Metric::kWorkerConnected, 1);
        log::Info("registered", {{"worker", options_.worker_id},
                                 {"coordinator_version", message.welcome().coordinator_version()}});
        // An earlier coordinator was told, or none.
        says_so_ = leaving_;
        changed_.NotifyAll();
        continue;
      }
      Handle(message);
    }
  }
  watchdog.request_stop();
  {
    // A heartbeat that is being written right now must be done before the stream goes away.
    const base::MutexLock write_lock(write_mutex_);
    const base::MutexLock lock(mutex_);
    stream_ = nullptr;
    next_.reset();
    questions_.clear();
    Disown();
  }
  changed_.NotifyAll();
  const absl::Status status = rpc::FromGrpc(stream->Finish());
  const base::MutexLock lock(mutex_);
  context_ = nullptr;
  if (status.code() == absl::StatusCode::kCancelled && !registered_) {
    return absl::UnavailableError("the coordinator did not answer within 10 s");
  }
  return status.ok() ? absl::UnavailableError("the coordinator ended the session") : status;
}

v1::Register Session::Registration() const {
  v1::Register registration;
  registration.set_worker_id(options_.worker_id);
  registration.mutable_protocol()->set_min(base::kProtocolMin);
  registration.mutable_protocol()->set_max(base::kProtocolMax);
  registration.set_version(std::string(base::Version()));
  registration.set_threads(options_.threads);
  registration.set_memory_budget_bytes(options_.memory_budget_bytes);
  registration.set_flops_budget(options_.flops_budget);
  for (const v1::DatasetInfo& dataset : options_.datasets) {
    if (MayOffer(dataset.name())) *registration.add_datasets() = dataset;
  }
  if (policy_.has_value()) *registration.mutable_policy() = *policy_;
  const Results::Result* newest = results_.newest();
  const v1::Task* last = newest == nullptr ? nullptr : newest->task.get();
  if (in_work_.task != nullptr && !in_work_.cancelled) last = in_work_.task.get();
  if (last != nullptr) {
    registration.set_last_job(last->job());
    registration.set_last_participant(last->participant());
  }
  registration.set_draining(drained_ || leaving_);
  if (registration.ByteSizeLong() > kMaxRegistrationBytes) LeaveOutNames(registration);
  return registration;
}

void Session::SetPolicy(v1::WorkerPolicy policy) {
  const base::MutexLock lock(mutex_);
  policy_ = std::move(policy);
  if (in_work_.task != nullptr && !CheckAllowed(*in_work_.task).ok()) CancelComputation();
  registers_anew_ = true;
  if (context_ != nullptr) context_->TryCancel();
}

bool Session::MayOffer(const std::string& dataset) const {
  return !policy_.has_value() || config::MayAllowDataset(*policy_, dataset);
}

absl::Status Session::CheckAllowed(const v1::Task& task) const {
  const std::string refused =
      policy_.has_value() ? config::RefusedBy(*policy_, config::TraitsOf(task)) : "";
  if (refused.empty()) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kPermissionDenied, "TASK_NOT_ALLOWED",
                         "expected a task that this worker's policy allows, found one of " +
                             task.job() + ": it does not allow " + refused);
}

v1::DatasetInfo Session::Describe(const v1::DataSpec& data) {
  {
    const base::MutexLock lock(mutex_);
    if (!MayOffer(data.dataset())) {
      log::Warning("description_refused", {{"dataset", data.dataset()}});
      v1::DatasetInfo info;
      info.set_name(data.dataset());
      info.set_problem("this worker's policy allows no jobs about this data set");
      return info;
    }
  }
  return descriptions_.Get(data);
}

void Session::Handle(const v1::CoordinatorMessage& message) {
  const base::MutexLock lock(mutex_);
  if (stopping_) return;
  if (message.has_task()) Take(std::make_shared<const v1::Task>(message.task()));
  if (message.has_describe_dataset() && questions_.size() < kMaxQuestions) {
    questions_.push_back(message.describe_dataset());
    changed_.NotifyAll();
  }
  if (message.has_set_draining()) {
    drained_ = message.set_draining().draining();
    if (!leaving_) log::Info(drained_ ? "worker_drained" : "worker_undrained");
    changed_.NotifyAll();
  }
  if (message.has_cancel_task()) CancelTask(message.cancel_task().task_id());
}

void Session::Take(TaskPtr task) {
  if (results_.Claim(task)) {
    log::Info("result_is_there", {{"task", task->task_id()}, {"job", task->job()}});
    result_wanted_.NotifyOne();
    return;
  }
  if (in_work_.disowned && !in_work_.cancelled && KeyOf(*task) == KeyOf(*in_work_.task)) {
    log::Info("task_goes_on", {{"task", task->task_id()}, {"job", task->job()}});
    fetches_.BeginTask(task->job());
    in_work_ = {.task = std::move(task)};
    return;
  }
  results_.Forget();
  if (in_work_.disowned) CancelComputation();
  next_ = std::move(task);
  changed_.NotifyAll();
}

void Session::CancelTask(const std::string& id) {
  if (next_ != nullptr && next_->task_id() == id) next_.reset();
  if (in_work_.task != nullptr && !in_work_.disowned && in_work_.task->task_id() == id) {
    CancelComputation();
  }
  if (results_.Cancel(id)) submissions_.Cancel();
}

void Session::Disown() {
  fetches_.Cancel();
  submissions_.Cancel();
  results_.Disown();
  in_work_.disowned = in_work_.task != nullptr;
}

std::string Session::IdInWork() const {
  if (in_work_.task != nullptr) return in_work_.task->task_id();
  const Results::Result* result = results_.wanted();
  return result == nullptr ? "" : result->task->task_id();
}

bool Session::Write(const v1::WorkerMessage& message) {
  const base::MutexLock write_lock(write_mutex_);
  Stream* stream = nullptr;
  {
    const base::MutexLock lock(mutex_);
    stream = stream_;
  }
  return stream != nullptr && stream->Write(message);
}

void Session::HeartbeatLoop() {
  base::MutexLock lock(mutex_);
  while (!stopping_) {
    const absl::Duration interval = heartbeat_interval_;
    changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(leaving_ ? kLeavingPace : interval),
                     [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                       // A coordinator that wants to hear more often does so from the beginning.
                       return stopping_ || says_so_ || MayLeave() ||
                              heartbeat_interval_ != interval;
                     });
    if (stopping_) return;
    if (MayLeave()) {
      lock.Unlock();
      SayGoodbye();
      return;
    }
    v1::WorkerMessage message;
    if (std::exchange(says_so_, false)) {
      message.mutable_drain();
    } else {
      message.mutable_heartbeat()->set_task_id(IdInWork());
    }
    lock.Unlock();
    if (message.has_heartbeat()) message.mutable_heartbeat()->set_resident_bytes(ResidentBytes());
    Write(message);
    metrics_.Set(Metric::kWorkerPeakMemory, static_cast<double>(PeakMemoryBytes()));
    lock.Lock();
  }
}

void Session::DescribeLoop() {
  base::MutexLock lock(mutex_);
  for (;;) {
    changed_.Wait(mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || !questions_.empty();
    });
    if (stopping_) return;
    const v1::DescribeDataset question = std::move(questions_.front());
    questions_.pop_front();
    lock.Unlock();
    v1::WorkerMessage message;
    message.mutable_description()->set_request_id(question.request_id());
    *message.mutable_description()->mutable_info() = Describe(question.data());
    Write(message);
    lock.Lock();
  }
}

void Session::ComputeLoop() {
  base::MutexLock lock(mutex_);
  for (;;) {
    changed_.Wait(mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || (next_ != nullptr && results_.HasRoom());
    });
    if (stopping_) return;
    const TaskPtr task = std::exchange(next_, nullptr);
    in_work_ = {.task = task};
    executor_.BeginTask();
    fetches_.BeginTask(task->job());
    lock.Unlock();
    absl::StatusOr<tasks::Partial> partial = Compute(*task);
    if (!partial.ok()) ReportFailure(*task, partial.status(), executor_.cancelled());
    lock.Lock();
    const InWork ended = std::exchange(in_work_, {});
    if (partial.ok() && ended.cancelled) {
      ReportFailure(*task, tasks::Cancelled(), ended.cancelled);
    } else if (partial.ok()) {
      if (ended.disowned) LogKept(*task);
      results_.Add(ended.task, *std::move(partial), !ended.disowned);
      result_wanted_.NotifyOne();
    } else if (ended.task != task && !ended.cancelled && next_ == nullptr) {
      // It was asked for again after it had failed for want of a connection, or while it ended.
      next_ = ended.task;
    }
    // The heartbeats' thread looks whether anything is left to be done.
    if (leaving_) changed_.NotifyAll();
  }
}

absl::StatusOr<tasks::Partial> Session::Compute(const v1::Task& task) {
  const absl::Time start = absl::Now();
  {
    const base::MutexLock lock(mutex_);
    ESPALIER_RETURN_IF_ERROR(CheckAllowed(task));
  }
  ESPALIER_ASSIGN_OR_RETURN(tasks::Partial partial, executor_.Run(task));
  const absl::Duration elapsed = absl::Now() - start;
  metrics_.Observe(Metric::kWorkerTaskDuration, absl::ToDoubleSeconds(elapsed),
                   tasks::KindWord(task));
  metrics_.Set(Metric::kWorkerActiveWeights, static_cast<double>(executor_.active_weights()));
  partial.header.set_peak_memory_bytes(PeakMemoryBytes());
  wire::SetDuration(elapsed, partial.header.mutable_compute_time());
  return partial;
}

void Session::HandInLoop() {
  base::MutexLock lock(mutex_);
  for (;;) {
    result_wanted_.Wait(mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || results_.wanted() != nullptr;
    });
    if (stopping_) return;
    const Results::Result& result = results_.Begin();
    const TaskPtr task = result.task;
    const int64_t examples = result.partial.header.examples();
    handing_in_ = true;
    // The policy may have changed since the task was begun.
    absl::Status status = result.cancelled ? tasks::Cancelled() : CheckAllowed(*task);
    if (status.ok()) {
      submissions_.BeginTask(task->job());
      lock.Unlock();
      status = submissions_.Submit(result.partial.header, result.partial.body);
      lock.Lock();
    }
    const bool cancelled = result.cancelled || stopping_;
    const Results::Fate fate = results_.End(status.ok());
    if (fate == Results::Fate::kKept && !stopping_) LogKept(*task);
    lock.Unlock();
    if (fate == Results::Fate::kOver && status.ok()) ReportDone(*task, examples);
    if (fate == Results::Fate::kOver && !status.ok()) ReportFailure(*task, status, cancelled);
    lock.Lock();
    handing_in_ = false;
    if (leaving_ || next_ != nullptr) changed_.NotifyAll();
  }
}

void Session::ReportDone(const v1::Task& task, int64_t examples) {
  const char* kind = tasks::KindWord(task);
  metrics_.Add(Metric::kWorkerTasks, 1, kind, "done");
  if (task.has_echo()) return;
  metrics_.Add(Metric::kWorkerExamples, static_cast<double>(examples), kind);
}

void Session::ReportFailure(const v1::Task& task, const absl::Status& status, bool cancelled) {
  if (IsNotLetIn(status)) {
    log::Warning("not_let_in", {{"task", task.task_id()}, {"message", base::MessageOf(status)}});
    Reconnect();
    return;
  }
  // A task that was cancelled, or whose round closed meanwhile, is nobody's concern any more.
  const bool moot = cancelled || status.code() == absl::StatusCode::kAborted ||
                    status.code() == absl::StatusCode::kCancelled;
  metrics_.Add(Metric::kWorkerTasks, 1, tasks::KindWord(task), moot ? "cancelled" : "failed");
  if (moot) return;
  log::Error("task_failed", {{"task", task.task_id()},
                             {"job", task.job()},
                             {"reason", base::ReasonOf(status)},
                             {"message", base::MessageOf(status)}});
  v1::WorkerMessage message;
  v1::TaskFailed& failure = *message.mutable_task_failed();
  failure.set_task_id(task.task_id());
  *failure.mutable_epoch() = task.epoch();
  failure.set_code(static_cast<int>(status.code()));
  failure.set_reason(base::ReasonOf(status).empty() ? absl::StatusCodeToString(status.code())
                                                    : base::ReasonOf(status));
  failure.set_message(base::MessageOf(status));
  Write(message);
}

}  // namespace espalier::worker::session
