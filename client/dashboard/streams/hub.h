// Hub: everything that is watched for browsers, each thing once.
//
// A watch begins with its first subscriber, and ends kLinger after the last one has gone, so that a page
// that is loaded again finds it as it was.
//
// Limits:    kJobs jobs and kStreams streams at once.
// Errors:    ResourceExhausted TOO_MANY_STREAMS.
// Threading: thread-safe. The destructor waits for all watches; what they call must have been told to
//            stop before.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/dashboard/streams/board.h"
#include "client/dashboard/streams/connection_monitor.h"
#include "client/dashboard/streams/frame.h"
#include "client/dashboard/streams/job_feed.h"
#include "common/base/mutex.h"

namespace espalier::dashboard {

// Keeps a board up to date until `stop` is requested or its stream breaks, which it says by an error.
// It is called again after that, and knows then whether the board goes on or begins anew (`fresh`).
using WatchBoard =
    std::function<absl::Status(Board& board, bool fresh, const std::stop_token& stop)>;

class Hub {
 public:
  // Of a connection the coordinator takes 64 calls at once; there must be room for those that end.
  static constexpr size_t kJobs = 32;
  static constexpr int kStreams = 500;
  static constexpr absl::Duration kLinger = absl::Seconds(10);

  Hub(Feeding jobs, std::map<std::string, WatchBoard> boards);
  ~Hub();

  // The events of a job, "jobs/{id}", after a number.
  absl::StatusOr<std::unique_ptr<FrameSource>> Job(const std::string& name, int64_t after);
  // The board of that name, which there must be, after a change.
  absl::StatusOr<std::unique_ptr<FrameSource>> OfBoard(const std::string& name,
                                                       const std::string& after);

 private:
  struct Watched {
    WatchBoard watch;
    std::shared_ptr<Board> board = std::make_shared<Board>();
    std::jthread thread;  // not joinable: nobody watches
  };

  absl::Status CheckRoom() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Keep(Board& board, const WatchBoard& watch, const std::stop_token& stop) const;
  void Tick(absl::Time now);

  const Feeding feeding_;
  base::Mutex mutex_;
  std::map<std::string, std::shared_ptr<JobFeed>> jobs_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, Watched> boards_ ABSL_GUARDED_BY(mutex_);
  std::jthread ticker_;
};

}  // namespace espalier::dashboard
