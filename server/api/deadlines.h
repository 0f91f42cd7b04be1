// Deadlines: what has to happen by a moment, and what is done when it has not.
//
// Every wait for a peer has one: for a first message, for the next chunk, for a message to leave.
// Threading: thread-safe. Expire() calls what is due on its caller's thread, without a lock held; a
//            call that is under way may therefore still come when its Deadline is gone, so it must
//            hold what it uses by weak_ptr.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"

namespace espalier::server::api {

class Deadlines {
 public:
  explicit Deadlines(const base::Clock& clock) : clock_(clock) {}

  // To be called regularly. Looks at most four times a second.
  void Expire();

 private:
  friend class Deadline;
  struct Entry {
    absl::Duration due = absl::InfiniteDuration();
    std::function<void()> expired;
  };

  uint64_t Add(std::function<void()> expired);
  void Set(uint64_t id, absl::Duration due);
  void Remove(uint64_t id);

  const base::Clock& clock_;
  base::Mutex mutex_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
  absl::Duration looked_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
};

// One of them. Calls `expired` once each time that it passes.
class Deadline {
 public:
  Deadline(Deadlines& all, std::function<void()> expired)
      : all_(all), id_(all.Add(std::move(expired))) {}
  ~Deadline() { all_.Remove(id_); }
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  // From now on it is in `duration`, whatever it was before.
  void Within(absl::Duration duration) { all_.Set(id_, all_.clock_.Elapsed() + duration); }
  void Clear() { all_.Set(id_, absl::InfiniteDuration()); }

 private:
  Deadlines& all_;
  const uint64_t id_;
};

}  // namespace espalier::server::api
