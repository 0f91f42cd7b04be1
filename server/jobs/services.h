// What jobs share; borrowed, outlives them.
#pragma once

#include <memory>

#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/metrics/metrics.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/datasets/dataset_views.h"
#include "server/jobs/durable/journal.h"
#include "server/jobs/listing/round_memory.h"
#include "server/round/blob_store.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::jobs {

struct Services {
  scheduler::Fleet& fleet;
  base::Executor& core;
  base::Executor& pool;   // for what computes long
  base::Executor& files;  // for what waits for a disk or a bucket: checkpoints
  const base::Clock& clock;
  round::BlobStore& blobs;
  checkpoint::CheckpointStore& checkpoints;
  metrics::Metrics& metrics;
  datasets::DatasetViews& datasets;
  Journal& journal;
  std::shared_ptr<RoundMemory> rounds = std::make_shared<RoundMemory>();
};

}  // namespace espalier::server::jobs
