// Front: what a coordinator shows to its workers and to people: the services of its API behind one port,
// and who may use them.
//
// Threading: made, started and stopped by one thread, which also calls Tick().
// Ownership: borrows its parts.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "common/net/connections.h"
#include "common/net/descriptors.h"
#include "common/rpc/server.h"
#include "server/access/call_rates.h"
#include "server/access/gate.h"
#include "server/access/open_calls.h"
#include "server/access/registry.h"
#include "server/api/access_service.h"
#include "server/api/client_services.h"
#include "server/api/context.h"
#include "server/api/deadlines.h"
#include "server/api/structure/structure_service.h"
#include "server/api/watching/event_service.h"
#include "server/api/watching/system_service.h"
#include "server/api/worker_service.h"
#include "server/flags.h"
#include "server/jobs/durable/journal.h"
#include "server/security.h"
#include "server/self_probe.h"
#include "server/store/store.h"

namespace espalier::server {

class Front {
 public:
  struct Parts {
    base::Executor& core;
    base::Executor& pool;
    base::Executor& files;
    const base::Clock& clock;
    base::Entropy& entropy;
    jobs::JobManager& jobs;
    jobs::Journal& journal;
    scheduler::Fleet& fleet;
    const methods::MethodRegistry& methods;
    checkpoint::CheckpointStore& checkpoints;
    round::BlobStore& blobs;
    metrics::Metrics& metrics;
    const base::Limits& limits;
    const net::DescriptorBudget& descriptors;
    std::string metrics_address;
  };

  Front(const Flags& flags, Parts parts, Security& security);

  // Serves from now on, and looks whether it is heard (self_probe.h): `dead` is told when it is not,
  // on another thread. `store` may be null. Errors: those of rpc::StartServer() and of the store.
  absl::Status Start(const Flags& flags, store::Store* store,
                     std::function<void(const absl::Status&)> dead);
  const std::string& address() const { return running_.address; }
  // To be called regularly (every 50 ms or so): ends calls that are late, and those of callers who are
  // known no more.
  void Tick();
  // Ends all calls and waits for them.
  void Stop();

 private:
  const Parts parts_;
  Security& security_;
  std::shared_ptr<access::Registry> registry_;
  access::Gate gate_;
  access::OpenCalls open_calls_;
  access::CallRates rates_;
  api::Deadlines deadlines_;
  base::Pacer limit_log_;
  base::Pacer refusal_log_;
  net::Connections connections_;
  const api::Context context_;
  api::WorkerService workers_;
  api::JobService jobs_;
  api::MethodService methods_;
  api::ClusterService cluster_;
  api::CheckpointService checkpoints_;
  api::PredictService predict_;
  api::StructureService structure_;
  api::EventService events_;
  api::ProgressService progress_;
  api::SystemService system_;
  api::AccessService access_;
  absl::Duration callers_checked_ = -absl::InfiniteDuration();
  rpc::RunningServer running_;
  std::unique_ptr<SelfProbe> probe_;  // goes before the server does
};

}  // namespace espalier::server
