#include <algorithm>

#include "absl/time/clock.h"
#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(List workers: state, data sets, last sign of life

Examples:
  espalier worker list
  espalier worker list -o json       with the data sets of each worker

A worker that is QUARANTINED sent results that no correct worker sends, or came
and went too often. It is given no tasks until the time that is shown; `espalier
worker undrain` ends that earlier.)";

std::string DatasetNames(const v1::Worker& worker) {
  std::vector<std::string> names;
  // One that cannot be used is not offered; `dataset list` says why.
  for (const v1::DatasetInfo& dataset : worker.datasets()) {
    names.push_back(dataset.name() +
                    (!dataset.problem().empty() && dataset.format().empty() ? " (unusable)" : ""));
  }
  return config::Joined(names, ",");
}

std::string Memory(const v1::Worker& worker) {
  const std::string used = HumanBytes(worker.resident_bytes());
  if (worker.memory_budget_bytes() == 0) return used;
  return fmt::format("{} of {}", used, HumanBytes(worker.memory_budget_bytes()));
}

// QUARANTINED with its end, the others as they are.
std::string StateText(const v1::Worker& worker, const Context& context) {
  constexpr std::string_view kPrefix = "STATE_";
  std::string state = v1::Worker::State_Name(worker.state()).substr(kPrefix.size());
  if (worker.state() != v1::Worker::STATE_QUARANTINED) return state;
  if (!context.out_terminal.is_tty) {
    return state + " until " + AbsoluteTime(worker.quarantine_end_time());
  }
  const absl::Duration left = ToTime(worker.quarantine_end_time()) - absl::Now();
  return state + " " + HumanDuration(std::max(left, absl::ZeroDuration()));
}

absl::StatusOr<int> List(Context& context) {
  constexpr size_t kLimit = 100'000;
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto workers, client->ListWorkers(kLimit));
  if (context.PrintAsData(workers)) return kExitDone;
  if (workers.workers().empty()) {
    context.err << fmt::format(
        "No workers are connected. Start one: espalier-worker --coordinator {} --id NAME "
        "--data-root DIR\n",
        context.options.client.server);
    return kExitDone;
  }
  Table table({{"NAME"},
               {"STATE"},
               {"TASK", false, 3},
               {"DONE", true, 2},
               {"FAILED", true, 4},
               {"MEMORY", true, 1},
               {"THREADS", true, 5},
               {"SEEN", false, 1},
               {"VERSION", false, 6},
               {.title = "DATA", .wrap = true}});
  for (const v1::Worker& worker : workers.workers()) {
    table.Add({worker.name(), StateText(worker, context),
               worker.task().empty() ? "-" : worker.task(),
               std::to_string(worker.tasks_completed()), std::to_string(worker.tasks_failed()),
               Memory(worker), std::to_string(worker.threads()),
               context.out_terminal.is_tty ? RelativeTime(worker.last_seen_time(), absl::Now())
                                           : AbsoluteTime(worker.last_seen_time()),
               worker.version(), DatasetNames(worker)});
  }
  table.Print(context.out, context.out_terminal);
  for (const v1::Worker& worker : workers.workers()) {
    if (worker.state() != v1::Worker::STATE_QUARANTINED) continue;
    context.err << fmt::format(
        "{0} is given no tasks: {1}. `espalier worker undrain {0}` ends that.\n",
        base::Printable(worker.name()), base::Printable(worker.quarantine_reason()));
  }
  return kExitDone;
}

}  // namespace

void AddWorkerList(CLI::App& parent, Command& chosen) {
  parent.add_subcommand("list", kDescription)->callback([&chosen] { chosen = List; });
}

}  // namespace espalier::cli
