#include "server/scheduler/fleet.h"

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/proto_time.h"
#include "server/scheduler/worker_words.h"

namespace espalier::server::scheduler {
namespace {

// A worker that fails so many tasks of a step, and completes none, is given no more of them.
constexpr int kMaxStrikes = 3;
constexpr absl::Duration kRememberLosses = Quarantine::kShortLivesWithin;

uint64_t RandomNumber(base::Entropy& entropy) {
  uint64_t number = 0;
  std::memcpy(&number, entropy.Bytes(sizeof number).data(), sizeof number);
  return number;
}

bool SameEpoch(const v1::Epoch& a, const v1::Epoch& b) {
  return a.incarnation() == b.incarnation() && a.counter() == b.counter();
}

}  // namespace

Fleet::Fleet(const base::Clock& clock, const base::Limits& limits, base::Entropy& entropy,
             std::optional<uint64_t> incarnation)
    : clock_(clock),
      limits_(limits),
      entropy_(entropy),
      incarnation_(incarnation.has_value() ? *incarnation : RandomNumber(entropy)),
      everyone_(MakePool({})) {}

bool Fleet::IsIdle(const WorkerEntry& worker) const {
  return worker.link != nullptr && worker.task_id.empty() &&
         worker.view.state() == v1::Worker::STATE_ACTIVE;
}

void Fleet::Update(WorkerPool& pool, const WorkerEntry& worker, const std::string& id) {
  pool.Update(worker.view, worker.policy.has_value() ? &*worker.policy : nullptr, id);
}

void Fleet::Refresh(const WorkerEntry& worker) {
  const std::string id = WorkerId(worker.view);
  std::erase_if(pools_, [&](const std::weak_ptr<WorkerPool>& weak) {
    const auto pool = weak.lock();
    if (pool != nullptr) Update(*pool, worker, id);
    return pool == nullptr;
  });
  if (IsIdle(worker)) {
    idle_.insert(id);
  } else {
    idle_.erase(id);
  }
}

std::shared_ptr<WorkerPool> Fleet::MakePool(Requirements needs) {
  auto pool = std::make_shared<WorkerPool>(std::move(needs));
  for (const auto& [id, worker] : workers_) Update(*pool, worker, id);
  std::erase_if(pools_, [](const std::weak_ptr<WorkerPool>& weak) { return weak.expired(); });
  pools_.push_back(pool);
  return pool;
}

// -- workers --

void Fleet::Heartbeat(const SessionKey& session, const v1::Heartbeat& heartbeat) {
  WorkerEntry* worker = FindBySession(session);
  if (worker == nullptr) return;
  worker->last_seen = clock_.Elapsed();
  worker->view.set_resident_bytes(std::max<int64_t>(0, heartbeat.resident_bytes()));
  wire::SetTimestamp(clock_.Wall(), worker->view.mutable_last_seen_time());
}

void Fleet::TaskFailed(const SessionKey& session, const v1::TaskFailed& failure) {
  WorkerEntry* worker = FindBySession(session);
  if (worker == nullptr || worker->task_id.empty() || worker->task_id != failure.task_id()) return;
  const Lease& lease = leases_.at(worker->task_id);
  if (!SameEpoch(lease.epoch, failure.epoch())) return;
  const std::string id = lease.worker;
  Group& group = *groups_.at(lease.group);
  ++group.strikes[id];
  if (IsUnfit(failure.reason())) group.spec.pool->Exclude(id);
  worker->view.set_tasks_failed(worker->view.tasks_failed() + 1);
  worker->last_job.clear();
  const TaskLoss loss{true, id, IsProven(*worker), CleanReason(failure.reason()),
                      CutMessage(failure.message())};
  const GroupId group_id = lease.group;
  const std::string owner = lease.owner;
  Release(*worker, &loss);
  OfferWorker(id);
  OfferIfOpen(group_id);
  OfferOwner(owner);
}

void Fleet::Release(WorkerEntry& worker, const TaskLoss* loss) {
  const auto it = leases_.find(worker.task_id);
  const Lease lease = std::move(it->second);
  leases_.erase(it);
  const std::string task_id = std::exchange(worker.task_id, "");
  worker.view.clear_task();
  worker.view.clear_job();
  CountLease(lease, -1);
  Refresh(worker);
  const std::shared_ptr<Group> group = groups_.at(lease.group);
  group->leases.erase(task_id);
  if (loss != nullptr && group->spec.on_lost) group->spec.on_lost(lease.index, *loss);
}

// A lease less leaves room in the group's width. Its owner may have closed it meanwhile.
void Fleet::OfferIfOpen(GroupId group_id) {
  if (groups_.contains(group_id)) Offer(group_id);
}

// -- dispatch --

void Fleet::CountLease(const Lease& lease, int change) {
  const auto count = [change](std::map<std::string, int>& running, const std::string& name) {
    const auto it = running.try_emplace(name).first;
    it->second += change;
    if (it->second == 0) running.erase(it);
  };
  count(running_by_job_, lease.job);
  count(running_by_owner_, lease.owner);
}

bool Fleet::HasRoom(const std::string& owner) const {
  const auto& most = quotas_.Of(owner).running_tasks;
  if (!most.has_value()) return true;
  const auto running = running_by_owner_.find(owner);
  return (running == running_by_owner_.end() ? 0 : running->second) < *most;
}

void Fleet::OfferOwner(const std::string& owner) {
  // Without a quota nothing waited for this.
  if (!quotas_.Of(owner).running_tasks.has_value()) return;
  std::vector<std::pair<int, GroupId>> order;
  for (const auto& [group_id, group] : groups_) {
    if (group->spec.owner != owner || !HasWaiting(*group)) continue;
    const auto running = running_by_job_.find(group->spec.job);
    order.emplace_back(running == running_by_job_.end() ? 0 : running->second, group_id);
  }
  std::sort(order.begin(), order.end());
  for (const auto& [running, group_id] : order) OfferIfOpen(group_id);
}

void Fleet::SetQuotas(config::Quotas quotas) {
  quotas_ = std::move(quotas);
  std::vector<GroupId> all;
  all.reserve(groups_.size());
  for (const auto& [group_id, group] : groups_) all.push_back(group_id);
  for (const GroupId group_id : all) OfferIfOpen(group_id);
}

std::optional<int64_t> Fleet::HeldByQuota(GroupId group_id) const {
  const Group& group = *groups_.at(group_id);
  if (!group.leases.empty() || !HasWaiting(group) || HasRoom(group.spec.owner)) return std::nullopt;
  return quotas_.Of(group.spec.owner).running_tasks;
}

Fleet::TaskCount Fleet::CountTasks() const {
  TaskCount count{.leased = leases_.size()};
  for (const auto& [group_id, group] : groups_) {
    count.waiting += group->fresh_count + group->again.size();
    for (const auto& [worker, tasks] : group->pinned) count.waiting += tasks.size();
  }
  return count;
}

bool Fleet::HasWaiting(const Group& group) {
  return group.fresh_count > 0 || !group.again.empty() || !group.pinned.empty();
}

bool Fleet::TakesAnyTaskOf(const std::string& worker, const Group& group) const {
  if (!group.spec.pool->CanDo(worker)) return false;
  const auto strikes = group.strikes.find(worker);
  return strikes == group.strikes.end() || strikes->second < kMaxStrikes;
}

int Fleet::Trust(const std::string& worker, const QueuedTask& task) const {
  return (IsProven(workers_.at(worker)) ? 2 : 0) + (task.vanished_workers.contains(worker) ? 0 : 1);
}

bool Fleet::MayTake(const std::string& worker, const Group& group, const QueuedTask& task) const {
  if (task.not_workers.contains(worker) || !TakesAnyTaskOf(worker, group)) return false;
  if (!task.again) return true;
  const int trust = Trust(worker, task);
  const std::set<std::string>& able = group.spec.pool->able();
  return std::none_of(able.begin(), able.end(), [&](const std::string& other) {
    return !task.not_workers.contains(other) && TakesAnyTaskOf(other, group) &&
           Trust(other, task) > trust;
  });
}

std::optional<size_t> Fleet::TakeFresh(const WorkerEntry& worker, Group& group) {
  if (group.fresh_count == 0) return std::nullopt;
  const auto take = [&group](size_t index) {
    group.is_fresh[index] = false;
    --group.fresh_count;
    return index;
  };
  if (worker.last_job == group.spec.job && !worker.last_trained.empty()) {
    const auto familiar = group.spec.find(worker.last_trained);
    if (familiar.has_value() && *familiar < group.is_fresh.size() && group.is_fresh[*familiar]) {
      return take(*familiar);
    }
  }
  while (!group.is_fresh[group.fresh.front()]) group.fresh.pop_front();
  const size_t index = group.fresh.front();
  group.fresh.pop_front();
  return take(index);
}

std::optional<Fleet::Taken> Fleet::Take(const std::string& id, const WorkerEntry& worker,
                                        Group& group) {
  if (static_cast<int>(group.leases.size()) >= group.width) return std::nullopt;
  if (!HasRoom(group.spec.owner)) return std::nullopt;
  const auto pinned = group.pinned.find(id);
  if (pinned != group.pinned.end() && group.spec.pool->able().contains(id)) {
    const size_t index = pinned->second.front();
    pinned->second.pop_front();
    if (pinned->second.empty()) group.pinned.erase(pinned);
    return Taken{.index = index};
  }
  const auto again = std::find_if(group.again.begin(), group.again.end(),
                                  [&](const auto& task) { return MayTake(id, group, task); });
  if (again != group.again.end()) {
    const size_t index = again->index;
    group.again.erase(again);
    return Taken{.index = index, .again = true};
  }
  if (!TakesAnyTaskOf(id, group)) return std::nullopt;
  const std::optional<size_t> fresh = TakeFresh(worker, group);
  if (!fresh.has_value()) return std::nullopt;
  return Taken{.index = *fresh};
}

bool Fleet::LeaseTo(const std::string& id, WorkerEntry& worker, GroupId group_id, Group& group) {
  const std::optional<Taken> taken = Take(id, worker, group);
  if (!taken.has_value()) return false;
  const std::string task_id = "task-" + std::to_string(next_task_++);
  v1::CoordinatorMessage message;
  v1::Task& task = *message.mutable_task();
  task = group.spec.make_task(taken->index);
  task.set_task_id(task_id);
  task.mutable_epoch()->set_incarnation(incarnation_);
  task.mutable_epoch()->set_counter(next_epoch_++);
  const Lease& lease = leases_[task_id] = {group_id,           taken->index,     id,
                                           task.epoch(),       group.spec.job,   group.spec.owner,
                                           task.participant(), task.has_train(), taken->again};
  group.leases.insert(task_id);
  worker.task_id = task_id;
  worker.view.set_task(task_id);
  worker.view.set_job(task.job());
  CountLease(lease, 1);
  Refresh(worker);
  worker.link->Send(message);
  if (group.spec.on_leased) group.spec.on_leased(taken->index, task, id);
  return true;
}

void Fleet::OfferWorker(const std::string& id) {
  WorkerEntry& worker = workers_.at(id);
  if (!IsIdle(worker)) return;
  // Users with less in work come first, of their jobs those with less, and of those with equally much
  // the one that waits longest.
  std::vector<std::tuple<int, int, GroupId>> order;
  order.reserve(groups_.size());
  const auto count = [](const std::map<std::string, int>& running, const std::string& name) {
    const auto it = running.find(name);
    return it == running.end() ? 0 : it->second;
  };
  for (const auto& [group_id, group] : groups_) {
    if (!HasWaiting(*group) || !HasRoom(group->spec.owner)) continue;
    order.emplace_back(count(running_by_owner_, group->spec.owner),
                       count(running_by_job_, group->spec.job), group_id);
  }
  std::sort(order.begin(), order.end());
  for (const auto& [of_owner, of_job, group_id] : order) {
    if (LeaseTo(id, worker, group_id, *groups_.at(group_id))) return;
  }
}

GroupId Fleet::Open(TaskGroup group) {
  const GroupId id = next_group_++;
  groups_[id] = std::make_shared<Group>();
  groups_[id]->spec = std::move(group);
  return id;
}

void Fleet::Queue(GroupId group_id, QueuedTask task) {
  Group& group = *groups_.at(group_id);
  if (!task.only_worker.empty()) {
    group.pinned[task.only_worker].push_back(task.index);
    return;
  }
  if (task.again || !task.not_workers.empty()) {
    group.again.push_back(std::move(task));
    return;
  }
  if (group.is_fresh.size() <= task.index) group.is_fresh.resize(task.index + 1);
  group.is_fresh[task.index] = true;
  ++group.fresh_count;
  group.fresh.push_back(task.index);
}

void Fleet::Offer(GroupId group_id) {
  const std::shared_ptr<Group> group = groups_.at(group_id);
  if (!HasWaiting(*group)) return;
  // Those that know the job come first, then those that did least so far: this spreads work and is
  // the same in every run.
  std::vector<std::tuple<bool, int64_t, std::string>> order;
  for (const std::string& id : idle_) {
    const WorkerEntry& worker = workers_.at(id);
    if (!group->spec.pool->able().contains(id)) continue;
    order.emplace_back(worker.last_job != group->spec.job, worker.view.tasks_completed(), id);
  }
  std::sort(order.begin(), order.end());
  for (const auto& [stranger, completed, id] : order) {
    if (static_cast<int>(group->leases.size()) >= group->width) return;
    if (!HasRoom(group->spec.owner)) return;
    LeaseTo(id, workers_.at(id), group_id, *group);
  }
}

void Fleet::SetWidth(GroupId group_id, int width) {
  groups_.at(group_id)->width = width;
  Offer(group_id);
}

bool Fleet::CouldDo(GroupId group_id, const QueuedTask& task) const {
  const Group& group = *groups_.at(group_id);
  const std::set<std::string>& able = group.spec.pool->able();
  if (!task.only_worker.empty()) {
    return able.contains(task.only_worker) && !task.not_workers.contains(task.only_worker);
  }
  return std::any_of(able.begin(), able.end(), [&](const std::string& id) {
    return !task.not_workers.contains(id) && TakesAnyTaskOf(id, group);
  });
}

bool Fleet::HasWorkerFor(GroupId group_id) const {
  const Group& group = *groups_.at(group_id);
  if (group.fresh_count > 0 && CouldDo(group_id, {})) return true;
  const std::set<std::string>& able = group.spec.pool->able();
  return std::any_of(group.pinned.begin(), group.pinned.end(),
                     [&](const auto& pinned) { return able.contains(pinned.first); }) ||
         std::any_of(group.again.begin(), group.again.end(),
                     [&](const QueuedTask& task) { return CouldDo(group_id, task); });
}

void Fleet::Close(GroupId group_id, const std::string& reason) {
  const auto it = groups_.find(group_id);
  if (it == groups_.end()) return;
  const std::shared_ptr<Group> group = std::move(it->second);
  groups_.erase(it);
  std::vector<std::string> freed;
  for (const std::string& task_id : group->leases) {
    const auto lease = leases_.find(task_id);
    const std::string id = lease->second.worker;
    WorkerEntry& worker = workers_.at(id);
    CountLease(lease->second, -1);
    leases_.erase(lease);
    worker.task_id.clear();
    worker.view.clear_task();
    worker.view.clear_job();
    Refresh(worker);
    v1::CoordinatorMessage message;
    message.mutable_cancel_task()->set_task_id(task_id);
    message.mutable_cancel_task()->set_reason(reason);
    if (worker.link != nullptr) worker.link->Send(message);
    freed.push_back(id);
  }
  for (const std::string& id : freed) OfferWorker(id);
  if (!freed.empty()) OfferOwner(group->spec.owner);
}

absl::Status Fleet::CheckLease(const SessionKey& session, const std::string& task_id,
                               const v1::Epoch& epoch) const {
  const auto worker = by_session_.find(session);
  const auto lease = leases_.find(task_id);
  if (worker != by_session_.end() && lease != leases_.end() &&
      SameEpoch(lease->second.epoch, epoch)) {
    if (lease->second.worker == worker->second) return absl::OkStatus();
    return base::MakeError(absl::StatusCode::kPermissionDenied, "LEASE_OF_ANOTHER",
                           "expected a result of the worker that has the task, found one of '" +
                               worker->second + "'; send results of your own tasks only");
  }
  return base::MakeError(absl::StatusCode::kAborted, "LEASE_EXPIRED",
                         "expected a live lease of the session that sends this; it ended (round "
                         "closed, job ended, given to another worker, or of another life of the "
                         "coordinator); discard the result and wait for the next task");
}

std::string Fleet::JobOf(const std::string& task_id) const {
  const auto lease = leases_.find(task_id);
  return lease == leases_.end() ? "" : lease->second.job;
}

std::string Fleet::ParticipantOf(const std::string& task_id) const {
  const auto lease = leases_.find(task_id);
  return lease == leases_.end() ? "" : lease->second.participant;
}

void Fleet::Complete(const std::string& task_id) {
  const auto it = leases_.find(task_id);
  if (it == leases_.end()) return;
  const Lease& lease = it->second;
  const std::string id = lease.worker;
  WorkerEntry& worker = workers_.at(id);
  if (worker.last_job != lease.job) worker.last_trained.clear();
  worker.last_job = lease.job;
  if (lease.trains) worker.last_trained = lease.participant;
  const GroupId group_id = lease.group;
  const std::string owner = lease.owner;
  Release(worker, nullptr);
  OfferWorker(id);
  OfferIfOpen(group_id);
  OfferOwner(owner);
}

void Fleet::CountResult(GroupId group_id, const std::string& worker_id, bool good) {
  const auto worker = workers_.find(worker_id);
  if (worker == workers_.end()) return;
  v1::Worker& view = worker->second.view;
  if (good) {
    view.set_tasks_completed(view.tasks_completed() + 1);
    quarantine_.GoodResult(worker_id);
    groups_.at(group_id)->strikes.erase(worker_id);
  } else {
    view.set_tasks_failed(view.tasks_failed() + 1);
    ++groups_.at(group_id)->strikes[worker_id];
  }
}

// -- time --

void Fleet::Tick() {
  const absl::Duration now = clock_.Elapsed();
  while (!losses_.empty() && now - losses_.front().at > kRememberLosses) losses_.pop_front();
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
    log::Warning("worker_silent", {{"worker", id}, {"message", message}, {"task", worker.task_id}});
    Lose(worker, "HEARTBEAT_TIMEOUT", message);
    link->Close(base::MakeError(absl::StatusCode::kAborted, "HEARTBEAT_TIMEOUT",
                                message + "; register again"));
  }
  ForgetGoneWorkers();
  EndQuarantines();
  // Tasks that waited for a worker of more trust may go to others when that one has left.
  std::vector<GroupId> waiting;
  for (const auto& [group_id, group] : groups_) {
    if (!group->again.empty()) waiting.push_back(group_id);
  }
  for (const GroupId group_id : waiting) OfferIfOpen(group_id);
}

int Fleet::LostBetween(absl::Duration from, absl::Duration to) const {
  return static_cast<int>(std::count_if(losses_.begin(), losses_.end(), [&](const Loss& loss) {
    return loss.at >= from && loss.at <= to;
  }));
}

void Fleet::CloseAll() {
  for (auto& [id, worker] : workers_) {
    if (worker.link == nullptr) continue;
    worker.link->Close(base::MakeError(absl::StatusCode::kUnavailable, "COORDINATOR_STOPS",
                                       "the coordinator stops; connect again later"));
  }
}

void Fleet::Tell(const std::string& worker, const v1::CoordinatorMessage& message) {
  const auto it = workers_.find(worker);
  if (it != workers_.end() && it->second.link != nullptr) it->second.link->Send(message);
}

void Fleet::Reconsider(const std::string& worker) {
  const auto it = workers_.find(worker);
  if (it == workers_.end() || it->second.link == nullptr) return;
  Refresh(it->second);
  OfferWorker(worker);
}

// -- views --

std::set<std::string> Fleet::Datasets() const {
  std::set<std::string> names;
  for (const auto& [id, worker] : workers_) {
    if (worker.link == nullptr) continue;
    for (const auto& dataset : worker.view.datasets()) {
      // What cannot be used is told, but not offered.
      const bool usable = dataset.problem().empty() || !dataset.format().empty();
      if (usable) names.insert(dataset.name());
    }
  }
  return names;
}

std::vector<v1::Worker> Fleet::List() const {
  std::vector<v1::Worker> views;
  views.reserve(workers_.size());
  for (const auto& [id, worker] : workers_) views.push_back(worker.view);
  return views;
}

const v1::Worker* Fleet::Find(const std::string& worker) const {
  const auto it = workers_.find(worker);
  return it == workers_.end() ? nullptr : &it->second.view;
}

std::map<v1::Worker::State, int> Fleet::CountByState() const {
  std::map<v1::Worker::State, int> counts;
  for (const auto& [id, worker] : workers_) ++counts[worker.view.state()];
  return counts;
}

std::string Fleet::worker_of(const SessionKey& session) const {
  const auto it = by_session_.find(session);
  return it == by_session_.end() ? "" : it->second;
}

SessionKey Fleet::SessionOf(const std::string& worker) const {
  const auto it = workers_.find(worker);
  return it == workers_.end() || it->second.link == nullptr ? "" : it->second.session;
}

}  // namespace espalier::server::scheduler
