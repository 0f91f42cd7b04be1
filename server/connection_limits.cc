#include "server/connection_limits.h"

#include <algorithm>
#include <map>
#include <memory>

#include "common/base/pacer.h"
#include "common/log/log.h"

namespace espalier::server {
namespace {

constexpr int kMostPerSource = 1024;
constexpr int kMostNewcomers = 1024;
constexpr absl::Duration kLogEvery = absl::Seconds(10);

}  // namespace

std::function<void(net::Refusal, const std::string&)> RefusalTeller(const base::Clock& clock,
                                                                    metrics::Metrics& metrics) {
  // One for each reason, so that one source does not hide that there is no room for others.
  struct Told {
    const char* reason;
    base::Pacer pacer{kLogEvery};
  };
  using ByReason = std::map<net::Refusal, Told>;
  const auto told = std::make_shared<ByReason>();
  told->try_emplace(net::Refusal::kLimit, "limit");
  told->try_emplace(net::Refusal::kSource, "source");
  told->try_emplace(net::Refusal::kExhausted, "exhausted");
  return [&clock, &metrics, told](net::Refusal why, const std::string& peer) {
    auto& [reason, pacer] = told->at(why);
    metrics.Add(metrics::Metric::kConnectionsRefused, 1, reason);
    if (const auto times = pacer.Take(clock.Elapsed())) {
      log::Warning("connections_refused", {{"reason", reason}, {"peer", peer}, {"times", *times}});
    }
  };
}

std::function<void(net::Overdue, const std::string&)> EndTeller(const base::Clock& clock,
                                                                metrics::Metrics& metrics) {
  return [&clock, &metrics, pacer = std::make_shared<base::Pacer>(kLogEvery)](
             net::Overdue why, const std::string& peer) {
    const char* reason = why == net::Overdue::kRequest ? "request_timeout" : "no_call";
    metrics.Add(metrics::Metric::kCallsLimited, 1, reason);
    if (const auto times = pacer->Take(clock.Elapsed())) {
      log::Warning("connections_ended", {{"reason", reason}, {"peer", peer}, {"times", *times}});
    }
  };
}

net::ConnectionLimits ConnectionLimitsFrom(const Flags& flags, const base::Limits& limits,
                                           const net::DescriptorBudget& descriptors) {
  const int room = descriptors.connections;
  const int share = std::min(room / 2, kMostPerSource);
  return {limits.transfer_stall, room, flags.max_connections_per_source.value_or(share),
          std::min(room / 2, kMostNewcomers)};
}

}  // namespace espalier::server
