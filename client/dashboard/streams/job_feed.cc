#include "client/dashboard/streams/job_feed.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "client/json/json.h"
#include "common/base/sleep.h"
#include "common/wire/proto_time.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

constexpr auto kPause = std::chrono::seconds(1);
// A page that cannot be had so many times in a row ends its stream, whose reader begins anew.
constexpr int kMostFailures = 5;

NumberedFrame FrameOf(const v1::JobEvent& event) {
  return {event.sequence(), MakeFrame("event", client::ToJson(event, client::Layout::kLine),
                                      std::to_string(event.sequence()))};
}

}  // namespace

// One subscriber.
class JobFeed::Source : public FrameSource {
 public:
  Source(std::shared_ptr<JobFeed> feed, int64_t after)
      : feed_(std::move(feed)), after_(after), page_(std::make_shared<Page>()) {
    feed_->Subscribed(1);
  }
  ~Source() override {
    if (listener_ != 0) feed_->listeners_.Remove(listener_);
    page_->stop.request_stop();
    {
      const base::MutexLock lock(page_->mutex);
      page_->wake = nullptr;
    }
    feed_->Subscribed(-1);
  }

  void Listen(std::function<void()> wake) override {
    listener_ = feed_->listeners_.Add(wake);
    const base::MutexLock lock(page_->mutex);
    page_->wake = std::move(wake);
  }

  Next Take(Frame& frame) override;

 private:
  // Older events, read by another thread. It outlives the subscriber until that thread is done.
  struct Page {
    base::Mutex mutex;
    std::deque<NumberedFrame> frames ABSL_GUARDED_BY(mutex);
    bool reading ABSL_GUARDED_BY(mutex) = false;
    int failures ABSL_GUARDED_BY(mutex) = 0;
    std::function<void()> wake ABSL_GUARDED_BY(mutex);
    std::stop_source stop;
  };

  static void Read(const JobFeed& feed, Page& page, int64_t after, int64_t until);
  bool TakeOfPage(Frame& frame);
  // False: the page cannot be had.
  bool AskForPage();

  const std::shared_ptr<JobFeed> feed_;
  int64_t after_;
  int64_t generation_ = 0;
  bool told_caught_up_ = false;
  bool told_end_ = false;
  uint64_t listener_ = 0;
  const std::shared_ptr<Page> page_;
};

bool JobFeed::Source::TakeOfPage(Frame& frame) {
  const base::MutexLock lock(page_->mutex);
  while (!page_->frames.empty()) {
    const NumberedFrame next = std::move(page_->frames.front());
    page_->frames.pop_front();
    if (next.sequence != after_ + 1) continue;
    after_ = next.sequence;
    frame = next.frame;
    return true;
  }
  return false;
}

void JobFeed::Source::Read(const JobFeed& feed, Page& page, int64_t after, int64_t until) {
  std::stop_source enough;
  const std::stop_callback forward(page.stop.get_token(), [&enough] { enough.request_stop(); });
  std::deque<NumberedFrame> frames;
  size_t bytes = 0;
  const absl::Status status = feed.feeding_.watch(
      feed.job_, after,
      [&](const v1::JobEvent& event) {
        if (enough.stop_requested()) return;
        frames.push_back(FrameOf(event));
        bytes += frames.back().frame->size();
        if (event.sequence() >= until || bytes >= kPageBytes || frames.size() >= kPageEvents) {
          enough.request_stop();
        }
      },
      enough.get_token(), absl::Now() + kPageTime);
  if (ConnectionMonitor::IsLoss(status) && status.code() == absl::StatusCode::kUnavailable) {
    feed.feeding_.monitor->Lost(status);
  }
  std::function<void()> wake;
  {
    const base::MutexLock lock(page.mutex);
    page.failures = frames.empty() ? page.failures + 1 : 0;
    page.frames = std::move(frames);
    page.reading = false;
    wake = page.wake;
    // With the lock: the subscriber takes it before it goes.
    if (wake != nullptr) wake();
  }
}

bool JobFeed::Source::AskForPage() {
  {
    const base::MutexLock lock(page_->mutex);
    if (page_->reading) return true;
    if (page_->failures >= kMostFailures) return false;
    page_->reading = true;
  }
  const bool posted =
      feed_->feeding_.post([feed = feed_, page = page_, after = after_,
                            until = feed_->first_kept() - 1] { Read(*feed, *page, after, until); });
  if (posted) return true;
  const base::MutexLock lock(page_->mutex);
  page_->reading = false;
  return ++page_->failures < kMostFailures;
}

FrameSource::Next JobFeed::Source::Take(Frame& frame) {
  if (told_end_) return Next::kEnd;
  if (TakeOfPage(frame)) return Next::kFrame;
  const Asked next = feed_->Next(after_, generation_);
  switch (next.what) {
    case Asked::What::kEvent:
      ++after_;
      frame = next.frame;
      return Next::kFrame;
    case Asked::What::kPage:
      return AskForPage() ? Next::kNothing : Next::kEnd;
    case Asked::What::kReset:
      after_ = 0;
      generation_ = next.generation;
      told_caught_up_ = false;
      frame = MakeFrame("reset", "{}", "0");
      return Next::kFrame;
    case Asked::What::kCaughtUp:
    case Asked::What::kEnd:
    case Asked::What::kGone:
      if (!std::exchange(told_caught_up_, true)) {
        frame = MakeFrame("caught-up", "{}");
        return Next::kFrame;
      }
      if (next.what == Asked::What::kCaughtUp) return Next::kNothing;
      told_end_ = true;
      frame = next.frame;
      return Next::kFrame;
    case Asked::What::kNothing:
      break;
  }
  return Next::kNothing;
}

std::shared_ptr<JobFeed> JobFeed::Start(std::string job, int64_t first, Feeding feeding) {
  std::shared_ptr<JobFeed> feed(new JobFeed(std::move(job), first, std::move(feeding)));
  feed->thread_ =
      std::jthread([self = feed.get()](const std::stop_token& stop) { self->Run(stop); });
  return feed;
}

JobFeed::JobFeed(std::string job, int64_t first, Feeding feeding)
    : job_(std::move(job)),
      feeding_(std::move(feeding)),
      next_(first),
      heard_(absl::InfiniteFuture()),
      mark_(absl::InfiniteFuture()),
      idle_since_(absl::Now()) {}

JobFeed::~JobFeed() = default;

std::unique_ptr<FrameSource> JobFeed::Subscribe(int64_t after) {
  return std::make_unique<Source>(shared_from_this(), after);
}

void JobFeed::Subscribed(int change) {
  const base::MutexLock lock(mutex_);
  subscribers_ += change;
  if (subscribers_ == 0) idle_since_ = absl::Now();
}

int JobFeed::subscribers() const {
  const base::MutexLock lock(mutex_);
  return subscribers_;
}

absl::Time JobFeed::idle_since() const {
  const base::MutexLock lock(mutex_);
  return subscribers_ == 0 ? idle_since_ : absl::InfiniteFuture();
}

int64_t JobFeed::FirstKept() const { return kept_.empty() ? next_ : kept_.front().sequence; }

int64_t JobFeed::first_kept() const {
  const base::MutexLock lock(mutex_);
  return FirstKept();
}

JobFeed::Asked JobFeed::Next(int64_t after, int64_t generation) const {
  using What = Asked::What;
  const base::MutexLock lock(mutex_);
  if (generation != generation_) return {What::kReset, nullptr, generation_};
  if (after + 1 < FirstKept()) return {What::kPage, nullptr, 0};
  if (after + 1 < next_) {
    const auto place = static_cast<size_t>(after + 1 - kept_.front().sequence);
    return {What::kEvent, kept_[place].frame, 0};
  }
  if (gone_) {
    client::Json json;
    json["name"] = job_;
    return {What::kGone, MakeFrame("gone", client::ToJson(json, client::Layout::kLine)), 0};
  }
  if (ended_) return {What::kEnd, MakeFrame("end", "{}"), 0};
  // A subscriber that is ahead waits for events that it has not seen.
  return {caught_up_ ? What::kCaughtUp : What::kNothing, nullptr, 0};
}

void JobFeed::Add(const v1::JobEvent& event) {
  NumberedFrame numbered = FrameOf(event);
  {
    const base::MutexLock lock(mutex_);
    // Events follow each other; one that does not would be another coordinator's.
    if (numbered.sequence != next_) {
      kept_.clear();
      kept_bytes_ = 0;
    }
    next_ = numbered.sequence + 1;
    kept_bytes_ += numbered.frame->size();
    kept_.push_back(std::move(numbered));
    while (kept_bytes_ > kKeptBytes && kept_.size() > 1) {
      kept_bytes_ -= kept_.front().frame->size();
      kept_.pop_front();
    }
    heard_ = absl::Now();
    lag_ = heard_ - wire::FromProto(event.time());
    any_ = true;
  }
  listeners_.Tell();
}

void JobFeed::Reset() {
  {
    const base::MutexLock lock(mutex_);
    kept_.clear();
    kept_bytes_ = 0;
    next_ = 1;
    ++generation_;
    caught_up_ = false;
  }
  listeners_.Tell();
}

bool JobFeed::IsPastSent(absl::Time now) {
  if (now - heard_ >= (any_ ? kQuiet : kSilent)) return true;
  if (!any_ || now - mark_ < kMark) return false;
  const bool is_live = lag_at_mark_ - lag_ < kNearer;
  lag_at_mark_ = lag_;
  mark_ = now;
  return is_live;
}

void JobFeed::Tick(absl::Time now) {
  if (!feeding_.monitor->state().connected) return;
  {
    const base::MutexLock lock(mutex_);
    if (caught_up_ || !IsPastSent(now)) return;
    caught_up_ = true;
  }
  listeners_.Tell();
}

void JobFeed::Run(const std::stop_token& stop) {
  while (feeding_.monitor->WaitUntilConnected(stop)) {
    int64_t after = 0;
    {
      const base::MutexLock lock(mutex_);
      after = next_ - 1;
      heard_ = absl::Now();
      any_ = false;
      mark_ = heard_;
      lag_at_mark_ = absl::InfiniteDuration();
    }
    const absl::Status status = feeding_.watch(
        job_, after, [this](const v1::JobEvent& event) { Add(event); }, stop,
        absl::InfiniteFuture());
    if (stop.stop_requested()) return;
    if (status.ok() || status.code() == absl::StatusCode::kNotFound) {
      {
        const base::MutexLock lock(mutex_);
        ended_ = true;
        gone_ = !status.ok();
      }
      listeners_.Tell();
      return;
    }
    if (status.code() == absl::StatusCode::kOutOfRange) {
      Reset();
    } else if (status.code() == absl::StatusCode::kUnavailable) {
      feeding_.monitor->Lost(status);
    } else if (status.code() != absl::StatusCode::kDeadlineExceeded) {
      // Such as a certificate that has expired. Calls say what it is; here it is tried again.
      base::SleepUnlessStopped(kPause, stop);
    }
  }
}

}  // namespace espalier::dashboard
