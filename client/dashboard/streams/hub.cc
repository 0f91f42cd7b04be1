#include "client/dashboard/streams/hub.h"

#include <algorithm>
#include <chrono>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr auto kPause = std::chrono::seconds(1);

absl::Status TooMany(const std::string& what) {
  return base::MakeError(
      absl::StatusCode::kResourceExhausted, "TOO_MANY_STREAMS",
      fmt::format("expected room for one more event stream, found {}; close some "
                  "of the dashboard's pages",
                  what));
}

}  // namespace

Hub::Hub(Feeding jobs, std::map<std::string, WatchBoard> boards) : feeding_(std::move(jobs)) {
  for (auto& [name, watch] : boards) boards_[name].watch = std::move(watch);
  ticker_ = std::jthread([this](const std::stop_token& stop) {
    while (base::SleepUnlessStopped(kTick, stop)) Tick(absl::Now());
  });
}

Hub::~Hub() {
  ticker_ = {};
  std::map<std::string, std::shared_ptr<JobFeed>> jobs;
  std::map<std::string, Watched> boards;
  {
    const base::MutexLock lock(mutex_);
    jobs.swap(jobs_);
    boards.swap(boards_);
  }
  // All at once, before the first is waited for.
  for (auto& [name, feed] : jobs) feed->RequestStop();
  for (auto& [name, watched] : boards) watched.thread.request_stop();
}

absl::Status Hub::CheckRoom() const {
  int streams = 0;
  for (const auto& [name, feed] : jobs_) streams += feed->subscribers();
  for (const auto& [name, watched] : boards_) streams += watched.board->subscribers();
  return streams < kStreams ? absl::OkStatus()
                            : TooMany(fmt::format("the {} that there may be", kStreams));
}

absl::StatusOr<std::unique_ptr<FrameSource>> Hub::Job(const std::string& name, int64_t after) {
  const base::MutexLock lock(mutex_);
  ESPALIER_RETURN_IF_ERROR(CheckRoom());
  auto feed = jobs_.find(name);
  if (feed == jobs_.end()) {
    if (jobs_.size() >= kJobs) {
      return TooMany(fmt::format("the {} jobs that may be watched at once", kJobs));
    }
    // With the last one that was seen, which says at once that there is a connection.
    feed = jobs_.emplace(name, JobFeed::Start(name, std::max<int64_t>(after, 1), feeding_)).first;
  }
  return feed->second->Subscribe(after);
}

absl::StatusOr<std::unique_ptr<FrameSource>> Hub::OfBoard(const std::string& name,
                                                          const std::string& after) {
  const base::MutexLock lock(mutex_);
  ESPALIER_RETURN_IF_ERROR(CheckRoom());
  Watched& watched = boards_.at(name);
  if (!watched.thread.joinable()) {
    watched.thread = std::jthread([this, board = watched.board, watch = watched.watch](
                                      const std::stop_token& stop) { Keep(*board, watch, stop); });
  }
  return watched.board->Subscribe(after);
}

void Hub::Keep(Board& board, const WatchBoard& watch, const std::stop_token& stop) const {
  bool fresh = true;
  while (feeding_.monitor->WaitUntilConnected(stop)) {
    const absl::Status status = watch(board, fresh, stop);
    fresh = false;
    if (stop.stop_requested()) return;
    if (status.code() == absl::StatusCode::kUnavailable) {
      feeding_.monitor->Lost(status);
    } else if (!status.ok() && status.code() != absl::StatusCode::kDeadlineExceeded) {
      // Such as a certificate that has expired. Calls say what it is; here it is tried again.
      base::SleepUnlessStopped(kPause, stop);
    }
  }
}

void Hub::Tick(absl::Time now) {
  std::vector<std::shared_ptr<JobFeed>> watched;
  std::vector<std::shared_ptr<JobFeed>> over;
  std::vector<std::jthread> threads;
  {
    const base::MutexLock lock(mutex_);
    for (auto at = jobs_.begin(); at != jobs_.end();) {
      const bool idle = now - at->second->idle_since() > kLinger;
      (idle ? over : watched).push_back(at->second);
      at = idle ? jobs_.erase(at) : std::next(at);
    }
    for (auto& [name, board] : boards_) {
      if (!board.thread.joinable() || now - board.board->idle_since() <= kLinger) continue;
      // Another one may begin before this one has ended; it writes to a board of its own.
      board.thread.request_stop();
      threads.push_back(std::move(board.thread));
      board.board = std::make_shared<Board>();
    }
  }
  for (const auto& feed : watched) feed->Tick(now);
  for (const auto& feed : over) feed->RequestStop();
}

}  // namespace espalier::dashboard
