// ChangeWatch: a stream of what changes among all jobs or all workers, from a ChangeFeed.
//
// It first sends all things as they are, then that it has caught up, then what changes. A reader who
// comes back with a token is sent what changed since; where that is not kept any more, a reset and all
// things.
//
// Limits:    a batch of kBatch changes is looked up at a time and waits for the reader, who is told of
//            the newest state of a thing only.
// Threading: as WriteStream; the feed is used on the core executor.
#pragma once

#include <fmt/format.h>

#include <charconv>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/printable.h"
#include "common/base/status.h"
#include "server/api/write_stream.h"
#include "server/events/change_feed.h"

namespace espalier::server::api {

template <typename Response>
class ChangeWatch : public WriteStream<Response> {
 public:
  using Change = events::ChangeFeed::Change;

  ChangeWatch(const Context& context, const char* method, grpc::CallbackServerContext* call)
      : WriteStream<Response>(
            context, method, call,
            {context.limits.watch_stall,
             LimitError("WATCH_STALLED", "a change to be read", context.limits.watch_stall,
                        "watch again with the resume_token that came last",
                        absl::StatusCode::kResourceExhausted)}) {}

  // On the core. `life` tells one life of the coordinator from another one; a stream without a token also
  // sends the newest `past_events`.
  void Attach(events::ChangeFeed& feed, uint64_t life, const std::string& token,
              size_t past_events) {
    if (released_) return;
    feed_ = &feed;
    life_ = life;
    past_events_ = past_events;
    if (token.empty()) {
      BeginAnew();
    } else if (const absl::Status goes_on = GoOnAfter(token); !goes_on.ok()) {
      this->End(goes_on);
      return;
    }
    listener_ = feed.Listen([this] { Refill(); });
    this->Pump();
  }

 protected:
  struct Told {
    uint64_t number = 0;
    Response message;
  };
  using Fetched = std::function<void(absl::StatusOr<std::vector<Told>>)>;

  // Whether the caller may know of it.
  virtual bool Shows(const Change& change) const = 0;
  // Calls `done` on the core with what to send about these changes, each with the number of its change;
  // nothing is sent about those of which there is nothing to say.
  virtual void Fetch(std::vector<Change> changes, Fetched done) = 0;

  bool Produce(Response& message, bool& at_end, absl::Status& end) override {
    const base::MutexLock lock(ready_mutex_);
    if (ready_.empty()) {
      this->context().core.Post([self = Self()] { self->Refill(); });
      return false;
    }
    message = std::move(ready_.front());
    ready_.pop_front();
    return true;
  }

  void Released() override {
    released_ = true;
    if (feed_ != nullptr) feed_->Unlisten(listener_);
  }

 private:
  static constexpr size_t kBatch = 50;

  // Changes that were looked up together.
  struct Batch {
    uint64_t read = 0;  // of the last of them
    size_t size = 0;
    size_t limit = 0;
  };

  std::shared_ptr<ChangeWatch> Self() {
    return std::static_pointer_cast<ChangeWatch>(this->shared_from_this());
  }

  void BeginAnew() {
    from_scratch_ = true;
    caught_up_ = false;
    read_ = 0;
    begin_ = feed_->last();
    events_after_ = feed_->BeforeNewestEvents(
        past_events_, [this](const Change& change) { return Shows(change); });
  }

  absl::Status GoOnAfter(const std::string& token) {
    uint64_t life = 0;
    uint64_t number = 0;
    const char* const end = token.data() + token.size();
    const auto first = std::from_chars(token.data(), end, life, 16);
    const bool has_dot = first.ec == std::errc() && first.ptr != end && *first.ptr == '.';
    const auto second = has_dot ? std::from_chars(first.ptr + 1, end, number, 16) : first;
    if (!has_dot || second.ec != std::errc() || second.ptr != end) {
      return base::InvalidArgument("INVALID_RESUME_TOKEN",
                                   "expected a resume_token of an earlier stream, found '" +
                                       base::Printable(token) + "'; begin without one");
    }
    if (life != life_) {
      Reset("the coordinator was started again");
      return absl::OkStatus();
    }
    from_scratch_ = false;
    read_ = begin_ = number;
    return absl::OkStatus();
  }

  void Reset(const std::string& reason) {
    Response message;
    message.mutable_reset()->set_reason(reason);
    Add({std::move(message)});
    BeginAnew();
  }

  void Add(std::vector<Response> messages) {
    const base::MutexLock lock(ready_mutex_);
    for (Response& message : messages) ready_.push_back(std::move(message));
  }

  bool HasReady() {
    const base::MutexLock lock(ready_mutex_);
    return !ready_.empty();
  }

  // On the core: looks up what comes next, once the reader has all that was looked up before.
  void Refill() {
    if (released_ || feed_ == nullptr || fetching_ || HasReady()) return;
    const size_t limit = read_ < one_by_one_until_ ? 1 : kBatch;
    auto changes = feed_->After(read_, begin_, limit);
    if (!changes.has_value()) {
      Reset("what changed since then is not kept any more");
      this->Pump();
      return;
    }
    if (changes->empty()) {
      if (!caught_up_) CatchUp();
      return;
    }
    const Batch batch{.read = changes->back().number, .size = changes->size(), .limit = limit};
    std::erase_if(*changes, [this](const Change& change) { return !IsWanted(change); });
    fetching_ = true;
    Fetch(*std::move(changes), [self = Self(), batch](absl::StatusOr<std::vector<Told>> found) {
      self->OnFetched(batch, std::move(found));
    });
  }

  // What had passed before a stream began from scratch is not told, but for the newest events.
  bool IsWanted(const Change& change) const {
    const bool has_passed = from_scratch_ && change.number <= begin_;
    if (has_passed && change.kind == Change::Kind::kGone) return false;
    if (has_passed && change.kind == Change::Kind::kEvent && change.number <= events_after_) {
      return false;
    }
    return Shows(change);
  }

  void OnFetched(const Batch& batch, absl::StatusOr<std::vector<Told>> found) {
    fetching_ = false;
    if (!found.ok()) {
      OnUnreadable(batch, found.status());
      return;
    }
    read_ = batch.read;
    std::vector<Response> messages;
    for (Told& told : *found) {
      // A stream that began from scratch and has not caught up cannot go on in the middle.
      if (caught_up_ || !from_scratch_) SetToken(told.number, told.message);
      messages.push_back(std::move(told.message));
    }
    Add(std::move(messages));
    // There is no more at this moment: what changed meanwhile stood behind what was there before.
    if (!caught_up_ && batch.size < batch.limit) {
      CatchUp();
      return;
    }
    // Produce() asks for more where there is nothing.
    this->Pump();
  }

  // A thing that was deleted while it was read, or whose record is damaged, is left out, and found by
  // asking for one after the other. All other errors end the stream.
  void OnUnreadable(const Batch& batch, const absl::Status& status) {
    if (!absl::IsNotFound(status) && !absl::IsDataLoss(status)) {
      this->End(status);
      return;
    }
    if (batch.limit > 1) {
      one_by_one_until_ = batch.read;
    } else {
      read_ = batch.read;
    }
    this->context().core.Post([self = Self()] { self->Refill(); });
  }

  void CatchUp() {
    caught_up_ = true;
    Response message;
    message.mutable_caught_up();
    SetToken(read_, message);
    Add({std::move(message)});
    this->Pump();
  }

  void SetToken(uint64_t number, Response& message) const {
    message.set_resume_token(fmt::format("{:x}.{:x}", life_, number));
  }

  bool released_ = false;
  events::ChangeFeed* feed_ = nullptr;
  uint64_t life_ = 0;
  size_t past_events_ = 0;
  uint64_t listener_ = 0;
  bool from_scratch_ = true;
  bool caught_up_ = false;
  bool fetching_ = false;
  uint64_t read_ = 0;              // changes up to this one were looked up
  uint64_t begin_ = 0;             // as ChangeFeed::After() takes it
  uint64_t events_after_ = 0;      // those after it are told to who begins from scratch
  uint64_t one_by_one_until_ = 0;  // something up to this change cannot be read
  base::Mutex ready_mutex_;
  std::deque<Response> ready_ ABSL_GUARDED_BY(ready_mutex_);
};

}  // namespace espalier::server::api
