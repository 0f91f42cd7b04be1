#include "client/dashboard/http/worker_pool.h"

#include <utility>

namespace espalier::dashboard {

WorkerPool::WorkerPool(size_t threads, size_t waiting) : most_waiting_(waiting) {
  threads_.reserve(threads);
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

WorkerPool::~WorkerPool() { Close(); }

void WorkerPool::Close() {
  {
    const base::MutexLock lock(mutex_);
    closing_ = true;
    waiting_.clear();
  }
  wake_.NotifyAll();
  threads_.clear();
}

bool WorkerPool::Post(std::function<void()> task) {
  {
    const base::MutexLock lock(mutex_);
    if (closing_ || waiting_.size() >= most_waiting_) return false;
    waiting_.push_back(std::move(task));
  }
  wake_.NotifyOne();
  return true;
}

void WorkerPool::Run() {
  for (;;) {
    std::function<void()> task;
    {
      base::MutexLock lock(mutex_);
      wake_.Wait(mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
        return closing_ || !waiting_.empty();
      });
      if (closing_) return;
      task = std::move(waiting_.front());
      waiting_.pop_front();
    }
    task();
  }
}

}  // namespace espalier::dashboard
