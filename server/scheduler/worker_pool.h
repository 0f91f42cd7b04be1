// WorkerPool: the workers that can do the tasks of one job. The fleet keeps it up to date as
// workers come, drain and go, so that nobody has to look through all workers for each task.
//
// Threading: lives on the core executor; no locks.
#pragma once

#include <set>
#include <string>
#include <utility>

#include "server/scheduler/requirements.h"

namespace espalier::server::scheduler {

class WorkerPool {
 public:
  explicit WorkerPool(Requirements needs) : needs_(std::move(needs)) {}

  const Requirements& needs() const { return needs_; }
  // Ids of the active workers that have what is needed and allow the job.
  const std::set<std::string>& able() const { return able_; }
  // Whether it may be given tasks that any worker can do.
  bool CanDo(const std::string& worker) const {
    return able_.contains(worker) && !unfit_.contains(worker);
  }
  // The worker is not fit for the job, as it said of one of the tasks (worker_words.h): it is given
  // no other that any worker can do, until it registers again.
  void Exclude(const std::string& worker) { unfit_.insert(worker); }

  // For the fleet: the worker came back, or changed. Whether it is active, has what is needed, and
  // its `policy` allows the job; null allows all.
  void Update(const v1::Worker& worker, const v1::WorkerPolicy* policy, const std::string& id);
  void Forget(const std::string& worker) { unfit_.erase(worker); }

 private:
  const Requirements needs_;
  std::set<std::string> able_;
  std::set<std::string> unfit_;
};

}  // namespace espalier::server::scheduler
