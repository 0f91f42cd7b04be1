#include "tests/sim/simulation.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>

#include "common/base/status.h"
#include "common/log/log.h"
#include "tests/support/forgetful_program.h"

namespace espalier::test {
namespace {

// Every simulation has a folder of its own, also when several programs run at once.
std::string NewDirectory() {
  static int next = 0;
  return testing::TempDir() + "espalier-sim-" + std::to_string(getpid()) + "-" +
         std::to_string(next++);
}

const std::string& Created(const std::string& folder) {
  std::filesystem::create_directories(folder);
  return folder;
}

// One for all simulations, since nobody reads it and to make one takes as long as much of a life.
metrics::Metrics& SharedMetrics() {
  static metrics::Metrics metrics(metrics::Role::kCoordinator);
  return metrics;
}

server::methods::MethodRegistry Methods(
    const std::shared_ptr<const server::pretrained::ModelLibrary>& library,
    Simulation::Memory memory, std::vector<server::methods::MethodDeclaration> more) {
  auto methods = server::methods::MethodRegistry::Builtin(library).all();
  std::ranges::move(more, std::back_inserter(methods));
  for (server::methods::MethodDeclaration& method : methods) {
    if (memory == Simulation::Memory::kKept) break;
    method.make = [library, make = method.make](const v1::JobSpec& spec,
                                                const config::Parameters& parameters) {
      return std::make_unique<ForgetfulProgram>([=] { return make(spec, parameters); },
                                                &library->parts());
    };
  }
  return server::methods::MethodRegistry::Of(std::move(methods), library);
}

v1::JobSpec Spec(int64_t inputs, int64_t hidden) {
  v1::JobSpec spec;
  spec.mutable_model()->set_input_features(inputs);
  v1::LinearLayer& first = *spec.mutable_model()->add_layers()->mutable_linear();
  first.set_units(hidden);
  first.set_activation(v1::ACTIVATION_RELU);
  spec.mutable_model()->add_layers()->mutable_linear()->set_units(3);
  spec.mutable_data()->set_dataset("toy");
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_partition()->set_shards(4);
  spec.mutable_method()->set_name("set");
  (*spec.mutable_method()->mutable_parameters())["density"].set_double_value(0.5);
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.1);
  spec.mutable_federation()->set_rounds(3);
  spec.set_seed(7);
  return spec;
}

}  // namespace

v1::JobSpec SmallSpec() { return Spec(8, 6); }

v1::JobSpec LargeSpec() { return Spec(1000, 200); }

Disk::Disk() : folder(NewDirectory()) {
  for (const char* part : {"/checkpoints", "/parts"}) Created(folder + part);
}

Disk::~Disk() { std::filesystem::remove_all(folder); }

Simulation::Simulation(uint64_t memory_budget, uint64_t seed, Memory memory,
                       std::vector<server::methods::MethodDeclaration> more)
    : Simulation(Options{memory_budget, seed, memory, std::move(more)}) {}

Simulation::Simulation(Disk& disk, uint64_t seed, int64_t most_ended)
    : Simulation(Options{.seed = seed, .disk = &disk, .most_ended = most_ended}) {}

Simulation::Simulation(Options options)
    : entropy(options.seed),
      fleet(clock, limits, entropy,
            options.disk == nullptr
                ? std::nullopt
                : std::optional<uint64_t>(options.disk->store.Begin(options.seed).value())),
      own_disk_(options.disk == nullptr ? std::make_unique<Disk>() : nullptr),
      directory_(options.disk == nullptr ? own_disk_->folder : options.disk->folder),
      checkpoints_(server::checkpoint::CheckpointStore::Open(io::PosixFileSystem(),
                                                             directory_ + "/checkpoints")
                       .value()),
      metrics_(SharedMetrics()),
      library_(std::make_shared<const server::pretrained::ModelLibrary>(
          io::PosixFileSystem(), models_folder(), directory_ + "/parts", *checkpoints_)),
      methods_(Methods(library_, options.memory, std::move(options.more))),
      journal(
          options.disk == nullptr
              ? server::jobs::Journal(core, clock)
              : server::jobs::Journal(
                    core, clock, {options.disk->store, library_->parts(), writer, [](auto&) {}})),
      jobs({fleet, core, pool, pool, clock, blobs, *checkpoints_, metrics_, datasets, journal},
           methods_, options.memory_budget, options.most_ended) {
  log::SetLevel("error");
  if (options.disk == nullptr) return;
  const absl::Status restored = jobs.Restore(options.disk->store);
  EXPECT_TRUE(restored.ok()) << restored;
  EXPECT_TRUE(library_->parts().Sweep().ok());
}

Simulation::~Simulation() {
  // A process that is killed removes no files.
  library_->parts().KeepFiles();
  // Jobs that end here must not give workers tasks that are gone.
  for (const auto& [id, worker] : workers_) {
    if (worker->connected()) worker->Vanish();
  }
  // What was posted may hold jobs, which need the fleet.
  for (ManualExecutor* executor : {&core, &pool, &writer}) executor->Clear();
}

FakeWorker& Simulation::Add(const std::string& id, const std::vector<std::string>& datasets) {
  auto& worker = workers_[id];
  worker = std::make_unique<FakeWorker>(id, datasets, fleet, jobs, blobs);
  const absl::Status connected = worker->Connect();
  EXPECT_TRUE(connected.ok()) << connected;
  return *worker;
}

void Simulation::AddWorkers(int count) {
  for (int i = 0; i < count; ++i) Add("w" + std::to_string(i));
}

std::vector<FakeWorker*> Simulation::workers() {
  std::vector<FakeWorker*> all;
  for (const auto& [id, worker] : workers_) all.push_back(worker.get());
  return all;
}

std::vector<FakeWorker*> Simulation::busy() {
  std::vector<FakeWorker*> all = workers();
  std::erase_if(all, [](const FakeWorker* worker) { return !worker->busy(); });
  return all;
}

absl::StatusOr<v1::Job> Simulation::Create(const v1::JobSpec& spec,
                                           std::vector<config::Violation>& violations) {
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  return Create(request, violations);
}

absl::StatusOr<v1::Job> Simulation::Create(const v1::CreateJobRequest& request,
                                           std::vector<config::Violation>& violations,
                                           const std::string& owner) {
  const auto answer = std::make_shared<std::optional<server::jobs::JobManager::Created>>();
  jobs.Create(request, owner, [answer](server::jobs::JobManager::Created created) {
    *answer = std::move(created);
  });
  // Where it is kept, it is accepted once it is written.
  if (!answer->has_value()) Settle();
  if (!answer->has_value()) return absl::UnknownError("the coordinator has not answered yet");
  violations = std::move((*answer)->violations);
  return std::move((*answer)->job);
}

std::string Simulation::Start(const v1::JobSpec& spec, const std::string& owner) {
  std::vector<config::Violation> violations;
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  const auto job = Create(request, violations, owner);
  EXPECT_TRUE(job.ok()) << job.status();
  for (const auto& violation : violations) {
    ADD_FAILURE() << violation.field << ": " << violation.description;
  }
  Settle();
  return job.ok() ? job->name() : "";
}

absl::StatusOr<Simulation::Runner> Simulation::Found(const std::string& name) {
  const auto answer = std::make_shared<std::optional<absl::StatusOr<Runner>>>();
  jobs.With(name, [answer](absl::StatusOr<Runner> job) { *answer = std::move(job); });
  while (!answer->has_value() && writer.RunAll() + core.RunAll() > 0) {
  }
  if (!answer->has_value()) return absl::UnknownError("the job was not read");
  return **answer;
}

std::vector<v1::Job> Simulation::List(const v1::ListJobsRequest& request) {
  const auto places = jobs.Select(request);
  EXPECT_TRUE(places.ok()) << places.status();
  std::vector<std::string> names;
  for (const auto& place : *places) names.push_back(place.name);
  const auto answer = std::make_shared<std::optional<absl::StatusOr<std::vector<v1::Job>>>>();
  jobs.View(names, [answer](auto views) { *answer = std::move(views); });
  if (!answer->has_value()) Settle();
  EXPECT_TRUE((*answer)->ok()) << (*answer)->status();
  return ***answer;
}

std::vector<v1::JobEvent> Simulation::Events(const std::string& name) {
  const auto log = Find(name)->events();
  std::vector<v1::JobEvent> events;
  while (const auto event = log->After(static_cast<int64_t>(events.size()))) {
    events.push_back(*event);
  }
  return events;
}

std::vector<v1::JobEvent> Simulation::Events(const std::string& name, v1::JobEvent::KindCase kind) {
  std::vector<v1::JobEvent> events = Events(name);
  std::erase_if(events, [kind](const v1::JobEvent& event) { return event.kind_case() != kind; });
  return events;
}

void Simulation::Settle() {
  while (core.RunAll() + pool.RunAll() + writer.RunAll() > 0) {
  }
}

int Simulation::RunSome(int most) {
  int ran = 0;
  for (;;) {
    int now = 0;
    for (ManualExecutor* executor : {&core, &pool, &writer}) {
      if (ran + now < most && executor->RunOne()) ++now;
    }
    if (now == 0) return ran;
    ran += now;
  }
}

void Simulation::Pass(absl::Duration time, const std::vector<std::string>& silent) {
  Settle();
  for (; time > absl::ZeroDuration(); time -= absl::Seconds(1)) {
    clock.Advance(absl::Seconds(1));
    for (const auto& [id, worker] : workers_) {
      const bool is_silent = std::find(silent.begin(), silent.end(), id) != silent.end();
      if (worker->connected() && !is_silent) worker->Heartbeat();
    }
    jobs.Tick();
    Settle();
  }
}

v1::Job::State Simulation::State(const std::string& name) {
  const auto job = Found(name);
  return job.ok() ? (*job)->state() : v1::Job::STATE_UNSPECIFIED;
}

void Simulation::Run(const std::string& name, const Order& order) {
  Settle();
  for (;;) {
    const std::vector<FakeWorker*> busy_now = busy();
    const v1::Job::State state = State(name);
    if (busy_now.empty() || (state != v1::Job::STATE_PENDING && state != v1::Job::STATE_RUNNING)) {
      return;
    }
    const auto answer = busy_now[order ? order(busy_now) : 0]->Finish();
    Settle();
    ASSERT_TRUE(answer->answered);
    ASSERT_TRUE(answer->status.ok()) << answer->status;
  }
}

}  // namespace espalier::test
