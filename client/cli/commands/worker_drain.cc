#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

constexpr char kDrain[] = R"(Give a worker no more tasks

Examples:
  espalier worker drain site-a
  espalier worker list               its task is done when TASK shows "-"
  espalier worker undrain site-a

The worker ends the task that it does and stays connected. It takes tasks again after `undrain`, or
when it is started again.)";

constexpr char kUndrain[] = R"(Give a worker that was drained, or is in quarantine, tasks again

Examples:
  espalier worker undrain site-a

A worker is put into quarantine for a while, by itself, when three of its results within an hour were
refused for reasons that no correct worker gives, or when it came and went too often; `espalier worker
list` says why. After `undrain` nothing of that is remembered.)";

using Call = absl::StatusOr<v1::Worker> (client::Client::*)(const std::string& name);

absl::StatusOr<int> Change(Context& context, Call call, const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Worker worker, ((*client).*call)(name));
  if (context.PrintAsData(worker)) return kExitDone;
  Table table({{"NAME"}, {"STATE"}, {"TASK"}});
  constexpr std::string_view kPrefix = "STATE_";
  table.Add({worker.name(), v1::Worker::State_Name(worker.state()).substr(kPrefix.size()),
             worker.task().empty() ? "-" : worker.task()});
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

void AddChange(CLI::App& parent, Command& chosen, const char* word, const char* description,
               Call call) {
  AddOfOne(
      parent, chosen, word, description, "WORKER", "workers",
      [call](Context& context, const std::string& name) { return Change(context, call, name); });
}

}  // namespace

void AddWorkerDrain(CLI::App& parent, Command& chosen) {
  AddChange(parent, chosen, "drain", kDrain, &client::Client::DrainWorker);
  AddChange(parent, chosen, "undrain", kUndrain, &client::Client::UndrainWorker);
}

}  // namespace espalier::cli
