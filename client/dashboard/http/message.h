// What comes in and goes out: requests, replies, and bodies that are made while they are sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "client/dashboard/http/target.h"

namespace espalier::dashboard {

struct Request {
  std::string method;
  Target target;
  // By their names in lower case. Of a header that comes twice, both with ", " between them.
  std::map<std::string, std::string, std::less<>> headers;
  std::string body;

  std::string Header(std::string_view name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? "" : found->second;
  }
};

// Threading: Read() and the destructor are called by the server's thread, and must not wait; Tick() by
// another one, never at the same time as Listen() or the destructor.
class LiveBody {
 public:
  // kWait: there is nothing at present. kBroken: the connection is ended, so that nobody takes what
  // came for all of it.
  enum class Progress { kBytes, kWait, kEnd, kBroken };

  virtual ~LiveBody() = default;
  // Called once, before the first Read(): `wake` is to be called, by any thread, when there may be
  // more after a kWait.
  virtual void Listen(std::function<void()> wake) = 0;
  // Puts at most `room` bytes at `to`, and says in `count` how many.
  virtual Progress Read(char* to, size_t room, size_t& count) = 0;
  // Called about each second. True: there is something to send.
  virtual bool Tick(absl::Time now) { return false; }
};

struct Reply {
  unsigned int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::shared_ptr<const std::string> body;  // null: none
  std::shared_ptr<LiveBody> live;           // in place of it
  int64_t live_bytes = -1;                  // of `live`, where that is known
};

}  // namespace espalier::dashboard
