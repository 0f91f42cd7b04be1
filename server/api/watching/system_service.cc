#include "server/api/watching/system_service.h"

#include <filesystem>
#include <system_error>
#include <thread>

#include "common/base/status.h"
#include "common/io/host_memory.h"
#include "common/metrics/process.h"
#include "common/wire/proto_time.h"

namespace espalier::server::api {
namespace {

// What has to be asked of the system.
void LookAtMachine(const std::string& folder, v1::SystemInfo& info) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (!error) {
    info.set_data_free_bytes(static_cast<int64_t>(space.available));
    info.set_data_size_bytes(static_cast<int64_t>(space.capacity));
  }
  const metrics::ProcessUsage process = metrics::UsageOfThisProcess();
  info.set_open_files(static_cast<int64_t>(process.open_files));
  info.set_max_open_files(static_cast<int64_t>(process.max_files));
  info.set_threads(static_cast<int64_t>(process.threads));
  info.set_resident_bytes(static_cast<int64_t>(process.resident_bytes));
  info.set_memory_bytes(static_cast<int64_t>(io::HostMemoryBytes()));
  info.set_processors(std::thread::hardware_concurrency());
}

void LookAtCore(const Context& context, v1::SystemInfo& info) {
  wire::SetTimestamp(context.clock.Wall(), info.mutable_time());
  *info.mutable_start_time() = context.info.start_time();
  if (const auto& trouble = context.jobs.trouble()) {
    info.set_store_problem(base::MessageOf(*trouble));
  }
  for (const auto& checkpoint : context.checkpoints.List("")) {
    info.set_checkpoints(info.checkpoints() + 1);
    info.set_checkpoint_bytes(info.checkpoint_bytes() + checkpoint.size_bytes);
  }
  const auto tasks = context.fleet.CountTasks();
  info.set_tasks_waiting(static_cast<int64_t>(tasks.waiting));
  info.set_tasks_leased(static_cast<int64_t>(tasks.leased));
  info.set_jobs_in_work(context.jobs.CountUnended());
  info.set_max_jobs(context.limits.max_jobs);
  info.set_workers_connected(context.fleet.active());
  info.set_max_workers(context.limits.max_workers);
}

}  // namespace

grpc::ServerUnaryReactor* SystemService::GetSystem(grpc::CallbackServerContext* call,
                                                   const v1::GetSystemRequest*,
                                                   v1::SystemInfo* response) {
  return AnswerLater(context_, call, {"GetSystem"},
                     [this, response](const access::Caller&, const Answer& answer) {
                       response->set_store(store_);
                       LookAtCore(context_, *response);
                       context_.files.Post([this, response, answer] {
                         LookAtMachine(context_.spool_directory, *response);
                         context_.core.Post([answer] { answer(absl::OkStatus()); });
                       });
                     });
}

}  // namespace espalier::server::api
