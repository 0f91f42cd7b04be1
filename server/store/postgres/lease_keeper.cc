#include "server/store/postgres/lease_keeper.h"

#include <fmt/core.h>

#include <utility>

#include "absl/time/time.h"
#include "common/base/sleep.h"
#include "common/base/status.h"

namespace espalier::server::store {
namespace {

// A lease survives a few renewals that fail.
constexpr int kRenewalsInALease = 4;

}  // namespace

LeaseKeeper::LeaseKeeper(PostgresStore& store, std::function<void(const absl::Status&)> lost)
    : store_(store),
      lost_(std::move(lost)),
      thread_([this](const std::stop_token& stop) { Keep(stop); }) {}

LeaseKeeper::~LeaseKeeper() {
  thread_.request_stop();
  thread_.join();
  store_.Release();
}

void LeaseKeeper::Keep(const std::stop_token& stop) {
  const auto pace = absl::ToChronoNanoseconds(store_.lease() / kRenewalsInALease);
  for (; !stop.stop_requested(); base::SleepUnlessStopped(pace, stop)) {
    const absl::Status renewed = store_.RenewLease();
    if (renewed.ok()) continue;
    if (base::ReasonOf(renewed) == "STORE_LEASE_LOST") {
      lost_(renewed);
      return;
    }
    if (store_.HoldsLease()) continue;
    lost_(base::MakeError(
        absl::StatusCode::kAborted, "STORE_LEASE_EXPIRED",
        fmt::format("the lease of the jobs could not be renewed within {}, and another "
                    "coordinator may have taken over: {}",
                    absl::FormatDuration(store_.lease()), base::MessageOf(renewed))));
    return;
  }
}

}  // namespace espalier::server::store
