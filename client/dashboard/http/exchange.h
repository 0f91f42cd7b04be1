// Exchange: one request and its reply, from the moment in which libmicrohttpd has read the first line
// until it is done with both.
//
// A connection that has to wait is suspended: the library then leaves it alone until Wake().
// Threading: what is not guarded is of the server's thread. The rest may be called by any.
#pragma once

#include <microhttpd.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "client/dashboard/http/message.h"
#include "common/base/mutex.h"

namespace espalier::dashboard {

class Exchange {
 public:
  enum class Stage { kNew, kReceiving, kWorking, kReplying };

  // While `*stopping` nothing is suspended any more.
  Exchange(MHD_Connection* connection, std::string raw_target, const std::atomic<bool>* stopping);

  // Of the server's thread.
  Stage stage = Stage::kNew;
  Request request;
  size_t received = 0;  // bytes of the body, kept or not
  const std::string& raw_target() const { return raw_target_; }

  // Begins to look for a Wake().
  void ClearWoken();
  // Suspends the connection. False: something has come since ClearWoken(), or the connection is to end.
  bool Suspend();
  // The library is done: nothing here touches the connection from now on.
  void Over();

  void Wake();
  // The reply, made by another thread. Wakes.
  void SetReply(Reply reply);
  std::optional<Reply> TakeReply();
  void SetLive(std::shared_ptr<LiveBody> live);
  std::shared_ptr<LiveBody> live();
  // Whether the peer has closed the connection; looked at while it is suspended.
  bool gone();
  // Ends what is suspended.
  void GiveUp();
  // Looks whether the peer is there, and lets a live body send what is due.
  void Tick(absl::Time now);

 private:
  void WakeLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string raw_target_;
  const std::atomic<bool>* const stopping_;
  base::Mutex mutex_;
  MHD_Connection* connection_ ABSL_GUARDED_BY(mutex_);  // null: it is over
  bool suspended_ ABSL_GUARDED_BY(mutex_) = false;
  bool woken_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<Reply> reply_ ABSL_GUARDED_BY(mutex_);
  std::shared_ptr<LiveBody> live_ ABSL_GUARDED_BY(mutex_);
};

// The socket of a connection, or −1.
int SocketOf(MHD_Connection* connection);

}  // namespace espalier::dashboard
