// TransferSlots: how many transfers may be under way at once; the others wait in order of arrival.
// Keeps what the coordinator holds of transfers independent of the number of workers.
//
// Fairness:  an owner (a session, or a caller) has at most `per_owner` slots; whoever is behind it
//            in the queue is not held up by it.
// Limits:    so many wait at most, of all and of one owner; others are refused with Unavailable
//            TRANSFERS_FULL, which is worth another attempt.
// Threading: thread-safe. `begin` runs on the thread that frees the slot, without a lock held.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <utility>

#include "absl/status/status.h"
#include "common/base/mutex.h"
#include "common/base/status.h"

namespace espalier::server::api {

struct SlotLimits {
  int slots = 1;
  int per_owner = 1;
  int waiting = 1;
  int waiting_per_owner = 1;
};

template <typename Owner>
class TransferSlots {
 public:
  explicit TransferSlots(const SlotLimits& limits) : limits_(limits) {}

  // A name for one transfer.
  uint64_t NewId() {
    const base::MutexLock lock(mutex_);
    return next_++;
  }

  // Calls `begin` as soon as there is a slot; it belongs to the transfer until Release(). To be
  // called once for an id.
  absl::Status Acquire(uint64_t id, const Owner& owner, std::function<void()> begin) {
    {
      const base::MutexLock lock(mutex_);
      Counts& counts = owners_[owner];
      if (!MayBegin(counts)) {
        if (static_cast<int>(waiting_.size()) >= limits_.waiting ||
            counts.waiting >= limits_.waiting_per_owner) {
          Forget(owner);
          return base::MakeError(absl::StatusCode::kUnavailable, "TRANSFERS_FULL",
                                 "more transfers wait than the coordinator keeps; try again in a "
                                 "second");
        }
        ++counts.waiting;
        waiting_.push_back({id, owner, std::move(begin)});
        return absl::OkStatus();
      }
      Hold(id, owner, counts);
    }
    begin();
    return absl::OkStatus();
  }

  // Gives the slot back, or the place in the queue. Does nothing when the transfer has neither.
  void Release(uint64_t id) {
    std::deque<std::function<void()>> begins;
    {
      const base::MutexLock lock(mutex_);
      Drop(id);
      while (auto begin = Next()) begins.push_back(std::move(begin));
    }
    for (const auto& begin : begins) begin();
  }

 private:
  struct Counts {
    int held = 0;
    int waiting = 0;
  };
  struct Waiting {
    uint64_t id;
    Owner owner;
    std::function<void()> begin;
  };

  bool MayBegin(const Counts& counts) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int>(holders_.size()) < limits_.slots && counts.held < limits_.per_owner;
  }

  void Hold(uint64_t id, const Owner& owner, Counts& counts) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    ++counts.held;
    holders_.emplace(id, owner);
  }

  void Forget(const Owner& owner) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = owners_.find(owner);
    if (found->second.held == 0 && found->second.waiting == 0) owners_.erase(found);
  }

  void Drop(uint64_t id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (const auto holder = holders_.find(id); holder != holders_.end()) {
      const Owner owner = holder->second;
      holders_.erase(holder);
      --owners_[owner].held;
      Forget(owner);
      return;
    }
    for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
      if (it->id != id) continue;
      const Owner owner = it->owner;
      waiting_.erase(it);
      --owners_[owner].waiting;
      Forget(owner);
      return;
    }
  }

  // Takes the first out of the queue that may begin; null when there is none.
  std::function<void()> Next() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    for (auto it = waiting_.begin(); it != waiting_.end(); ++it) {
      Counts& counts = owners_[it->owner];
      if (!MayBegin(counts)) continue;
      --counts.waiting;
      Hold(it->id, it->owner, counts);
      std::function<void()> begin = std::move(it->begin);
      waiting_.erase(it);
      return begin;
    }
    return nullptr;
  }

  const SlotLimits limits_;
  base::Mutex mutex_;
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  std::map<uint64_t, Owner> holders_ ABSL_GUARDED_BY(mutex_);
  std::map<Owner, Counts> owners_ ABSL_GUARDED_BY(mutex_);
  std::deque<Waiting> waiting_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace espalier::server::api
