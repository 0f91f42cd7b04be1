#include "server/front.h"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/base/version.h"
#include "common/log/log.h"
#include "common/rpc/handshakes.h"
#include "common/rpc/self_check.h"
#include "common/wire/proto_time.h"
#include "server/connection_limits.h"

namespace espalier::server {
namespace {

constexpr absl::Duration kLogLimitsEvery = absl::Seconds(10);
constexpr absl::Duration kLogRefusalsEvery = absl::Seconds(1);
constexpr absl::Duration kCheckCallersEvery = absl::Seconds(1);
constexpr auto kDrain = std::chrono::seconds(5);

v1::ClusterInfo MakeInfo(const base::Clock& clock, const std::string& metrics_address) {
  v1::ClusterInfo info;
  info.set_version(std::string(base::Version()));
  info.set_protocol_min(base::kProtocolMin);
  info.set_protocol_max(base::kProtocolMax);
  info.set_metrics_address("http://" + metrics_address + "/metrics");
  wire::SetTimestamp(clock.Wall(), info.mutable_start_time());
  return info;
}

// Tells of clients that get no connection because their TLS handshake fails.
std::function<void(const rpc::HandshakeFailure&)> HandshakeTeller(const base::Clock& clock,
                                                                  metrics::Metrics& metrics) {
  // One for each kind, so that a scanner does not hide a worker whose certificate has expired.
  auto pacers = std::make_shared<std::map<std::string, base::Pacer, std::less<>>>();
  for (const char* kind : rpc::kHandshakeFailureKinds) pacers->try_emplace(kind, kLogLimitsEvery);
  return [&clock, &metrics, pacers](const rpc::HandshakeFailure& failure) {
    metrics.Add(metrics::Metric::kHandshakesFailed, 1, failure.kind);
    if (const auto times = pacers->find(failure.kind)->second.Take(clock.Elapsed())) {
      log::Warning("tls_handshake_failed",
                   {{"reason", failure.kind}, {"message", failure.message}, {"times", *times}});
    }
  };
}

// As SystemInfo.store says it: what is in an address is nobody's business.
std::string StoreWord(const std::string& store) { return store.substr(0, store.find(':')); }

}  // namespace

Front::Front(const Flags& flags, Parts parts, Security& security)
    : parts_(parts),
      security_(security),
      registry_(std::make_shared<access::Registry>(parts.clock, parts.entropy, parts.journal)),
      gate_(security.MakeGate(*registry_)),
      deadlines_(parts.clock),
      limit_log_(kLogLimitsEvery),
      refusal_log_(kLogRefusalsEvery),
      connections_(parts.clock, ConnectionLimitsFrom(flags, parts.limits, parts.descriptors),
                   EndTeller(parts.clock, parts.metrics)),
      context_{{gate_, *registry_, open_calls_, rates_, security.audit(), security.workers(),
                absl::Hours(24) * flags.worker_certificate_days,
                [&security] {
                  return security.tls() == nullptr ? absl::InfiniteFuture()
                                                   : security.tls()->not_after();
                }},
               parts.core,
               parts.pool,
               parts.files,
               parts.clock,
               parts.jobs,
               parts.fleet,
               parts.methods,
               parts.checkpoints,
               parts.blobs,
               parts.metrics,
               deadlines_,
               parts.entropy,
               limit_log_,
               refusal_log_,
               parts.limits,
               flags.data_dir + "/spool",
               MakeInfo(parts.clock, parts.metrics_address)},
      workers_(context_),
      jobs_(context_),
      methods_(context_),
      cluster_(context_),
      checkpoints_(context_),
      predict_(context_),
      structure_(context_),
      events_(context_),
      progress_(context_),
      system_(context_, StoreWord(flags.store)),
      access_(context_) {}

absl::Status Front::Start(const Flags& flags, store::Store* store,
                          std::function<void(const absl::Status&)> dead) {
  if (store != nullptr) {
    ESPALIER_ASSIGN_OR_RETURN(const auto records, store->AccessRecords());
    ESPALIER_RETURN_IF_ERROR(registry_->Restore(records));
  }
  if (security_.tls() != nullptr) {
    rpc::TellOfFailedHandshakes(HandshakeTeller(parts_.clock, parts_.metrics));
  }
  rpc::ServerOptions options;
  options.listen = flags.listen;
  options.tls = security_.tls();
  options.insecure = flags.insecure;
  options.reflection = flags.reflection;
  options.connections_below = parts_.descriptors.connections;
  options.on_refused = RefusalTeller(parts_.clock, parts_.metrics);
  options.connections = &connections_;
  ESPALIER_ASSIGN_OR_RETURN(
      running_,
      rpc::StartServer(options, {&workers_, &jobs_, &methods_, &cluster_, &checkpoints_, &predict_,
                                 &structure_, &events_, &progress_, &system_, &access_}));
  const SelfProbeOptions probe;
  probe_ = std::make_unique<SelfProbe>(
      probe,
      [this, tls = options.tls != nullptr, probe] {
        return rpc::CheckAnswers(running_, tls, probe.limit);
      },
      std::move(dead), parts_.clock, parts_.metrics);
  return absl::OkStatus();
}

void Front::Tick() {
  deadlines_.Expire();
  connections_.Expire();
  if (parts_.clock.Elapsed() - callers_checked_ < kCheckCallersEvery) return;
  callers_checked_ = parts_.clock.Elapsed();
  open_calls_.Check(gate_);
}

void Front::Stop() {
  probe_.reset();
  running_.acceptor.reset();
  running_.server->Shutdown(std::chrono::system_clock::now() + kDrain);
  running_.server->Wait();
}

}  // namespace espalier::server
