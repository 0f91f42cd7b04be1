// WorkerPool: threads for what has to wait, such as calls to a coordinator.
//
// Limits:    so many threads, and so many tasks that wait for one.
// Ends:      Close() waits for the tasks in work, and forgets those that wait for a thread.
// Threading: thread-safe.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "common/base/mutex.h"

namespace espalier::dashboard {

class WorkerPool {
 public:
  WorkerPool(size_t threads, size_t waiting);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False: too many wait already, or it is closed.
  bool Post(std::function<void()> task);
  // By one thread.
  void Close();

 private:
  void Run();

  const size_t most_waiting_;
  base::Mutex mutex_;
  base::CondVar wake_;
  std::deque<std::function<void()>> waiting_ ABSL_GUARDED_BY(mutex_);
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::jthread> threads_;
};

}  // namespace espalier::dashboard
