// What the gRPC services share. Everything is borrowed and outlives the server.
#pragma once

#include <string>
#include <utility>

#include "common/base/clock.h"
#include "common/base/entropy.h"
#include "common/base/executor.h"
#include "common/base/limits.h"
#include "common/base/pacer.h"
#include "common/metrics/metrics.h"
#include "espalier/v1/cluster.pb.h"
#include "server/api/deadlines.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/jobs/job_manager.h"
#include "server/methods/program.h"
#include "server/round/blob_store.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::api {

struct Context {
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
  base::Pacer& limit_log;  // of lines about calls that pass a limit
  base::Limits limits;
  std::string spool_directory;
  v1::ClusterInfo info;  // version, protocol, addresses
};

}  // namespace espalier::server::api
