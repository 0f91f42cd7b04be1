#include "client/dashboard/streams/board.h"

#include <utility>

#include "absl/time/clock.h"

namespace espalier::dashboard {

class Board::Source : public FrameSource {
 public:
  // First the frames of `before`, then the changes from number `next` on, with `caught_up` in front of
  // the one of number `present`, unless it is null.
  Source(std::shared_ptr<Board> board, std::deque<Frame> before, int64_t next, int64_t present,
         Frame caught_up)
      : board_(std::move(board)),
        before_(std::move(before)),
        next_(next),
        present_(present),
        caught_up_(std::move(caught_up)) {}
  ~Source() override {
    if (listener_ != 0) board_->listeners_.Remove(listener_);
    board_->Subscribed(-1);
  }

  void Listen(std::function<void()> wake) override {
    listener_ = board_->listeners_.Add(std::move(wake));
  }

  Next Take(Frame& frame) override {
    if (!before_.empty()) {
      frame = std::move(before_.front());
      before_.pop_front();
      return Next::kFrame;
    }
    if (next_ >= present_ && caught_up_ != nullptr) {
      frame = std::exchange(caught_up_, nullptr);
      return Next::kFrame;
    }
    const Next next = board_->At(next_, frame);
    if (next == Next::kFrame) ++next_;
    return next;
  }

 private:
  const std::shared_ptr<Board> board_;
  std::deque<Frame> before_;
  int64_t next_;
  const int64_t present_;
  Frame caught_up_;
  uint64_t listener_ = 0;
};

void Board::Keep(Frame frame, const std::string& id) {
  kept_bytes_ += frame->size();
  changes_.push_back({std::move(frame), id});
  if (!id.empty()) last_id_ = id;
  while (kept_bytes_ > kKeptBytes && changes_.size() > 1) {
    kept_bytes_ -= changes_.front().frame->size();
    changes_.pop_front();
    ++first_;
  }
}

void Board::Put(const std::string& name, const Frame& frame, const std::string& id) {
  {
    const base::MutexLock lock(mutex_);
    things_[name] = frame;
    Keep(frame, id);
  }
  listeners_.Tell();
}

void Board::Remove(const std::string& name, const Frame& frame, const std::string& id) {
  {
    const base::MutexLock lock(mutex_);
    things_.erase(name);
    Keep(frame, id);
  }
  listeners_.Tell();
}

void Board::Happened(const Frame& frame, const std::string& id) {
  {
    const base::MutexLock lock(mutex_);
    happenings_.push_back(frame);
    if (happenings_.size() > kKeptHappenings) happenings_.pop_front();
    Keep(frame, id);
  }
  listeners_.Tell();
}

void Board::CaughtUp(const std::string& id) {
  {
    const base::MutexLock lock(mutex_);
    caught_up_ = true;
    Keep(MakeFrame("caught-up", "{}", id), id);
  }
  listeners_.Tell();
}

void Board::Reset() {
  {
    const base::MutexLock lock(mutex_);
    things_.clear();
    happenings_.clear();
    caught_up_ = false;
    Keep(MakeFrame("reset", "{}"), "");
    last_id_.clear();
  }
  listeners_.Tell();
}

std::vector<std::string> Board::names() const {
  const base::MutexLock lock(mutex_);
  std::vector<std::string> names;
  names.reserve(things_.size());
  for (const auto& [name, frame] : things_) names.push_back(name);
  return names;
}

int64_t Board::AfterId(const std::string& id) const {
  if (id.empty()) return -1;
  // The last one of that id: several changes may share it.
  for (size_t i = changes_.size(); i > 0; --i) {
    if (changes_[i - 1].id == id) return first_ + static_cast<int64_t>(i);
  }
  return -1;
}

std::unique_ptr<FrameSource> Board::Subscribe(const std::string& after) {
  std::deque<Frame> before;
  int64_t next = 0;
  int64_t present = 0;
  Frame caught_up;
  {
    const base::MutexLock lock(mutex_);
    present = first_ + static_cast<int64_t>(changes_.size());
    next = AfterId(after);
    if (next < 0) {
      if (!after.empty()) before.push_back(MakeFrame("reset", "{}"));
      for (const auto& [name, frame] : things_) before.push_back(frame);
      for (const Frame& frame : happenings_) before.push_back(frame);
      next = present;
    }
    if (caught_up_) caught_up = MakeFrame("caught-up", "{}", last_id_);
  }
  Subscribed(1);
  return std::make_unique<Source>(shared_from_this(), std::move(before), next, present,
                                  std::move(caught_up));
}

FrameSource::Next Board::At(int64_t number, Frame& frame) const {
  const base::MutexLock lock(mutex_);
  if (number < first_) return FrameSource::Next::kEnd;
  const auto place = static_cast<size_t>(number - first_);
  if (place >= changes_.size()) return FrameSource::Next::kNothing;
  frame = changes_[place].frame;
  return FrameSource::Next::kFrame;
}

void Board::Subscribed(int change) {
  const base::MutexLock lock(mutex_);
  subscribers_ += change;
  if (subscribers_ == 0) idle_since_ = absl::Now();
}

int Board::subscribers() const {
  const base::MutexLock lock(mutex_);
  return subscribers_;
}

absl::Time Board::idle_since() const {
  const base::MutexLock lock(mutex_);
  return subscribers_ == 0 ? idle_since_ : absl::InfiniteFuture();
}

}  // namespace espalier::dashboard
