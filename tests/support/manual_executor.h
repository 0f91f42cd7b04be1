// ManualExecutor: an Executor whose functions run when the test says so, on the test's thread.
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "common/base/executor.h"

namespace espalier::test {

class ManualExecutor : public base::Executor {
 public:
  void Post(std::function<void()> work) override { queue_.push_back(std::move(work)); }

  // Runs what waits, and what that posts in turn; returns how many functions ran.
  int RunAll() {
    int ran = 0;
    while (RunOne()) ++ran;
    return ran;
  }

  // Runs the first function that waits, if there is one.
  bool RunOne() {
    if (queue_.empty()) return false;
    const std::function<void()> work = std::move(queue_.front());
    queue_.pop_front();
    work();
    return true;
  }

  // Forgets what waits.
  void Clear() { queue_.clear(); }

 private:
  std::deque<std::function<void()>> queue_;
};

}  // namespace espalier::test
