// Simulation: a whole coordinator core and its workers in one thread, under a clock that the test
// advances.
//
// Determinism: nothing happens but what the test does; two simulations with the same calls are the
// same to the last bit.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/metrics/metrics.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/jobs/job_manager.h"
#include "server/methods/program.h"
#include "server/round/blob_store.h"
#include "server/scheduler/fleet.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_worker.h"
#include "tests/support/manual_executor.h"
#include "tests/support/seeded_entropy.h"

namespace espalier::test {

// A small SET job: 4 shards of the data set "toy", 3 rounds, no evaluation but by one worker.
v1::JobSpec SmallSpec();
// The same with more than 65,536 stored values, whose work goes through the pool.
v1::JobSpec LargeSpec();

class Simulation {
 public:
  // What jobs remember from step to step: everything in memory, or only what their encoded state
  // says, with which a new program goes on, as if the coordinator were killed in each step.
  enum class Memory { kKept, kSavedStates };
  // `memory_budget` of the coordinator in bytes; 0 = no limit. `seed`: of what is random between
  // two lives of a coordinator. `more`: methods beside those of the coordinator.
  explicit Simulation(uint64_t memory_budget = 0, uint64_t seed = 1, Memory memory = Memory::kKept,
                      std::vector<server::methods::MethodDeclaration> more = {});
  ~Simulation();

  // Adds a worker and connects it.
  FakeWorker& Add(const std::string& id, const std::vector<std::string>& datasets = {"toy"});
  void AddWorkers(int count);
  FakeWorker& worker(const std::string& id) { return *workers_.at(id); }
  std::vector<FakeWorker*> workers();
  // Connected workers that have a task.
  std::vector<FakeWorker*> busy();

  // As the API does.
  absl::StatusOr<v1::Job> Create(const v1::JobSpec& spec,
                                 std::vector<config::Violation>& violations);
  absl::StatusOr<v1::Job> Create(const v1::CreateJobRequest& request,
                                 std::vector<config::Violation>& violations);
  // Accepts a job; the test fails when it is refused. Returns its name.
  std::string Start(const v1::JobSpec& spec);
  v1::Job Job(const std::string& name) const { return jobs.Get(name).value(); }
  // Quick also for jobs of many rounds. STATE_UNSPECIFIED: there is no such job.
  v1::Job::State State(const std::string& name) const;
  std::vector<v1::JobEvent> Events(const std::string& name) const;
  // The events that are of one kind.
  std::vector<v1::JobEvent> Events(const std::string& name, v1::JobEvent::KindCase kind) const;

  // Runs everything that was posted.
  void Settle();
  // Time passes in ticks of one second; workers other than `silent` send heartbeats.
  void Pass(absl::Duration time, const std::vector<std::string>& silent = {});
  // One tick.
  void Tick() { Pass(absl::Seconds(1)); }
  // Busy workers finish, the first in `order` of them first, until the job has ended or nothing is
  // left to do.
  using Order = std::function<size_t(const std::vector<FakeWorker*>& busy)>;
  void Run(const std::string& name, const Order& order = {});

  FakeClock clock;
  ManualExecutor core;
  ManualExecutor pool;
  base::Limits limits;
  SeededEntropy entropy;
  server::scheduler::Fleet fleet{clock, limits, entropy};
  server::datasets::DatasetViews datasets{fleet, core, clock, limits};
  server::round::BlobStore blobs;

 private:
  const std::string directory_;
  std::unique_ptr<server::checkpoint::CheckpointStore> checkpoints_;
  metrics::Metrics metrics_{metrics::Role::kCoordinator};
  server::methods::MethodRegistry methods_;

 public:
  server::jobs::JobManager jobs;
  server::checkpoint::CheckpointStore& checkpoints() { return *checkpoints_; }
  const server::methods::MethodRegistry& methods() const { return methods_; }
  // Where jobs find trained language models, each in a folder of its own.
  std::string models_folder() const { return directory_ + "/models"; }

 private:
  std::map<std::string, std::unique_ptr<FakeWorker>> workers_;
};

}  // namespace espalier::test
