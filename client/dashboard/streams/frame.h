// Frame: one event of an event stream (text/event-stream), shared by all streams that send it; and
// where streams take their frames from.
//
// Threading: frames are immutable. A source is taken from by one thread at a time, which it never
// keeps waiting; it calls its listener from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace espalier::dashboard {

using Frame = std::shared_ptr<const std::string>;

// `data` is JSON on one line. `id` comes back from browsers as Last-Event-ID; one that is not of
// printable ASCII is left out.
Frame MakeFrame(std::string_view event, std::string_view data, std::string_view id = "");

class FrameSource {
 public:
  enum class Next { kFrame, kNothing, kEnd };

  virtual ~FrameSource() = default;
  // Before the first Take(): `wake` is called when there may be more after a kNothing.
  virtual void Listen(std::function<void()> wake) = 0;
  virtual Next Take(Frame& frame) = 0;
};

}  // namespace espalier::dashboard
