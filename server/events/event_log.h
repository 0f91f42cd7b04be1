// EventLog: what happened to one job, numbered from 1, kept in memory for the job's lifetime.
//
// Watchers hold a sequence number, not a queue: a slow one costs nothing and misses nothing.
// Shown:     watchers see an event once it is shown, which is when no end of the process can take it
//            back any more.
// Threading: thread-safe. Listeners are called on the showing thread and must not block.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/base/mutex.h"
#include "espalier/v1/job.pb.h"

namespace espalier::server::events {

class EventLog {
 public:
  // Gives the event its sequence number.
  void Append(v1::JobEvent event);
  // Events of a former life of the coordinator, from the first one on. They are shown. Before any
  // other call.
  void Restore(const std::vector<v1::JobEvent>& events);
  // No more events will come.
  void Close();
  // Shows the events up to this number, and when it is the last one, that none will come after it;
  // tells the listeners.
  void Show(int64_t sequence);

  // The event after `sequence`, if there is one: of those that are shown, or of all.
  std::optional<v1::JobEvent> After(int64_t sequence) const;
  std::optional<v1::JobEvent> AfterOfAll(int64_t sequence) const;
  // Whether all events are shown, and no more will come.
  bool closed() const;
  // Of the last event that is shown, and of the last one.
  int64_t last_shown() const;
  int64_t last_sequence() const;

  // `listener` is called after each Show until Unlisten.
  uint64_t Listen(std::function<void()> listener);
  // Returns when no call of the listener is under way any more.
  void Unlisten(uint64_t id);

 private:
  void Notify();
  std::optional<v1::JobEvent> At(int64_t sequence, size_t end) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  mutable base::Mutex mutex_;
  // Encoded, which takes a third of the memory of messages.
  std::vector<std::string> events_ ABSL_GUARDED_BY(mutex_);
  size_t shown_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  base::Mutex listeners_mutex_;
  std::map<uint64_t, std::function<void()>> listeners_ ABSL_GUARDED_BY(listeners_mutex_);
  uint64_t next_listener_ ABSL_GUARDED_BY(listeners_mutex_) = 1;
};

}  // namespace espalier::server::events
