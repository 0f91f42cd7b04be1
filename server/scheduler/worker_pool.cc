#include "server/scheduler/worker_pool.h"

namespace espalier::server::scheduler {

void WorkerPool::Update(const v1::Worker& worker, const v1::WorkerPolicy* policy,
                        const std::string& id) {
  if (worker.state() == v1::Worker::STATE_ACTIVE && OffersData(worker, needs_) &&
      IsAllowed(policy, needs_) && HasBudget(worker, needs_)) {
    able_.insert(id);
  } else {
    able_.erase(id);
  }
}

}  // namespace espalier::server::scheduler
