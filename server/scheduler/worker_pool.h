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
  // Ids of the active workers that have what is needed.
  const std::set<std::string>& able() const { return able_; }
  // Whether it may be given tasks that any worker can do.
  bool CanDo(const std::string& worker) const {
    return able_.contains(worker) && !too_small_.contains(worker);
  }
  // The worker ran out of memory at one of the tasks: it is given no other that any worker can do,
  // until it registers again.
  void ExcludeTooSmall(const std::string& worker) { too_small_.insert(worker); }

  // For the fleet: the worker came back, or changed. Whether it is active and has what is needed.
  void Update(const v1::Worker& worker, const std::string& id);
  void Forget(const std::string& worker) { too_small_.erase(worker); }

 private:
  const Requirements needs_;
  std::set<std::string> able_;
  std::set<std::string> too_small_;
};

}  // namespace espalier::server::scheduler
