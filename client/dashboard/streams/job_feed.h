// JobFeed: the events of one job, watched once for all streams that show it.
//
// A thread watches the job from where the first subscriber begins, and keeps the newest events. A
// subscriber holds a number, not a queue: one that wants older events than are kept, or has fallen
// behind them, reads those page by page with calls of its own, as fast as it takes them.
//
// Ends:      a job that has ended (`caught-up`, `end`) or is gone (`gone`); `reset` when the coordinator
//            has fewer events than before, which then follow from the first one on.
// Caught up: the coordinator does not say when the past was sent. It was when nothing has come for
//            kQuiet after an event, or for kSilent at all; or when events come that get no nearer to the
//            present, by their times.
// Limits:    kKeptBytes of events, kPageBytes for a page.
// Threading: thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/dashboard/streams/connection_monitor.h"
#include "client/dashboard/streams/frame.h"
#include "client/dashboard/streams/listeners.h"
#include "common/base/mutex.h"
#include "espalier/v1/job.pb.h"

namespace espalier::dashboard {

// Gives the events of a job after a number to `on_event` until it has ended (OK), `stop` is requested,
// `deadline` passes or the stream breaks, which it does not mend.
using WatchJob = std::function<absl::Status(
    const std::string& job, int64_t after, const std::function<void(const v1::JobEvent&)>& on_event,
    const std::stop_token& stop, absl::Time deadline)>;
// Has a task done by another thread. False: there is none at present.
using Post = std::function<bool(std::function<void()>)>;

struct Feeding {
  WatchJob watch;
  Post post;
  ConnectionMonitor* monitor = nullptr;
};

struct NumberedFrame {
  int64_t sequence = 0;
  Frame frame;
};

class JobFeed : public std::enable_shared_from_this<JobFeed> {
 public:
  static constexpr size_t kKeptBytes = 2 << 20;
  static constexpr size_t kPageBytes = 512 << 10;
  static constexpr int kPageEvents = 500;
  static constexpr absl::Duration kPageTime = absl::Seconds(10);
  static constexpr absl::Duration kQuiet = absl::Milliseconds(300);
  static constexpr absl::Duration kSilent = absl::Seconds(2);
  static constexpr absl::Duration kMark = absl::Milliseconds(500);
  static constexpr absl::Duration kNearer = absl::Milliseconds(100);

  // Begins with the event `first`.
  static std::shared_ptr<JobFeed> Start(std::string job, int64_t first, Feeding feeding);
  // Waits for the watch to stop.
  ~JobFeed();

  // The events after `after`.
  std::unique_ptr<FrameSource> Subscribe(int64_t after);
  int subscribers() const;
  // Since when there are none.
  absl::Time idle_since() const;
  // Called regularly: notices that the past was sent.
  void Tick(absl::Time now);
  void RequestStop() { thread_.request_stop(); }

 private:
  class Source;

  // What a subscriber gets next.
  struct Asked {
    enum class What { kEvent, kPage, kCaughtUp, kEnd, kGone, kReset, kNothing };
    What what = What::kNothing;
    Frame frame;
    int64_t generation = 0;
  };

  JobFeed(std::string job, int64_t first, Feeding feeding);
  void Run(const std::stop_token& stop);
  void Add(const v1::JobEvent& event);
  void Reset();
  Asked Next(int64_t after, int64_t generation) const;
  bool IsPastSent(absl::Time now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The first event that is kept, or will come.
  int64_t FirstKept() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  int64_t first_kept() const;
  void Subscribed(int change);

  const std::string job_;
  const Feeding feeding_;
  Listeners listeners_;
  mutable base::Mutex mutex_;
  std::deque<NumberedFrame> kept_ ABSL_GUARDED_BY(mutex_);  // their numbers follow each other
  size_t kept_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t next_ ABSL_GUARDED_BY(mutex_);            // the number of the event that comes next
  int64_t generation_ ABSL_GUARDED_BY(mutex_) = 0;  // a reset begins another one
  bool caught_up_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time heard_ ABSL_GUARDED_BY(mutex_);  // the last event came, or the watch began
  bool any_ ABSL_GUARDED_BY(mutex_) = false;  // an event has come since the watch began
  // From the time of the last event to its arrival, by two machines' clocks: now, and at the last mark.
  absl::Duration lag_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  absl::Duration lag_at_mark_ ABSL_GUARDED_BY(mutex_) = absl::InfiniteDuration();
  absl::Time mark_ ABSL_GUARDED_BY(mutex_);
  int subscribers_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Time idle_since_ ABSL_GUARDED_BY(mutex_);
  std::jthread thread_;
};

}  // namespace espalier::dashboard
