// LeaseKeeper: renews the lease of a PostgresStore on a thread of its own for as long as it lives, and
// gives it back at its end.
//
// `lost` is called once, on that thread, when another coordinator has taken the lease (STORE_LEASE_LOST), or
// when it could not be renewed until it was over (STORE_LEASE_EXPIRED): then another one may have it, and this
// one must not go on.
// Ownership: the store is borrowed.
#pragma once

#include <functional>
#include <thread>

#include "absl/status/status.h"
#include "server/store/postgres/postgres_store.h"

namespace espalier::server::store {

class LeaseKeeper {
 public:
  LeaseKeeper(PostgresStore& store, std::function<void(const absl::Status&)> lost);
  ~LeaseKeeper();
  LeaseKeeper(const LeaseKeeper&) = delete;
  LeaseKeeper& operator=(const LeaseKeeper&) = delete;

 private:
  void Keep(const std::stop_token& stop);

  PostgresStore& store_;
  const std::function<void(const absl::Status&)> lost_;
  std::jthread thread_;
};

}  // namespace espalier::server::store
