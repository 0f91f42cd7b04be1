// EventStream: a live body of type text/event-stream. It sends the frames of a source, says when the
// coordinator is lost and found again (`disconnected`, `connected`), and sends a comment when nothing
// else was sent for ten seconds, so that proxies keep the connection and its end is noticed.
//
// Limits:    it holds one frame; what is beyond that is its source's.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "client/dashboard/http/message.h"
#include "client/dashboard/streams/connection_monitor.h"
#include "client/dashboard/streams/frame.h"

namespace espalier::dashboard {

class EventStream : public LiveBody {
 public:
  static constexpr absl::Duration kSilence = absl::Seconds(10);

  EventStream(std::unique_ptr<FrameSource> source, ConnectionMonitor& monitor);
  ~EventStream() override;

  void Listen(std::function<void()> wake) override;
  Progress Read(char* to, size_t room, size_t& count) override;
  bool Tick(absl::Time now) override;

 private:
  // The next frame to send. False: there is none, and `end` says whether there will be.
  bool NextFrame(bool& end);

  std::unique_ptr<FrameSource> source_;
  ConnectionMonitor& monitor_;
  uint64_t listener_ = 0;
  bool told_connected_ = true;
  Frame frame_;
  size_t sent_of_frame_ = 0;
  std::atomic<int64_t> last_sent_;  // in nanoseconds of Unix time
  std::atomic<bool> comment_due_ = false;
};

}  // namespace espalier::dashboard
