// OpenCalls: calls that stay open, so that one whose caller is known no more can be ended: because his
// certificate has expired, or because it or his token was revoked.
//
// Threading: thread-safe. `end` is called by Check(), without a lock held.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "common/base/mutex.h"
#include "server/access/caller.h"
#include "server/access/gate.h"

namespace espalier::server::access {

class OpenCalls {
 public:
  // `end` is called at most once before Remove(), and perhaps while that is under way.
  uint64_t Add(Caller caller, std::function<void(const absl::Status&)> end);
  // Nothing happens for 0.
  void Remove(uint64_t id);
  // Of the worker of this name, as it showed it with a call that is open.
  std::optional<pki::Certificate> CertificateOf(const std::string& worker) const;
  // To be called regularly, about once a second.
  void Check(const Gate& gate);

 private:
  struct Entry {
    Caller caller;
    std::function<void(const absl::Status&)> end;
  };

  mutable base::Mutex mutex_;
  std::map<uint64_t, Entry> entries_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace espalier::server::access
