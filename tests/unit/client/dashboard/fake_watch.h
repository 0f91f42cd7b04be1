// A coordinator's watch of one job, by a test: it has events, and ends when the test says so.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "client/dashboard/streams/job_feed.h"
#include "common/base/mutex.h"

namespace espalier::dashboard {

class FakeWatch {
 public:
  WatchJob watch() {
    return [this](const std::string& job, int64_t after,
                  const std::function<void(const v1::JobEvent&)>& on_event,
                  const std::stop_token& stop,
                  absl::Time deadline) { return Run(after, on_event, stop, deadline); };
  }
  // Events up to this number are there.
  void Have(int64_t events) {
    const base::MutexLock lock(mutex_);
    events_ = events;
    changed_.NotifyAll();
  }
  // Watches end like this from now on, once they have sent all events.
  void End(absl::Status status) {
    const base::MutexLock lock(mutex_);
    end_ = std::move(status);
    ending_ = true;
    changed_.NotifyAll();
  }
  void EndNoMore() {
    const base::MutexLock lock(mutex_);
    ending_ = false;
  }
  // Where each watch began.
  std::vector<int64_t> begun() const {
    const base::MutexLock lock(mutex_);
    return begun_;
  }

 private:
  absl::Status Run(int64_t after, const std::function<void(const v1::JobEvent&)>& on_event,
                   const std::stop_token& stop, absl::Time deadline) {
    const std::stop_callback stopped(stop, [this] {
      const base::MutexLock lock(mutex_);
      changed_.NotifyAll();
    });
    base::MutexLock lock(mutex_);
    begun_.push_back(after);
    if (after > events_) return absl::OutOfRangeError("beyond the newest event");
    int64_t sent = after;
    for (;;) {
      if (stop.stop_requested()) return absl::CancelledError("stopped");
      if (sent < events_) {
        v1::JobEvent event;
        event.set_sequence(++sent);
        lock.Unlock();
        on_event(event);
        lock.Lock();
        continue;
      }
      if (ending_) return end_;
      const bool more =
          changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(absl::Seconds(20)),
                           [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                             return stop.stop_requested() || sent < events_ || ending_;
                           });
      if (!more) return absl::DeadlineExceededError("the test has ended");
    }
  }

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  int64_t events_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
  std::vector<int64_t> begun_ ABSL_GUARDED_BY(mutex_);
};

// A reader of a source, which waits for what comes.
class Reader {
 public:
  explicit Reader(std::unique_ptr<FrameSource> source) : source_(std::move(source)) {
    source_->Listen([this] {
      const base::MutexLock lock(mutex_);
      ++woken_;
      changed_.NotifyAll();
    });
  }
  ~Reader() { source_ = nullptr; }

  // The next frame as "3" for an event of that number, or as the name of another event; "END" at the
  // end, "" when nothing comes for 20 s.
  std::string Next() {
    for (;;) {
      int seen = 0;
      {
        const base::MutexLock lock(mutex_);
        seen = woken_;
      }
      Frame frame;
      const FrameSource::Next next = source_->Take(frame);
      if (next == FrameSource::Next::kEnd) return "END";
      if (next == FrameSource::Next::kFrame) return Named(*frame);
      const base::MutexLock lock(mutex_);
      const bool woken = changed_.WaitFor(
          mutex_, absl::ToChronoNanoseconds(absl::Seconds(20)),
          [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return woken_ != seen; });
      if (!woken) return "";
    }
  }

 private:
  static std::string Named(const std::string& frame) {
    const auto value = [&frame](const std::string& key) {
      const size_t at = frame.find(key);
      if (at == std::string::npos) return std::string();
      return frame.substr(at + key.size(), frame.find('\n', at) - at - key.size());
    };
    const std::string event = value("event: ");
    return event == "event" ? value("id: ") : event;
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  int woken_ ABSL_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<FrameSource> source_;
};

}  // namespace espalier::dashboard
