#include "common/base/executor.h"

#include <chrono>
#include <utility>

namespace espalier::base {

ThreadExecutor::ThreadExecutor(int threads, Observe observe) : observe_(std::move(observe)) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

ThreadExecutor::~ThreadExecutor() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  ready_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadExecutor::Post(std::function<void()> work) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
  }
  ready_.notify_one();
}

size_t ThreadExecutor::queue_length() const {
  const std::lock_guard lock(mutex_);
  return queue_.size();
}

void ThreadExecutor::Run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ready_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    auto work = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    const auto start = std::chrono::steady_clock::now();
    work();
    // What it held is let go of within the same time.
    work = nullptr;
    if (observe_) {
      observe_(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    lock.lock();
  }
}

}  // namespace espalier::base
