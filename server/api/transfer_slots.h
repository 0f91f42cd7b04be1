// TransferSlots: how many transfers may be under way at once; the others wait in order of arrival.
// Keeps what the coordinator holds of transfers independent of the number of workers.
//
// Threading: thread-safe. Callbacks run on the thread that frees the slot.
#pragma once

#include <deque>
#include <functional>
#include <mutex>
#include <utility>

namespace espalier::server::api {

class TransferSlots {
 public:
  explicit TransferSlots(int slots) : free_(slots) {}

  // Calls `begin` as soon as there is a slot; it belongs to the caller until Release().
  void Acquire(std::function<void()> begin) {
    {
      const std::lock_guard lock(mutex_);
      if (free_ == 0) {
        waiting_.push_back(std::move(begin));
        return;
      }
      --free_;
    }
    begin();
  }

  void Release() {
    std::function<void()> next;
    {
      const std::lock_guard lock(mutex_);
      if (waiting_.empty()) {
        ++free_;
        return;
      }
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    next();
  }

 private:
  std::mutex mutex_;
  int free_;
  std::deque<std::function<void()>> waiting_;
};

}  // namespace espalier::server::api
