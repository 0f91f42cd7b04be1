// DownloadTickets: who may download a checkpoint, for some minutes.
//
// A ticket is 128 random bits that GetCheckpoint gives out and DownloadCheckpoint asks for. It is
// good for one checkpoint and one caller, as often as wanted until it expires, since downloads are
// continued. The same caller gets the same ticket again while more than half of its time is left,
// so that asking often does not push out the tickets of others.
//
// Limits:    `most` tickets; beyond, the one that expires first goes.
// Threading: thread-safe.
// Errors:    Check(): PermissionDenied TICKET_INVALID.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/entropy.h"
#include "common/base/mutex.h"

namespace espalier::server::api {

class DownloadTickets {
 public:
  DownloadTickets(const base::Clock& clock, base::Entropy& entropy, absl::Duration lifetime,
                  size_t most)
      : clock_(clock), entropy_(entropy), lifetime_(lifetime), most_(most) {}

  std::string Issue(const std::string& checkpoint, const std::string& caller);
  absl::Status Check(const std::string& ticket, const std::string& checkpoint,
                     const std::string& caller);

 private:
  using Holder = std::pair<std::string, std::string>;  // checkpoint, caller
  struct Ticket {
    Holder holder;
    absl::Duration expires;
  };

  void DropExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drop(std::string ticket) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const base::Clock& clock_;
  base::Entropy& entropy_;
  const absl::Duration lifetime_;
  const size_t most_;
  base::Mutex mutex_;
  std::map<std::string, Ticket> tickets_ ABSL_GUARDED_BY(mutex_);
  std::multimap<absl::Duration, std::string> by_expiry_ ABSL_GUARDED_BY(mutex_);
  std::map<Holder, std::string> newest_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace espalier::server::api
