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
#include "common/base/status.h"
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
  return reason == "PROTOCOL_MISMATCH" || reason == "INVALID_WORKER_ID";
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
      transfer_(metrics),
      executor_({.data_root = options_.data_root,
                 .state_dir = options_.state_dir,
                 .threads = options_.threads,
                 .max_dataset_bytes = options_.max_dataset_bytes,
                 .memory_limit = options_.memory_limit},
                [this](const v1::BlobRef& blob) { return transfer_.Fetch(blob); }),
      descriptions_(options_.data_root, {.max_memory_bytes = options_.max_dataset_bytes,
                                         .cancelled = &stop_describing_}),
      compute_([this] { ComputeLoop(); }),
      heartbeat_([this] { HeartbeatLoop(); }),
      describe_([this] { DescribeLoop(); }) {}

Session::~Session() {
  Stop();
  compute_.join();
  heartbeat_.join();
  describe_.join();
}

void Session::Stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    stop_describing_ = true;
    if (context_ != nullptr) context_->TryCancel();
  }
  CancelCurrent();
  changed_.notify_all();
}

void Session::Leave() {
  {
    const std::lock_guard lock(mutex_);
    if (leaving_) return;
    leaving_ = true;
    leave_since_ = std::chrono::steady_clock::now();
    // Whatever it was told before, the answer to what follows counts.
    drained_ = false;
    says_so_ = true;
  }
  changed_.notify_all();
}

bool Session::MayLeave() const {
  if (!leaving_) return false;
  if (stream_ == nullptr) return true;
  const auto since = std::chrono::steady_clock::now() - leave_since_;
  if (!current_task_.empty() || next_.has_value()) {
    return since > absl::ToChronoNanoseconds(options_.drain_timeout);
  }
  // A task may be on its way until the coordinator has answered.
  return drained_ || since > kGoodbyePatience;
}

void Session::SayGoodbye(std::unique_lock<std::mutex>& lock) {
  lock.unlock();
  {
    const std::lock_guard write_lock(write_mutex_);
    lock.lock();
    Stream* stream = stream_;
    lock.unlock();
    // The stream stays while this lock is held.
    if (stream != nullptr) stream->WritesDone();
  }
  lock.lock();
  changed_.wait_for(lock, kGoodbyePatience, [this] { return stopping_ || stream_ == nullptr; });
  lock.unlock();
  log::Info("worker_left");
  Stop();
  lock.lock();
}

void Session::CancelCurrent() {
  executor_.Cancel();
  transfer_.Cancel();
}

bool Session::WaitBeforeRetry(absl::Duration wait) {
  std::unique_lock lock(mutex_);
  return !changed_.wait_for(lock, absl::ToChronoNanoseconds(wait), [this] { return stopping_; });
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
      const std::lock_guard lock(mutex_);
      if (stopping_) return absl::OkStatus();
    }
    if (IsForGood(status)) return status;
    if (base::ReasonOf(status) == "WORKER_EXISTS") {
      exists_since = std::min(exists_since, absl::Now());
      if (absl::Now() - exists_since > kExistsPatience) return status;
    } else {
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
  transfer_.Use(stub);
  grpc::ClientContext context;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return absl::OkStatus();
    context_ = &context;
  }
  auto stream = stub->Session(&context);
  v1::WorkerMessage hello;
  v1::Register& registration = *hello.mutable_register_();
  registration.set_worker_id(options_.worker_id);
  registration.mutable_protocol()->set_min(base::kProtocolMin);
  registration.mutable_protocol()->set_max(base::kProtocolMax);
  registration.set_version(ESPALIER_VERSION);
  registration.set_threads(options_.threads);
  registration.set_memory_budget_bytes(options_.memory_budget_bytes);
  registration.set_flops_budget(options_.flops_budget);
  registration.mutable_datasets()->Assign(options_.datasets.begin(), options_.datasets.end());
  {
    const std::lock_guard lock(mutex_);
    registration.set_last_job(current_job_.empty() ? unclaimed_.job() : current_job_);
    registration.set_last_participant(current_job_.empty() ? unclaimed_.participant()
                                                           : current_participant_);
    registration.set_draining(drained_ || leaving_);
  }
  if (registration.ByteSizeLong() > kMaxRegistrationBytes) LeaveOutNames(registration);
  // The stream itself has no deadline; its first answer has one.
  std::jthread watchdog([&context](const std::stop_token& stop) {
    std::mutex mutex;
    std::unique_lock lock(mutex);
    std::condition_variable_any done;
    done.wait_for(lock, stop, kConnectTimeout, [] { return false; });
    if (!stop.stop_requested()) context.TryCancel();
  });
  v1::CoordinatorMessage message;
  if (stream->Write(hello)) {
    while (stream->Read(&message)) {
      if (message.has_welcome()) {
        watchdog.request_stop();
        transfer_.SetLimits(message.welcome());
        const std::lock_guard lock(mutex_);
        heartbeat_interval_ = wire::FromProto(message.welcome().heartbeat_interval());
        stream_ = stream.get();
        registered_ = true;
        metrics_.Set(Metric::kWorkerConnected, 1);
        log::Info("registered", {{"worker", options_.worker_id},
                                 {"coordinator_version", message.welcome().coordinator_version()}});
        // An earlier coordinator was told, or none.
        says_so_ = leaving_;
        changed_.notify_all();
        continue;
      }
      Handle(message);
    }
  }
  watchdog.request_stop();
  {
    // A heartbeat that is being written right now must be done before the stream goes away.
    const std::lock_guard write_lock(write_mutex_);
    const std::lock_guard lock(mutex_);
    stream_ = nullptr;
    next_.reset();
    questions_.clear();
  }
  changed_.notify_all();
  Disown();
  const absl::Status status = rpc::FromGrpc(stream->Finish());
  const std::lock_guard lock(mutex_);
  context_ = nullptr;
  if (status.code() == absl::StatusCode::kCancelled && !registered_) {
    return absl::UnavailableError("the coordinator did not answer within 10 s");
  }
  return status.ok() ? absl::UnavailableError("the coordinator ended the session") : status;
}

void Session::Handle(const v1::CoordinatorMessage& message) {
  const std::lock_guard lock(mutex_);
  if (message.has_task()) {
    if (disowned_ && KeyOf(message.task()) == current_key_) {
      adopted_ = message.task();
      current_task_ = message.task().task_id();
      disowned_ = false;
      transfer_.BeginTask(message.task().job());
      log::Info("task_goes_on", {{"task", current_task_}, {"job", message.task().job()}});
    } else {
      if (disowned_) CancelCurrent();
      next_ = message.task();
    }
    changed_.notify_all();
  }
  if (message.has_describe_dataset() && questions_.size() < kMaxQuestions) {
    questions_.push_back(message.describe_dataset());
    changed_.notify_all();
  }
  if (message.has_set_draining()) {
    drained_ = message.set_draining().draining();
    if (!leaving_) log::Info(drained_ ? "worker_drained" : "worker_undrained");
    changed_.notify_all();
  }
  if (message.has_cancel_task()) {
    const std::string& id = message.cancel_task().task_id();
    if (next_.has_value() && next_->task_id() == id) next_.reset();
    if (current_task_ == id) {
      adopted_.reset();
      CancelCurrent();
    }
  }
}

void Session::Disown() {
  const std::lock_guard lock(mutex_);
  transfer_.Cancel();
  adopted_.reset();
  disowned_ = !current_task_.empty();
}

bool Session::Write(const v1::WorkerMessage& message) {
  const std::lock_guard write_lock(write_mutex_);
  Stream* stream = nullptr;
  {
    const std::lock_guard lock(mutex_);
    stream = stream_;
  }
  return stream != nullptr && stream->Write(message);
}

void Session::HeartbeatLoop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const absl::Duration pace = leaving_ ? kLeavingPace : heartbeat_interval_;
    changed_.wait_for(lock, absl::ToChronoNanoseconds(pace),
                      [this] { return stopping_ || says_so_ || MayLeave(); });
    if (!stopping_ && MayLeave()) SayGoodbye(lock);
    if (stopping_) return;
    v1::WorkerMessage message;
    if (std::exchange(says_so_, false)) {
      message.mutable_drain();
    } else {
      message.mutable_heartbeat()->set_task_id(current_task_);
    }
    lock.unlock();
    if (message.has_heartbeat()) message.mutable_heartbeat()->set_resident_bytes(ResidentBytes());
    Write(message);
    metrics_.Set(Metric::kWorkerPeakMemory, static_cast<double>(PeakMemoryBytes()));
    lock.lock();
  }
}

void Session::DescribeLoop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !questions_.empty(); });
    if (stopping_) return;
    const v1::DescribeDataset question = std::move(questions_.front());
    questions_.pop_front();
    lock.unlock();
    v1::WorkerMessage message;
    message.mutable_description()->set_request_id(question.request_id());
    *message.mutable_description()->mutable_info() = descriptions_.Get(question.data());
    Write(message);
    lock.lock();
  }
}

void Session::ComputeLoop() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || next_.has_value(); });
    if (stopping_) return;
    const v1::Task task = *std::exchange(next_, std::nullopt);
    current_task_ = task.task_id();
    current_key_ = KeyOf(task);
    current_job_ = task.job();
    current_participant_ = task.participant();
    disowned_ = false;
    adopted_.reset();
    executor_.BeginTask();
    transfer_.BeginTask(task.job());
    lock.unlock();
    Compute(task);
    lock.lock();
    // It was asked for again in the moment in which it ended, or it had lost its connection.
    if (adopted_.has_value() && !next_.has_value()) next_ = std::exchange(adopted_, std::nullopt);
    current_task_.clear();
    changed_.notify_all();
    current_job_.clear();
    disowned_ = false;
  }
}

absl::StatusOr<tasks::Partial> Session::Result(const v1::Task& task) {
  {
    const std::lock_guard lock(mutex_);
    if (auto kept = unclaimed_.Take(task)) {
      log::Info("result_is_there", {{"task", task.task_id()}, {"job", task.job()}});
      return *std::move(kept);
    }
  }
  const absl::Time start = absl::Now();
  ESPALIER_ASSIGN_OR_RETURN(tasks::Partial partial, executor_.Run(task));
  const absl::Duration elapsed = absl::Now() - start;
  metrics_.Observe(Metric::kWorkerTaskDuration, absl::ToDoubleSeconds(elapsed),
                   tasks::KindWord(task));
  metrics_.Set(Metric::kWorkerActiveWeights, static_cast<double>(executor_.active_weights()));
  partial.header.set_peak_memory_bytes(PeakMemoryBytes());
  wire::SetDuration(elapsed, partial.header.mutable_compute_time());
  return partial;
}

bool Session::StillWanted(v1::Task& task) {
  const std::lock_guard lock(mutex_);
  if (adopted_.has_value()) task = *std::exchange(adopted_, std::nullopt);
  return !disowned_;
}

void Session::Compute(v1::Task task) {
  absl::StatusOr<tasks::Partial> partial = Result(task);
  absl::Status status = partial.status();
  // Whenever the connection ends meanwhile, somebody may ask for the same again.
  while (partial.ok()) {
    if (StillWanted(task)) {
      Readdress(task, *partial);
      status = transfer_.Submit(partial->header, partial->body);
      if (status.ok()) break;
    }
    const std::lock_guard lock(mutex_);
    if (adopted_.has_value()) continue;
    if (disowned_ && !stopping_) {
      log::Info("result_is_kept", {{"task", task.task_id()}, {"job", task.job()}});
      unclaimed_.Keep(task, *std::move(partial));
      return;
    }
    if (disowned_) status = absl::CancelledError("the worker stops");
    break;
  }
  const char* kind = tasks::KindWord(task);
  if (status.ok()) {
    metrics_.Add(Metric::kWorkerTasks, 1, kind, "done");
    if (!task.has_echo()) {
      metrics_.Add(Metric::kWorkerExamples, static_cast<double>(partial->header.examples()), kind);
    }
    return;
  }
  ReportFailure(task, status);
}

void Session::ReportFailure(const v1::Task& task, const absl::Status& status) {
  // A task that was cancelled, or whose round closed meanwhile, is nobody's concern any more.
  const bool moot = executor_.cancelled() || status.code() == absl::StatusCode::kAborted ||
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
