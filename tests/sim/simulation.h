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
#include "server/jobs/durable/journal.h"
#include "server/jobs/job_manager.h"
#include "server/methods/program.h"
#include "server/pretrained/model_library.h"
#include "server/round/blob_store.h"
#include "server/scheduler/fleet.h"
#include "server/store/memory_store.h"
#include "tests/support/fake_clock.h"
#include "tests/support/fake_worker.h"
#include "tests/support/manual_executor.h"
#include "tests/support/seeded_entropy.h"

namespace espalier::test {

// What outlives a coordinator: its store and its files.
class Disk {
 public:
  Disk();
  ~Disk();
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  server::store::MemoryStore store;
  const std::string folder;
};

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
  // One life of a coordinator that keeps its jobs on `disk` and goes on with those that are there.
  // It is killed by its destructor: what was not written by then is lost. `most_ended`: jobs that
  // are kept when they have ended.
  explicit Simulation(Disk& disk, uint64_t seed = 1,
                      int64_t most_ended = base::Limits().max_ended_jobs);
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
                                 std::vector<config::Violation>& violations,
                                 const std::string& owner = "");
  // Accepts a job; the test fails when it is refused. Returns its name.
  std::string Start(const v1::JobSpec& spec, const std::string& owner = "");
  // A job wherever it is; one that is in the store only is read, and what was posted runs meanwhile.
  using Runner = std::shared_ptr<const server::jobs::JobRunner>;
  absl::StatusOr<Runner> Found(const std::string& name);
  Runner Find(const std::string& name) { return Found(name).value(); }
  v1::Job Job(const std::string& name) { return Find(name)->View(true); }
  // The jobs that are asked for, as a list shows them.
  std::vector<v1::Job> List(const v1::ListJobsRequest& request = {});
  // Quick also for jobs of many rounds. STATE_UNSPECIFIED: there is no such job.
  v1::Job::State State(const std::string& name);
  std::vector<v1::JobEvent> Events(const std::string& name);
  // The events that are of one kind.
  std::vector<v1::JobEvent> Events(const std::string& name, v1::JobEvent::KindCase kind);

  // Runs everything that was posted.
  void Settle();
  // Runs at most so many functions that were posted, in the order of the executors. Returns how many
  // ran.
  int RunSome(int most);
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
  ManualExecutor writer;  // of the store
  base::Limits limits;
  SeededEntropy entropy;
  server::scheduler::Fleet fleet;
  server::datasets::DatasetViews datasets{fleet, core, clock, limits};
  server::round::BlobStore blobs;

 private:
  struct Options {
    uint64_t memory_budget = 0;
    uint64_t seed = 1;
    Memory memory = Memory::kKept;
    std::vector<server::methods::MethodDeclaration> more = {};
    Disk* disk = nullptr;
    int64_t most_ended = base::Limits().max_ended_jobs;
  };
  explicit Simulation(Options options);

  std::unique_ptr<Disk> own_disk_;  // null where it is given
  const std::string directory_;
  std::unique_ptr<server::checkpoint::CheckpointStore> checkpoints_;
  metrics::Metrics& metrics_;
  std::shared_ptr<const server::pretrained::ModelLibrary> library_;
  server::methods::MethodRegistry methods_;

 public:
  server::jobs::Journal journal;
  server::jobs::JobManager jobs;
  server::checkpoint::CheckpointStore& checkpoints() { return *checkpoints_; }
  const server::methods::MethodRegistry& methods() const { return methods_; }
  // Where jobs find trained language models, each in a folder of its own.
  std::string models_folder() const { return directory_ + "/models"; }

 private:
  std::map<std::string, std::unique_ptr<FakeWorker>> workers_;
};

}  // namespace espalier::test
