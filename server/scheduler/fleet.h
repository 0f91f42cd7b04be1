// Fleet: the workers that are connected, and the leases they hold.
//
// A step of a job opens a group of tasks and queues its participants' tasks in it. The fleet gives
// each to an idle worker that can do it, tells the owner when a lease begins, and when it is lost
// (worker gone, silent, or failed). One worker does one task at a time. Users take turns, and the
// jobs of one user: a free worker goes to the user with the fewest running tasks, and of his jobs to
// the one with the fewest. Nobody is given more than the quota of tasks says. Of a job's tasks a worker gets the one of
// the participant that it trained last, else those that were lost or failed elsewhere, else the
// oldest.
//
// Dispatch:    between two calls no idle worker could be given any task that waits. So a worker
//              that becomes idle is compared with the groups, a group that has something new with
//              the idle workers, and nothing ever looks through all tasks that wait.
// Memory:      a task that waits is an index; the task itself is made when it is leased.
// Threading:   lives on the core executor; no locks.
// Time:        Tick() must be called regularly; silence is measured on the injected clock's
//              Elapsed().
// Fencing:     sessions are 128 random bits; every lease has an epoch that never repeats, not even
//              in another life of the coordinator. Messages that carry others are stale.
// Quarantine:  a worker whose results were refused as no honest worker's are, or that comes and goes,
//              is given no tasks for a while (quarantine.h). It stays connected; the task that it
//              has goes to another one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/entropy.h"
#include "common/base/limits.h"
#include "common/config/access/quotas.h"
#include "espalier/v1/cluster.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/scheduler/quarantine.h"
#include "server/scheduler/worker_pool.h"

namespace espalier::server::scheduler {

// A secret that identifies one registration of a worker. It is never printed.
using SessionKey = std::string;

// The stream to one worker. Implemented by the API layer and by tests.
class WorkerLink {
 public:
  virtual ~WorkerLink() = default;
  virtual void Send(const v1::CoordinatorMessage& message) = 0;
  // Ends the stream. The fleet does not use the link afterwards.
  virtual void Close(const absl::Status& status) = 0;
};

// Why a task came back without a result.
struct TaskLoss {
  bool failed = false;  // the worker reported an error; else it vanished
  std::string worker;
  bool proven = false;  // the worker has completed a task in this life of the coordinator
  std::string reason;
  std::string message;
  // Nothing speaks against the task: the worker ended on purpose, or was put into quarantine.
  bool excused = false;
};

// The tasks of one step. Indices are the owner's.
struct TaskGroup {
  std::string job;
  std::string owner = {};  // whose quota its tasks count for; "" = nobody's
  std::shared_ptr<WorkerPool> pool;
  // The task, complete but for id and epoch.
  std::function<v1::Task(size_t index)> make_task;
  // The index of the participant of that name, if there is one.
  std::function<std::optional<size_t>(const std::string& participant)> find;
  std::function<void(size_t index, const v1::Task& task, const std::string& worker)> on_leased;
  std::function<void(size_t index, const TaskLoss& loss)> on_lost;
};
using GroupId = uint64_t;

// One task that waits.
struct QueuedTask {
  size_t index = 0;
  std::string only_worker = {};            // "" = any
  std::set<std::string> not_workers = {};  // those that failed at it before
  // It was lost or failed before. It goes to the best of the workers that could do it: proven ones
  // before others, and those that did not vanish with it before those that did. It waits for them.
  bool again = false;
  std::set<std::string> vanished_workers = {};
};

class Fleet {
 public:
  // `incarnation` tells the lives of coordinators apart; absent, it is drawn from `entropy`.
  Fleet(const base::Clock& clock, const base::Limits& limits, base::Entropy& entropy,
        std::optional<uint64_t> incarnation = std::nullopt);

  // -- workers --
  // A worker says hello. Replies with Welcome on the link. A worker of the same id that is silent
  // or gone is replaced; one that is alive makes this AlreadyExists. Errors: InvalidArgument (bad
  // id, or what worker_words.h refuses), FailedPrecondition PROTOCOL_MISMATCH, AlreadyExists
  // WORKER_EXISTS, ResourceExhausted TOO_MANY_WORKERS.
  absl::StatusOr<SessionKey> Register(const v1::Register& hello, std::shared_ptr<WorkerLink> link);
  void Heartbeat(const SessionKey& session, const v1::Heartbeat& heartbeat);
  void TaskFailed(const SessionKey& session, const v1::TaskFailed& failure);
  // The worker ends on purpose: it takes no more tasks, and is gone once its session ends.
  void Leave(const SessionKey& session);
  // An operator's wish: whether a worker that is connected is given no more tasks. It stays. To be
  // given tasks again ends a quarantine, too. Errors: NotFound WORKER_NOT_FOUND, FailedPrecondition
  // WORKER_GONE, WORKER_LEAVES.
  absl::StatusOr<v1::Worker> SetDraining(const std::string& id, bool draining);
  void Disconnected(const SessionKey& session);
  // When the certificate ends that the worker showed.
  void NoteCertificateEnd(const SessionKey& session, absl::Time end);
  // A result of the worker was refused for a reason that no honest worker gives. Returns whether it
  // counts as a strike: the same result again does not.
  bool Strike(const std::string& id, const std::string& update_id, const std::string& reason);

  // -- jobs --
  // A pool that is kept up to date for as long as somebody holds it.
  std::shared_ptr<WorkerPool> MakePool(Requirements needs);
  GroupId Open(TaskGroup group);
  // Adds a task that waits. Offer() must follow.
  void Queue(GroupId group, QueuedTask task);
  // Gives the group's waiting tasks to idle workers.
  void Offer(GroupId group);
  // At most so many of the group's tasks are leased at a time; those that are stay. Offers.
  void SetWidth(GroupId group, int width);
  // What each user may have in work, from now on; what is in work beyond it stays. Offers.
  void SetQuotas(config::Quotas quotas);
  // Whether nothing of the group is leased while tasks of it wait, since as many tasks of its owner
  // are in work as the quota allows; then that number.
  std::optional<int64_t> HeldByQuota(GroupId group) const;
  // Whether a connected worker could do one of the tasks that wait.
  bool HasWorkerFor(GroupId group) const;
  // Whether a connected worker of the group's pool could still be given this task.
  bool CouldDo(GroupId group, const QueuedTask& task) const;
  // Withdraws all tasks of the group; its callbacks are not called any more.
  void Close(GroupId group, const std::string& reason);

  // The lease of a task that is being submitted. Errors: Aborted LEASE_EXPIRED; PermissionDenied
  // LEASE_OF_ANOTHER when a live lease is another worker's than the session's.
  absl::Status CheckLease(const SessionKey& session, const std::string& task_id,
                          const v1::Epoch& epoch) const;
  // The job of a leased task; "" when it is not leased.
  std::string JobOf(const std::string& task_id) const;
  // Whose part it is; "" when it is not leased.
  std::string ParticipantOf(const std::string& task_id) const;
  // Says something to a worker that is no task. Nothing happens when it is gone.
  void Tell(const std::string& worker, const v1::CoordinatorMessage& message);
  // What pools know of the worker changed: it may be able to do other tasks now.
  void Reconsider(const std::string& worker);
  // The result has arrived: the worker is free again.
  void Complete(const std::string& task_id);
  // The result of one of the group's tasks, which this worker completed, was good, or refused.
  void CountResult(GroupId group, const std::string& worker, bool good);

  // Expires silent workers, and forgets those that are gone for long.
  void Tick();
  // Ends every session with Unavailable: the coordinator stops.
  void CloseAll();

  // -- views --
  std::set<std::string> Datasets() const;
  std::vector<v1::Worker> List() const;
  // Null when there is no worker of that id.
  const v1::Worker* Find(const std::string& worker) const;
  size_t active() const { return everyone_->able().size(); }
  std::map<v1::Worker::State, int> CountByState() const;
  struct TaskCount {
    size_t waiting = 0;  // for a worker
    size_t leased = 0;
  };
  TaskCount CountTasks() const;
  // For a sentence that says how many are active: "; 2 more take no tasks, …", or "".
  std::string AndIdled() const;
  // What of a job the policy of a connected worker refuses, as config::RefusedBy() says it; "" where
  // it allows the job, and for workers that are not there.
  std::string RefusedBy(const std::string& worker, const config::JobTraits& job) const;
  // For a sentence that says who could do the job: "; 3 workers have data set 'toy' and do not allow
  // jobs of 'bob'", or "".
  std::string AndRefusing(const Requirements& needs) const;
  bool known_session(const SessionKey& session) const { return by_session_.contains(session); }
  std::string worker_of(const SessionKey& session) const;
  // "" when no worker of that id is connected.
  SessionKey SessionOf(const std::string& worker) const;
  // Workers whose sessions ended between the two times, both included; of the last two minutes.
  int LostBetween(absl::Duration from, absl::Duration to) const;
  uint64_t incarnation() const { return incarnation_; }
  uint64_t lease_expirations() const { return lease_expirations_; }
  uint64_t reconnects() const { return reconnects_; }

  // Called when a worker registers, before it is welcomed or given any task; set once.
  std::function<void(const std::string& worker)> on_registered;
  // Called when a session ends, so that its transfers can be ended too; set once.
  std::function<void(const SessionKey& session)> on_session_lost;

 private:
  struct WorkerEntry {
    v1::Worker view;
    SessionKey session;
    std::shared_ptr<WorkerLink> link;  // null when it is gone
    absl::Duration last_seen;
    std::optional<v1::WorkerPolicy> policy = {};
    bool drained = false;  // by an operator
    bool leaving = false;  // it said so
    std::string task_id;
    // What it completed last and may still have at hand.
    std::string last_job;
    std::string last_trained;  // participant of that job
  };
  struct Lease {
    GroupId group = 0;
    size_t index = 0;
    std::string worker;
    v1::Epoch epoch;
    std::string job;
    std::string owner;
    std::string participant;
    bool trains = false;
    bool again = false;  // others lost the task, or failed at it
  };
  struct Taken {
    size_t index = 0;
    bool again = false;
  };
  struct Group {
    TaskGroup spec;
    int width = std::numeric_limits<int>::max();
    std::set<std::string> leases;  // task ids
    std::deque<size_t> fresh;      // may still name tasks that were taken out of turn
    std::vector<bool> is_fresh;    // by index
    size_t fresh_count = 0;
    std::map<std::string, std::deque<size_t>> pinned;  // by the only worker that can
    std::vector<QueuedTask> again;
    std::map<std::string, int> strikes;  // failures of a worker since it completed one of the tasks
  };

  static bool IsProven(const WorkerEntry& worker) { return worker.view.tasks_completed() > 0; }
  static void Update(WorkerPool& pool, const WorkerEntry& worker, const std::string& id);
  WorkerEntry* FindBySession(const SessionKey& session);
  bool IsIdle(const WorkerEntry& worker) const;
  // State, data sets, budgets or policy changed.
  void Refresh(const WorkerEntry& worker);
  void ForgetGoneWorkers();
  void ApplyDraining(WorkerEntry& worker);
  // The state of a connected worker, by what it said, what operators wish and what it did. Refreshes.
  void ApplyState(WorkerEntry& worker);
  // Ends the lease that the worker has, if it has one. It may be gone.
  void BeginQuarantine(const std::string& id);
  // Those whose time is over take tasks again.
  void EndQuarantines();
  // Whether the session that ended then did so alone, and not when the network failed for many.
  bool EndedAlone(absl::Duration at) const;

  static bool HasWaiting(const Group& group);
  // Whether the quota of this user leaves room for another task.
  bool HasRoom(const std::string& owner) const;
  void CountLease(const Lease& lease, int change);
  // Another task of this user may be given out.
  void OfferOwner(const std::string& owner);
  bool TakesAnyTaskOf(const std::string& worker, const Group& group) const;
  // How far a worker is trusted with a task that was lost or failed before.
  int Trust(const std::string& worker, const QueuedTask& task) const;
  bool MayTake(const std::string& worker, const Group& group, const QueuedTask& task) const;
  // Takes the task of the group out that this idle worker should do next.
  std::optional<Taken> Take(const std::string& id, const WorkerEntry& worker, Group& group);
  static std::optional<size_t> TakeFresh(const WorkerEntry& worker, Group& group);
  // Gives an idle worker a task.
  void OfferWorker(const std::string& id);
  bool LeaseTo(const std::string& id, WorkerEntry& worker, GroupId group_id, Group& group);
  void Lose(WorkerEntry& worker, const std::string& reason, const std::string& message);
  // Ends the lease of a worker that has one, and tells its owner of the loss, if there is one.
  void Release(WorkerEntry& worker, const TaskLoss* loss);
  void OfferIfOpen(GroupId group_id);

  const base::Clock& clock_;
  const base::Limits limits_;
  base::Entropy& entropy_;
  const uint64_t incarnation_;
  std::map<std::string, WorkerEntry> workers_;
  std::map<SessionKey, std::string> by_session_;
  std::set<std::string> idle_;
  std::vector<std::weak_ptr<WorkerPool>> pools_;
  std::shared_ptr<WorkerPool> everyone_;
  std::map<GroupId, std::shared_ptr<Group>> groups_;
  std::map<std::string, Lease> leases_;  // by task id
  std::map<std::string, int> running_by_job_;
  std::map<std::string, int> running_by_owner_;
  config::Quotas quotas_;
  Quarantine quarantine_{clock_};
  struct Loss {
    std::string worker;
    absl::Duration at;
    size_t connected = 0;  // workers before it
  };
  std::deque<Loss> losses_;  // of the last two minutes
  GroupId next_group_ = 1;
  uint64_t next_task_ = 1;
  uint64_t next_epoch_ = 1;
  uint64_t lease_expirations_ = 0;
  uint64_t reconnects_ = 0;
};

}  // namespace espalier::server::scheduler
