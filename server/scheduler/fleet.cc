#include "server/scheduler/fleet.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "common/wire/proto_time.h"

namespace espalier::server::scheduler {
namespace {

v1::CoordinatorMessage MakeWelcome(const base::Limits& limits, uint32_t protocol,
                                   uint64_t session) {
  v1::CoordinatorMessage message;
  v1::Welcome& welcome = *message.mutable_welcome();
  welcome.set_protocol(protocol);
  welcome.set_coordinator_version(ESPALIER_VERSION);
  wire::SetDuration(limits.heartbeat_interval, welcome.mutable_heartbeat_interval());
  wire::SetDuration(limits.heartbeat_timeout, welcome.mutable_heartbeat_timeout());
  wire::SetDuration(limits.transfer_timeout, welcome.mutable_transfer_timeout());
  welcome.set_chunk_bytes(limits.chunk_bytes);
  welcome.set_inline_bytes(limits.inline_bytes);
  welcome.set_max_update_bytes(limits.max_update_bytes);
  welcome.set_session(session);
  return message;
}

}  // namespace

absl::StatusOr<uint64_t> Fleet::Register(const v1::Register& hello,
                                         std::shared_ptr<WorkerLink> link) {
  if (!config::IsValidId(hello.worker_id())) {
    return base::InvalidArgument(
        "INVALID_WORKER_ID",
        "expected a worker id of 1 to 63 lower-case letters, digits and '-', "
        "beginning with a letter; found '" +
            hello.worker_id() + "'; start the worker with another --id");
  }
  const uint32_t protocol = std::min(hello.protocol().max(), base::kProtocolMax);
  if (protocol < base::kProtocolMin || protocol < hello.protocol().min()) {
    return base::FailedPrecondition(
        "PROTOCOL_MISMATCH",
        "expected a worker that speaks protocol " + std::to_string(base::kProtocolMin) + " to " +
            std::to_string(base::kProtocolMax) + ", found " +
            std::to_string(hello.protocol().min()) + " to " +
            std::to_string(hello.protocol().max()) + " (worker version " + hello.version() +
            ", coordinator version " ESPALIER_VERSION "); install the same version on both");
  }
  // Workers that are gone are remembered for `worker list` only as long as there is room.
  if (workers_.size() >= static_cast<size_t>(limits_.max_workers)) {
    std::erase_if(workers_, [](const auto& entry) { return entry.second.link == nullptr; });
  }
  if (workers_.size() >= static_cast<size_t>(limits_.max_workers) &&
      !workers_.contains(hello.worker_id())) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_WORKERS",
                           "expected at most " + std::to_string(limits_.max_workers) +
                               " workers; stop some or start another coordinator");
  }
  WorkerEntry& worker = workers_[hello.worker_id()];
  if (worker.link != nullptr) {
    return base::MakeError(absl::StatusCode::kAlreadyExists, "WORKER_EXISTS",
                           "a worker with id '" + hello.worker_id() +
                               "' is connected already; start this one with another --id, or stop "
                               "the other and wait " +
                               absl::FormatDuration(limits_.heartbeat_timeout));
  }
  if (worker.session != 0) ++reconnects_;
  worker.session = next_session_++;
  worker.link = std::move(link);
  worker.last_seen = clock_.Elapsed();
  worker.last_job.clear();
  v1::Worker& view = worker.view;
  view.set_name("workers/" + hello.worker_id());
  view.set_state(v1::Worker::STATE_ACTIVE);
  view.set_version(hello.version());
  view.set_threads(hello.threads());
  view.set_memory_budget_bytes(hello.memory_budget_bytes());
  view.set_flops_budget(hello.flops_budget());
  *view.mutable_datasets() = hello.datasets();
  wire::SetTimestamp(clock_.Wall(), view.mutable_register_time());
  wire::SetTimestamp(clock_.Wall(), view.mutable_last_seen_time());
  by_session_[worker.session] = hello.worker_id();
  worker.link->Send(MakeWelcome(limits_, protocol, worker.session));
  const uint64_t session = worker.session;
  Dispatch();
  return session;
}

Fleet::WorkerEntry* Fleet::FindBySession(uint64_t session) {
  const auto it = by_session_.find(session);
  return it == by_session_.end() ? nullptr : &workers_.at(it->second);
}

void Fleet::Heartbeat(uint64_t session, const v1::Heartbeat& heartbeat) {
  WorkerEntry* worker = FindBySession(session);
  if (worker == nullptr) return;
  worker->last_seen = clock_.Elapsed();
  worker->view.set_resident_bytes(heartbeat.resident_bytes());
  wire::SetTimestamp(clock_.Wall(), worker->view.mutable_last_seen_time());
}

void Fleet::TaskFailed(uint64_t session, const v1::TaskFailed& failure) {
  WorkerEntry* worker = FindBySession(session);
  if (worker == nullptr || worker->task_id.empty() || worker->task_id != failure.task_id()) return;
  if (tasks_.at(worker->task_id).request.task.epoch() != failure.epoch()) return;
  worker->view.set_tasks_failed(worker->view.tasks_failed() + 1);
  worker->last_job.clear();
  ReleaseTask(*worker, TaskLoss{true, by_session_.at(session), failure.reason(),
                                failure.message().substr(0, 4096)});
  Dispatch();
}

void Fleet::Drain(uint64_t session) {
  WorkerEntry* worker = FindBySession(session);
  if (worker == nullptr) return;
  worker->view.set_state(v1::Worker::STATE_DRAINING);
}

void Fleet::Disconnected(uint64_t session) {
  WorkerEntry* worker = FindBySession(session);
  if (worker != nullptr) Lose(*worker, "WORKER_DISCONNECTED", "the worker's connection ended");
}

void Fleet::Lose(WorkerEntry& worker, const std::string& reason, const std::string& message) {
  by_session_.erase(worker.session);
  if (on_session_lost) on_session_lost(worker.session);
  worker.link = nullptr;
  worker.view.set_state(v1::Worker::STATE_LOST);
  const std::string id = worker.view.name().substr(sizeof("workers/") - 1);
  if (!worker.task_id.empty()) ++lease_expirations_;
  ReleaseTask(worker, TaskLoss{false, id, reason, message});
  Dispatch();
}

void Fleet::ReleaseTask(WorkerEntry& worker, const TaskLoss& loss) {
  if (worker.task_id.empty()) return;
  const auto it = tasks_.find(worker.task_id);
  worker.task_id.clear();
  worker.view.clear_task();
  worker.view.clear_job();
  TaskEntry entry = std::move(it->second);
  tasks_.erase(it);
  --running_by_job_[entry.request.task.job()];
  if (entry.request.on_lost) entry.request.on_lost(loss);
}

std::string Fleet::Request(TaskRequest request) {
  const std::string id = "task-" + std::to_string(next_task_++);
  request.task.set_task_id(id);
  tasks_[id] = TaskEntry{std::move(request), ""};
  queue_.push_back(id);
  Dispatch();
  return id;
}

void Fleet::Withdraw(const std::string& task_id, const std::string& reason) {
  const auto it = tasks_.find(task_id);
  if (it == tasks_.end()) return;
  const std::string worker_id = it->second.worker;
  if (worker_id.empty()) {
    queue_.erase(std::find(queue_.begin(), queue_.end(), task_id));
    tasks_.erase(it);
    return;
  }
  WorkerEntry& worker = workers_.at(worker_id);
  it->second.request.on_lost = nullptr;
  v1::CoordinatorMessage message;
  message.mutable_cancel_task()->set_task_id(task_id);
  message.mutable_cancel_task()->set_reason(reason);
  worker.link->Send(message);
  ReleaseTask(worker, {});
  Dispatch();
}

absl::Status Fleet::CheckLease(uint64_t session, const std::string& task_id, uint64_t epoch) const {
  const auto worker = by_session_.find(session);
  const auto task = tasks_.find(task_id);
  if (worker != by_session_.end() && task != tasks_.end() &&
      task->second.worker == worker->second && task->second.request.task.epoch() == epoch) {
    return absl::OkStatus();
  }
  return base::MakeError(absl::StatusCode::kAborted, "LEASE_EXPIRED",
                         "expected a live lease on " + task_id + " with epoch " +
                             std::to_string(epoch) +
                             "; it ended (round closed, job ended, or given to another worker); "
                             "discard the result and wait for the next task");
}

void Fleet::Complete(const std::string& task_id) {
  const auto it = tasks_.find(task_id);
  if (it == tasks_.end() || it->second.worker.empty()) return;
  it->second.request.on_lost = nullptr;
  WorkerEntry& worker = workers_.at(it->second.worker);
  worker.view.set_tasks_completed(worker.view.tasks_completed() + 1);
  const v1::Task& task = it->second.request.task;
  if (worker.last_job != task.job()) worker.last_trained.clear();
  worker.last_job = task.job();
  if (task.has_train()) worker.last_trained = task.participant();
  ReleaseTask(worker, {});
  Dispatch();
}

void Fleet::Tick() {
  const absl::Duration now = clock_.Elapsed();
  std::vector<std::string> silent;
  for (const auto& [id, worker] : workers_) {
    if (worker.link != nullptr && now - worker.last_seen > limits_.heartbeat_timeout) {
      silent.push_back(id);
    }
  }
  for (const std::string& id : silent) {
    WorkerEntry& worker = workers_.at(id);
    const auto link = worker.link;
    const std::string message =
        "no heartbeat for " + absl::FormatDuration(limits_.heartbeat_timeout);
    Lose(worker, "HEARTBEAT_TIMEOUT", message);
    link->Close(base::MakeError(absl::StatusCode::kAborted, "HEARTBEAT_TIMEOUT",
                                message + "; register again"));
  }
}

bool Fleet::IsIdle(const WorkerEntry& worker) {
  return worker.link != nullptr && worker.task_id.empty() &&
         worker.view.state() == v1::Worker::STATE_ACTIVE;
}

void Fleet::CloseAll() {
  for (auto& [id, worker] : workers_) {
    if (worker.link == nullptr) continue;
    worker.link->Close(base::MakeError(absl::StatusCode::kUnavailable, "COORDINATOR_STOPS",
                                       "the coordinator stops; connect again later"));
  }
}

bool Fleet::CanDo(const std::string& id, const WorkerEntry& worker,
                  const TaskRequest& request) const {
  return IsIdle(worker) && (request.only_worker.empty() || request.only_worker == id) &&
         !request.not_workers.contains(id) && OffersData(worker.view, request.needs) &&
         HasBudget(worker.view, request.needs);
}

int Fleet::Familiarity(const WorkerEntry& worker, const v1::Task& task) {
  if (worker.last_job != task.job()) return 0;
  return worker.last_trained == task.participant() ? 2 : 1;
}

Fleet::WorkerEntry* Fleet::PickWorker(const TaskRequest& request) {
  // Among equals the one that did least so far: spreads work and is the same in every run.
  const auto rank = [&request](const WorkerEntry& worker) {
    return std::pair(-Familiarity(worker, request.task), worker.view.tasks_completed());
  };
  WorkerEntry* best = nullptr;
  for (auto& [id, worker] : workers_) {
    if (!CanDo(id, worker, request)) continue;
    if (best == nullptr || rank(worker) < rank(*best)) best = &worker;
  }
  return best;
}

void Fleet::Lease(const std::string& task_id, TaskEntry& entry, WorkerEntry& worker) {
  const std::string worker_id = worker.view.name().substr(sizeof("workers/") - 1);
  entry.worker = worker_id;
  entry.request.task.set_epoch(next_epoch_++);
  worker.task_id = task_id;
  worker.view.set_task(task_id);
  worker.view.set_job(entry.request.task.job());
  ++running_by_job_[entry.request.task.job()];
  v1::CoordinatorMessage message;
  *message.mutable_task() = entry.request.task;
  worker.link->Send(message);
  if (entry.request.on_leased) entry.request.on_leased(worker_id);
}

void Fleet::Dispatch() {
  // Most calls find everybody busy, and the queue may be long.
  while (std::any_of(workers_.begin(), workers_.end(),
                     [](const auto& entry) { return IsIdle(entry.second); })) {
    std::string chosen;
    WorkerEntry* chosen_worker = nullptr;
    int fewest = 0;
    for (const std::string& id : queue_) {
      TaskRequest& request = tasks_.at(id).request;
      const int running = running_by_job_[request.task.job()];
      if (!chosen.empty() && running >= fewest) continue;
      WorkerEntry* worker = PickWorker(request);
      if (worker == nullptr) continue;
      chosen = id;
      chosen_worker = worker;
      fewest = running;
    }
    if (chosen.empty()) return;
    queue_.erase(std::find(queue_.begin(), queue_.end(), chosen));
    Lease(chosen, tasks_.at(chosen), *chosen_worker);
  }
}

std::vector<std::string> Fleet::WorkersWith(const Requirements& needs) const {
  std::vector<std::string> ids;
  for (const auto& [id, worker] : workers_) {
    if (worker.link != nullptr && worker.view.state() == v1::Worker::STATE_ACTIVE &&
        OffersData(worker.view, needs) && HasBudget(worker.view, needs)) {
      ids.push_back(id);
    }
  }
  return ids;
}

std::set<std::string> Fleet::Datasets() const {
  std::set<std::string> names;
  for (const auto& [id, worker] : workers_) {
    if (worker.link == nullptr) continue;
    for (const auto& dataset : worker.view.datasets()) names.insert(dataset.name());
  }
  return names;
}

std::vector<v1::Worker> Fleet::List() const {
  std::vector<v1::Worker> views;
  for (const auto& [id, worker] : workers_) views.push_back(worker.view);
  return views;
}

std::map<v1::Worker::State, int> Fleet::CountByState() const {
  std::map<v1::Worker::State, int> counts;
  for (const auto& [id, worker] : workers_) ++counts[worker.view.state()];
  return counts;
}

size_t Fleet::active() const { return WorkersWith({}).size(); }

std::string Fleet::worker_of(uint64_t session) const {
  const auto it = by_session_.find(session);
  return it == by_session_.end() ? "" : it->second;
}

}  // namespace espalier::server::scheduler
