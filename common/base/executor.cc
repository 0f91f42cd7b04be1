#include "common/base/executor.h"

#include <chrono>
#include <utility>

namespace espalier::base {

ThreadExecutor::ThreadExecutor(int threads, Observe observe) : observe_(std::move(observe)) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

ThreadExecutor::~ThreadExecutor() {
  {
    const MutexLock lock(mutex_);
    stopping_ = true;
  }
  ready_.NotifyAll();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadExecutor::Post(std::function<void()> work) {
  {
    const MutexLock lock(mutex_);
    queue_.push_back(std::move(work));
  }
  ready_.NotifyOne();
}

size_t ThreadExecutor::queue_length() const {
  const MutexLock lock(mutex_);
  return queue_.size();
}

void ThreadExecutor::Run() {
  MutexLock lock(mutex_);
  for (;;) {
    ready_.Wait(mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || !queue_.empty();
    });
    if (queue_.empty()) return;
    auto work = std::move(queue_.front());
    queue_.pop_front();
    lock.Unlock();
    const auto start = std::chrono::steady_clock::now();
    work();
    // What it held is let go of within the same time.
    work = nullptr;
    if (observe_) {
      observe_(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    lock.Lock();
  }
}

}  // namespace espalier::base
