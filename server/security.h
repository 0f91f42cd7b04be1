// Security: the certificates of a coordinator, its authority for workers and its audit log, as its
// flags name them; and that they are kept up to date.
//
// A thread of its own reads the files again every five seconds and on SIGHUP, which has to be blocked in
// all threads. What is wrong is logged, and what was there before stays in use.
// Threading: one thread, but for what tls() and audit() say of themselves.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/metrics/metrics.h"
#include "common/pki/authority.h"
#include "common/rpc/server_tls.h"
#include "server/access/gate.h"
#include "server/access/registry.h"
#include "server/audit/audit_log.h"
#include "server/flags.h"

namespace espalier::server {

// Takes from --tls-dir what other flags do not name.
absl::Status CompleteTlsFlags(Flags& flags);

class Security {
 public:
  // `clock` and `metrics` are borrowed. Errors: those of ServerTls, pki::Authority and AuditLog.
  static absl::StatusOr<std::unique_ptr<Security>> Open(const Flags& flags,
                                                        const base::Clock& clock,
                                                        metrics::Metrics& metrics);
  ~Security() = default;
  Security(const Security&) = delete;
  Security& operator=(const Security&) = delete;

  // Begins to watch the files.
  void Watch();
  // Whether SIGHUP came since the last call, so that others can read their files again, too.
  bool TakeHangup() { return hangup_.exchange(false); }

  // Null: plain text.
  rpc::ServerTls* tls() { return tls_.get(); }
  // Null: workers cannot join.
  const pki::Authority* workers() const { return workers_.has_value() ? &*workers_ : nullptr; }
  audit::AuditLog* audit() { return audit_.get(); }
  // Both are borrowed by the gate.
  access::Gate MakeGate(const access::Registry& registry);
  // Opens the audit log in a folder that is this process's.
  absl::Status OpenAudit(const std::string& folder);

 private:
  Security(const base::Clock& clock, metrics::Metrics& metrics)
      : clock_(clock), metrics_(metrics) {}
  void Run(const std::stop_token& stop);
  void Reload(bool asked);
  // Tells of what ends soon, once a day, and shows all ends in the metrics.
  void LookAtDates();

  const base::Clock& clock_;
  metrics::Metrics& metrics_;
  std::unique_ptr<rpc::ServerTls> tls_;
  std::optional<pki::Authority> workers_;
  std::unique_ptr<audit::AuditLog> audit_;
  std::atomic<bool> hangup_{false};
  std::string trouble_;  // that was told last
  absl::Duration warned_ = -absl::InfiniteDuration();
  std::jthread watcher_;
};

}  // namespace espalier::server
