#include "client/dashboard/streams/event_stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/time/clock.h"
#include "client/json/json.h"

namespace espalier::dashboard {
namespace {

// Browsers ask again two seconds after a stream has ended.
constexpr char kBegin[] = "retry: 2000\n\n";
constexpr char kComment[] = ":\n\n";

Frame StateFrame(const ConnectionMonitor::State& state) {
  if (state.connected) return MakeFrame("connected", "{}");
  client::Json json;
  json["message"] = state.message;
  json["since"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ", state.since, absl::UTCTimeZone());
  return MakeFrame("disconnected", client::ToJson(json, client::Layout::kLine));
}

}  // namespace

EventStream::EventStream(std::unique_ptr<FrameSource> source, ConnectionMonitor& monitor)
    : source_(std::move(source)),
      monitor_(monitor),
      frame_(std::make_shared<const std::string>(kBegin)),
      last_sent_(absl::ToUnixNanos(absl::Now())) {}

EventStream::~EventStream() {
  if (listener_ != 0) monitor_.listeners().Remove(listener_);
}

void EventStream::Listen(std::function<void()> wake) {
  listener_ = monitor_.listeners().Add(wake);
  source_->Listen(std::move(wake));
}

bool EventStream::NextFrame(bool& end) {
  sent_of_frame_ = 0;
  // A loss that was over before it could be told is not told.
  if (const ConnectionMonitor::State state = monitor_.state(); state.connected != told_connected_) {
    told_connected_ = state.connected;
    frame_ = StateFrame(state);
    return true;
  }
  switch (source_->Take(frame_)) {
    case FrameSource::Next::kFrame:
      return true;
    case FrameSource::Next::kEnd:
      end = true;
      return false;
    case FrameSource::Next::kNothing:
      break;
  }
  if (!comment_due_.exchange(false)) return false;
  frame_ = std::make_shared<const std::string>(kComment);
  return true;
}

LiveBody::Progress EventStream::Read(char* to, size_t room, size_t& count) {
  bool end = false;
  while (count < room) {
    if (frame_ == nullptr && !NextFrame(end)) break;
    const size_t size = std::min(frame_->size() - sent_of_frame_, room - count);
    std::memcpy(to + count, frame_->data() + sent_of_frame_, size);
    count += size;
    sent_of_frame_ += size;
    if (sent_of_frame_ == frame_->size()) frame_ = nullptr;
  }
  if (count > 0) {
    last_sent_ = absl::ToUnixNanos(absl::Now());
    return Progress::kBytes;
  }
  return end ? Progress::kEnd : Progress::kWait;
}

bool EventStream::Tick(absl::Time now) {
  if (now - absl::FromUnixNanos(last_sent_) < kSilence) return false;
  comment_due_ = true;
  return true;
}

}  // namespace espalier::dashboard
