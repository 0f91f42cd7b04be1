// Board: what all streams of one kind show alike: the newest state of each of many things, what
// happened last, and the changes as they come.
//
// A subscriber first gets the things as they are and the last happenings, then `caught-up` once the
// coordinator has said so, then every change. One that comes back with the id of a change that is kept
// gets what came after it; otherwise `reset` and all things.
//
// Limits:    kKeptBytes of changes. A subscriber that falls behind them is ended, and comes back.
// Threading: thread-safe; written to by one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/dashboard/streams/frame.h"
#include "client/dashboard/streams/listeners.h"
#include "common/base/mutex.h"

namespace espalier::dashboard {

class Board : public std::enable_shared_from_this<Board> {
 public:
  static constexpr size_t kKeptBytes = 8 << 20;
  static constexpr size_t kKeptHappenings = 1000;

  // A thing is as `frame` shows it. `id`: see MakeFrame(); "" where changes have none.
  void Put(const std::string& name, const Frame& frame, const std::string& id);
  void Remove(const std::string& name, const Frame& frame, const std::string& id);
  void Happened(const Frame& frame, const std::string& id);
  void CaughtUp(const std::string& id);
  // All is to be forgotten, and follows again.
  void Reset();

  // The names of all things that are there.
  std::vector<std::string> names() const;

  // `after`: the id of the last change that the reader saw; "" for a new one.
  std::unique_ptr<FrameSource> Subscribe(const std::string& after);
  int subscribers() const;
  // Since when there are none.
  absl::Time idle_since() const;

 private:
  class Source;
  struct Change {
    Frame frame;
    std::string id;
  };

  void Keep(Frame frame, const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The number of the change after the one of that id; −1: it is not kept.
  int64_t AfterId(const std::string& id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The change of that number.
  FrameSource::Next At(int64_t number, Frame& frame) const;
  void Subscribed(int change);

  Listeners listeners_;
  mutable base::Mutex mutex_;
  std::map<std::string, Frame> things_ ABSL_GUARDED_BY(mutex_);
  std::deque<Frame> happenings_ ABSL_GUARDED_BY(mutex_);
  std::deque<Change> changes_ ABSL_GUARDED_BY(mutex_);
  int64_t first_ ABSL_GUARDED_BY(mutex_) = 0;  // the number of the first change that is kept
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  bool caught_up_ ABSL_GUARDED_BY(mutex_) = false;
  std::string last_id_ ABSL_GUARDED_BY(mutex_);
  int subscribers_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time idle_since_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
};

}  // namespace espalier::dashboard
