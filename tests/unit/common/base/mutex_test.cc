#include "common/base/mutex.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>
#include <vector>

namespace espalier::base {
namespace {

class Counter {
 public:
  void Add() {
    const MutexLock lock(mutex_);
    ++count_;
    changed_.NotifyAll();
  }
  void WaitUntil(int count) {
    const MutexLock lock(mutex_);
    changed_.Wait(mutex_, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return count_ >= count; });
  }
  bool WaitFor(std::chrono::milliseconds patience, int count) {
    const MutexLock lock(mutex_);
    return changed_.WaitFor(
        mutex_, patience, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return count_ >= count; });
  }
  int count() {
    const MutexLock lock(mutex_);
    return count_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  int count_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST(MutexTest, OneThreadAtATimeHoldsIt) {
  constexpr int kThreads = 4;
  constexpr int kTimes = 1000;
  Counter counter;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < kThreads; ++i) {
      threads.emplace_back([&counter] {
        for (int j = 0; j < kTimes; ++j) counter.Add();
      });
    }
  }
  EXPECT_EQ(counter.count(), kThreads * kTimes);
}

TEST(MutexLockTest, IsFreeBetweenUnlockAndLockAndAtTheEnd) {
  Mutex mutex;
  int guarded = 0;
  {
    MutexLock lock(mutex);
    lock.Unlock();
    std::jthread([&] {
      const MutexLock other(mutex);
      ++guarded;
    }).join();
    lock.Lock();
    EXPECT_EQ(guarded, 1);
  }
  {
    MutexLock lock(mutex);
    lock.Unlock();
  }
  mutex.Lock();
  mutex.Unlock();
}

TEST(CondVarTest, WaitEndsWhenTheConditionHolds) {
  Counter counter;
  const std::jthread other([&counter] {
    counter.Add();
    counter.Add();
  });
  counter.WaitUntil(2);
  EXPECT_EQ(counter.count(), 2);
}

TEST(CondVarTest, WaitForSaysWhetherTheConditionHolds) {
  Counter counter;
  EXPECT_FALSE(counter.WaitFor(std::chrono::milliseconds(1), 1));
  counter.Add();
  EXPECT_TRUE(counter.WaitFor(std::chrono::hours(1), 1));
}

TEST(CondVarTest, TheMutexIsHeldAfterAWaitAndFreeAfterItsScope) {
  Counter counter;
  const std::jthread other([&counter] { counter.Add(); });
  counter.WaitUntil(1);
  // Would wait for ever for a mutex that the wait had kept.
  counter.Add();
  EXPECT_EQ(counter.count(), 2);
}

}  // namespace
}  // namespace espalier::base
