#include "tests/sim/simulation.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>

#include "common/base/status.h"
#include "common/log/log.h"
#include "server/pretrained/model_library.h"
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

Simulation::Simulation(uint64_t memory_budget, uint64_t seed, Memory memory,
                       std::vector<server::methods::MethodDeclaration> more)
    : entropy(seed),
      directory_(NewDirectory()),
      checkpoints_(server::checkpoint::CheckpointStore::Open(io::PosixFileSystem(),
                                                             directory_ + "/checkpoints")
                       .value()),
      methods_(Methods(std::make_shared<const server::pretrained::ModelLibrary>(
                           io::PosixFileSystem(), models_folder(), Created(directory_ + "/parts"),
                           *checkpoints_),
                       memory, std::move(more))),
      jobs({fleet, core, pool, clock, blobs, *checkpoints_, metrics_, datasets}, methods_,
           memory_budget) {
  log::SetLevel("error");
}

Simulation::~Simulation() { std::filesystem::remove_all(directory_); }

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
                                           std::vector<config::Violation>& violations) {
  absl::StatusOr<v1::Job> job = absl::UnknownError("the coordinator has not answered yet");
  jobs.Create(request, [&](server::jobs::JobManager::Created created) {
    job = std::move(created.job);
    violations = std::move(created.violations);
  });
  return job;
}

std::string Simulation::Start(const v1::JobSpec& spec) {
  std::vector<config::Violation> violations;
  const auto job = Create(spec, violations);
  EXPECT_TRUE(job.ok()) << job.status();
  for (const auto& violation : violations) {
    ADD_FAILURE() << violation.field << ": " << violation.description;
  }
  Settle();
  return job.ok() ? job->name() : "";
}

std::vector<v1::JobEvent> Simulation::Events(const std::string& name) const {
  const auto log = jobs.Events(name).value();
  std::vector<v1::JobEvent> events;
  while (const auto event = log->After(static_cast<int64_t>(events.size()))) {
    events.push_back(*event);
  }
  return events;
}

std::vector<v1::JobEvent> Simulation::Events(const std::string& name,
                                             v1::JobEvent::KindCase kind) const {
  std::vector<v1::JobEvent> events = Events(name);
  std::erase_if(events, [kind](const v1::JobEvent& event) { return event.kind_case() != kind; });
  return events;
}

void Simulation::Settle() {
  while (core.RunAll() + pool.RunAll() > 0) {
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

v1::Job::State Simulation::State(const std::string& name) const {
  for (const v1::Job& job : jobs.List()) {
    if (job.name() == name || job.name() == "jobs/" + name) return job.state();
  }
  return v1::Job::STATE_UNSPECIFIED;
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
