// Executor: runs posted functions. The coordinator's state machines live on a one-thread executor
// (single writer: no locks in them); long computations go to a pool.
//
// Threading: Post() is thread-safe. A one-thread executor runs functions in the order of posting.
#pragma once

#include <deque>
#include <functional>
#include <thread>
#include <vector>

#include "common/base/mutex.h"

namespace espalier::base {

class Executor {
 public:
  virtual ~Executor() = default;
  virtual void Post(std::function<void()> work) = 0;
};

// Threads that take work from one queue. The destructor runs what was posted, then joins.
class ThreadExecutor : public Executor {
 public:
  // `observe`, if any, is told the seconds that each function took, on its thread.
  using Observe = std::function<void(double seconds)>;
  explicit ThreadExecutor(int threads, Observe observe = {});
  ~ThreadExecutor() override;
  void Post(std::function<void()> work) override;
  // Functions that wait now.
  size_t queue_length() const;

 private:
  void Run();

  const Observe observe_;
  mutable Mutex mutex_;
  CondVar ready_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace espalier::base
