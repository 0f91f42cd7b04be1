// Mutex, MutexLock and CondVar: the standard library's, with annotations for Clang's thread-safety
// analysis. A member says by ABSL_GUARDED_BY which mutex guards it, a function by
// ABSL_EXCLUSIVE_LOCKS_REQUIRED which one its caller holds; `make lint` finds who does not hold it.
// The annotations (absl/base/thread_annotations.h) come with this header.
//
// std::mutex of libstdc++ has no annotations. absl::Mutex has, but it is part of a library that the
// system brings compiled without the thread sanitizer, which would then report races that are none.
//
// Not followed: a lambda is analysed by itself, whoever calls it. One that runs under the lock, such
// as the condition of a CondVar, says so: [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { … }.
// Constructors and destructors are not analysed.
#pragma once

#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"

namespace espalier::base {

class ABSL_LOCKABLE Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

// Holds a mutex from here to the end of the scope, but for what is between Unlock() and Lock().
class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() {
    if (held_) mutex_.Unlock();
  }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    mutex_.Lock();
    held_ = true;
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    held_ = false;
    mutex_.Unlock();
  }

 private:
  Mutex& mutex_;
  bool held_ = true;
};

// Waits until `condition`, which is called with `mutex` held. The mutex is free while it waits.
class CondVar {
 public:
  template <typename Condition>
  void Wait(Mutex& mutex, Condition condition) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Adopted lock(mutex.mutex_);
    variable_.wait(lock.held, std::move(condition));
  }
  // At most for `duration`, a std::chrono one. Whether the condition holds then.
  template <typename Duration, typename Condition>
  bool WaitFor(Mutex& mutex, const Duration& duration, Condition condition)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    Adopted lock(mutex.mutex_);
    return variable_.wait_for(lock.held, duration, std::move(condition));
  }
  void NotifyOne() { variable_.notify_one(); }
  void NotifyAll() { variable_.notify_all(); }

 private:
  // What a std::condition_variable takes, of a mutex that is held before and after.
  struct Adopted {
    explicit Adopted(std::mutex& mutex) : held(mutex, std::adopt_lock) {}
    ~Adopted() { held.release(); }
    Adopted(const Adopted&) = delete;
    Adopted& operator=(const Adopted&) = delete;
    std::unique_lock<std::mutex> held;
  };

  std::condition_variable variable_;
};

}  // namespace espalier::base
