// What the gRPC services share. Everything is borrowed and outlives the server.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "common/base/clock.h"
#include "common/base/entropy.h"
#include "common/base/executor.h"
#include "common/base/limits.h"
#include "common/base/pacer.h"
#include "common/metrics/metrics.h"
#include "common/pki/authority.h"
#include "espalier/v1/cluster.pb.h"
#include "server/access/call_rates.h"
#include "server/access/gate.h"
#include "server/access/open_calls.h"
#include "server/access/registry.h"
#include "server/api/deadlines.h"
#include "server/audit/audit_log.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/jobs/job_manager.h"
#include "server/methods/program.h"
#include "server/round/blob_store.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::api {

// Who may use the cluster.
struct Access {
  access::Gate& gate;
  access::Registry& registry;
  access::OpenCalls& open_calls;
  access::CallRates& rates;
  audit::AuditLog* audit = nullptr;  // null: nothing is written
  // Signs workers' certificates. Null: no worker can join.
  const pki::Authority* workers = nullptr;
  absl::Duration worker_certificate_life = absl::Hours(24 * 7);
  // When the coordinator's own certificate ends.
  std::function<absl::Time()> certificate_end = [] { return absl::InfiniteFuture(); };
};

struct Context {
  Access access;
  base::Executor& core;
  base::Executor& pool;
  base::Executor& files;
  const base::Clock& clock;
  jobs::JobManager& jobs;
  scheduler::Fleet& fleet;
  const methods::MethodRegistry& methods;
  checkpoint::CheckpointStore& checkpoints;
  round::BlobStore& blobs;
  metrics::Metrics& metrics;
  Deadlines& deadlines;
  base::Entropy& entropy;
  base::Pacer& limit_log;    // of lines about calls that pass a limit
  base::Pacer& refusal_log;  // of lines about calls that may not be made
  base::Limits limits;
  std::string spool_directory;
  v1::ClusterInfo info;  // version, protocol, addresses
};

}  // namespace espalier::server::api
