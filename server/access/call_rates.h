// CallRates: how many calls, bytes and open streams one caller may have, so that none takes the
// coordinator from the others.
//
// Callers:   whatever the key says, an identity's name or the address of who has none (net/source.h).
// Rates:     a bucket of calls and one of bytes for each caller, which refill with time. A call takes
//            one from the first and its bytes from the second. A bucket of bytes gives more than it
//            has, so that a call may be longer than the burst; the next one waits until that is made
//            up for.
// Streams:   calls that stay open, such as a watcher's, count until their Stream goes.
// Errors:    ResourceExhausted CALL_RATE, which says in how many seconds the next call is let in, and
//            STREAMS_FULL. Nothing is taken from a call that is refused.
// Limits:    `callers` are remembered. Another one takes the place of the one without open streams
//            that called longest ago, and that one begins again with full buckets. So there must be
//            more callers than `streams`.
// Threading: thread-safe, nothing waits. Streams may outlive no CallRates.
// Time:      is given, and may go back a little, as threads overtake each other.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <unordered_map>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"

namespace espalier::server::access {

struct CallRateLimits {
  double calls_per_second = 200;
  double call_burst = 1'000;
  // A page of a browser or a script that uploads predictions is far below; the wire is not.
  double bytes_per_second = 64.0 * 1024 * 1024;
  double byte_burst = 256.0 * 1024 * 1024;
  int streams_per_caller = 64;
  // In all; `callers` must be greater.
  int streams = 4'096;
  size_t callers = 10'000;
};

class CallRates {
 private:
  struct Caller;
  // Those with open streams, and the others, who called longest ago first.
  using Callers = std::list<Caller>;

 public:
  // An open stream of a caller; gives its place back when it goes.
  class Stream {
   public:
    Stream() = default;
    Stream(Stream&& other) noexcept;
    Stream& operator=(Stream&& other) noexcept;
    ~Stream();

   private:
    friend class CallRates;
    Stream(CallRates* rates, Callers::iterator caller) : rates_(rates), caller_(caller) {}

    CallRates* rates_ = nullptr;
    Callers::iterator caller_;
  };

  explicit CallRates(const CallRateLimits& limits = {});
  ~CallRates();
  CallRates(const CallRates&) = delete;
  CallRates& operator=(const CallRates&) = delete;

  // Lets a call in, or says when to try again.
  absl::Status Take(const std::string& caller, int64_t bytes, absl::Duration now);
  // Lets a stream in, whose call was let in by Take().
  absl::StatusOr<Stream> Open(const std::string& caller, absl::Duration now);

  // Callers that are remembered.
  size_t callers() const;

 private:
  struct Caller {
    std::string name;
    double calls;  // that it may make at `at`
    double bytes;  // that it may send at `at`; below 0 when it sent more
    absl::Duration at;
    int streams = 0;
  };

  // The caller with its buckets as they are now, as the one that called last.
  Callers::iterator At(const std::string& name, absl::Duration now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Callers& ListOf(const Caller& caller) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return caller.streams > 0 ? streaming_ : others_;
  }
  void Close(Callers::iterator caller);

  const CallRateLimits limits_;
  mutable base::Mutex mutex_;
  Callers streaming_ ABSL_GUARDED_BY(mutex_);
  Callers others_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Callers::iterator> by_name_ ABSL_GUARDED_BY(mutex_);
  int streams_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace espalier::server::access
