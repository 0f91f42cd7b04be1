// Fleet: the workers that are connected, and the leases they hold.
//
// Jobs ask for tasks; the fleet gives each to an idle worker that can do it, tells the owner when a
// lease begins, and when it is lost (worker gone, silent, or failed). One worker does one task at a
// time. Jobs take turns: the next free worker goes to the job with the fewest running tasks. Of the
// workers that are free a task goes to the one that trained its participant last, else to one that
// had the same job, since these have its data and its model at hand.
//
// Threading:   lives on the core executor; no locks.
// Time:        Tick() must be called regularly; silence is measured on the injected clock's
//              Elapsed().
// Fencing:     every lease has an epoch that never repeats; messages that carry another
// one are stale.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/limits.h"
#include "espalier/v1/cluster.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/scheduler/requirements.h"

namespace espalier::server::scheduler {

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
  std::string reason;
  std::string message;
};

// One task a job wants done.
struct TaskRequest {
  v1::Task task;                      // complete but for task_id and epoch
  std::string only_worker;            // "" = any
  std::set<std::string> not_workers;  // those that failed at it before
  Requirements needs;
  std::function<void(const std::string& worker)> on_leased;
  std::function<void(const TaskLoss&)> on_lost;
};

class Fleet {
 public:
  Fleet(const base::Clock& clock, const base::Limits& limits) : clock_(clock), limits_(limits) {}

  // -- workers --
  // A worker says hello. Replies with Welcome on the link. A worker of the same id that is silent
  // or gone is replaced; one that is alive makes this AlreadyExists. Errors: InvalidArgument (bad
  // id), FailedPrecondition PROTOCOL_MISMATCH, AlreadyExists WORKER_EXISTS,
  //         ResourceExhausted TOO_MANY_WORKERS.
  absl::StatusOr<uint64_t> Register(const v1::Register& hello, std::shared_ptr<WorkerLink> link);
  void Heartbeat(uint64_t session, const v1::Heartbeat& heartbeat);
  void TaskFailed(uint64_t session, const v1::TaskFailed& failure);
  void Drain(uint64_t session);
  void Disconnected(uint64_t session);

  // -- jobs --
  // Queues a task; returns its id.
  std::string Request(TaskRequest request);
  // Withdraws a task: from the queue, or from its worker, whose callbacks are not called any more.
  void Withdraw(const std::string& task_id, const std::string& reason);
  // The lease of a task that is being submitted. Errors: NotFound / Aborted LEASE_EXPIRED.
  absl::Status CheckLease(uint64_t session, const std::string& task_id, uint64_t epoch) const;
  // The result was accepted: the worker is free again.
  void Complete(const std::string& task_id);

  // Expires silent workers.
  void Tick();
  // Ends every session with Unavailable: the coordinator stops.
  void CloseAll();

  // -- views --
  // Ids of active workers that have what is needed.
  std::vector<std::string> WorkersWith(const Requirements& needs) const;
  std::set<std::string> Datasets() const;
  std::vector<v1::Worker> List() const;
  size_t active() const;
  std::map<v1::Worker::State, int> CountByState() const;
  bool known_session(uint64_t session) const { return by_session_.contains(session); }
  std::string worker_of(uint64_t session) const;
  uint64_t lease_expirations() const { return lease_expirations_; }
  uint64_t reconnects() const { return reconnects_; }

  // Called when a session ends, so that its transfers can be ended too; set once.
  std::function<void(uint64_t session)> on_session_lost;

 private:
  struct WorkerEntry {
    v1::Worker view;
    uint64_t session = 0;
    std::shared_ptr<WorkerLink> link;  // null when LOST
    absl::Duration last_seen;
    std::string task_id;
    // What it completed last and may still have at hand.
    std::string last_job;
    std::string last_trained;  // participant of that job
  };
  struct TaskEntry {
    TaskRequest request;
    std::string worker;  // "" while queued
  };

  WorkerEntry* FindBySession(uint64_t session);
  static bool IsIdle(const WorkerEntry& worker);
  bool CanDo(const std::string& id, const WorkerEntry& worker, const TaskRequest& request) const;
  static int Familiarity(const WorkerEntry& worker, const v1::Task& task);
  WorkerEntry* PickWorker(const TaskRequest& request);
  void Lease(const std::string& task_id, TaskEntry& entry, WorkerEntry& worker);
  void Dispatch();
  void Lose(WorkerEntry& worker, const std::string& reason, const std::string& message);
  void ReleaseTask(WorkerEntry& worker, const TaskLoss& loss);

  const base::Clock& clock_;
  const base::Limits limits_;
  std::map<std::string, WorkerEntry> workers_;
  std::map<uint64_t, std::string> by_session_;
  std::map<std::string, TaskEntry> tasks_;
  std::deque<std::string> queue_;
  std::map<std::string, int> running_by_job_;
  uint64_t next_session_ = 1;
  uint64_t next_task_ = 1;
  uint64_t next_epoch_ = 1;
  uint64_t lease_expirations_ = 0;
  uint64_t reconnects_ = 0;
};

}  // namespace espalier::server::scheduler
