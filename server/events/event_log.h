// EventLog: what happened to one job, numbered from 1, kept in memory for the job's lifetime.
//
// Watchers hold a sequence number, not a queue: a slow one costs nothing and misses nothing.
// Threading: thread-safe. Listeners are called on the appending thread and must not block.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <vector>

#include "espalier/v1/job.pb.h"

namespace espalier::server::events {

class EventLog {
 public:
  // Gives the event its sequence number and tells the listeners.
  void Append(v1::JobEvent event);
  // No more events will come.
  void Close();

  // The event after `sequence`, if there is one.
  std::optional<v1::JobEvent> After(int64_t sequence) const;
  bool closed() const;
  int64_t last_sequence() const;

  // `listener` is called after each Append and Close until Unlisten.
  uint64_t Listen(std::function<void()> listener);
  // Returns when no call of the listener is under way any more.
  void Unlisten(uint64_t id);

 private:
  void Notify();

  mutable std::mutex mutex_;
  std::vector<v1::JobEvent> events_;
  bool closed_ = false;
  std::mutex listeners_mutex_;
  std::map<uint64_t, std::function<void()>> listeners_;
  uint64_t next_listener_ = 1;
};

}  // namespace espalier::server::events
