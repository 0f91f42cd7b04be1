#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(List checkpoints

Examples:
  espalier checkpoint list
  espalier checkpoint list --job my-job)";

absl::StatusOr<int> List(Context& context, const std::string& job) {
  constexpr size_t kLimit = 100'000;
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(
      const auto checkpoints,
      client->ListCheckpoints(job.empty() ? "" : ResourceName("jobs", job), kLimit));
  if (context.PrintAsData(checkpoints)) return kExitDone;
  if (checkpoints.checkpoints().empty()) {
    context.err << "No checkpoints. A job writes one at its end, or after every "
                   "`checkpoint.every_rounds` rounds.\n";
    return kExitDone;
  }
  Table table({{"NAME"},
               {"ROUND", true, 3},
               {"SCORE", true, 1},
               {"DENSITY", true, 2},
               {"SIZE", true},
               {"CREATED", false, 4},
               {"RUN", false, 5}});
  for (const v1::Checkpoint& checkpoint : checkpoints.checkpoints()) {
    table.Add({checkpoint.name(), std::to_string(checkpoint.round()),
               checkpoint.has_main_metric() ? fmt::format("{:.4f}", checkpoint.main_metric()) : "-",
               fmt::format("{:.4g}", checkpoint.density()), HumanBytes(checkpoint.size_bytes()),
               context.out_terminal.is_tty ? RelativeTime(checkpoint.create_time(), absl::Now())
                                           : AbsoluteTime(checkpoint.create_time()),
               checkpoint.run().empty() ? "-" : checkpoint.run()});
  }
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddCheckpointList(CLI::App& parent, Command& chosen) {
  auto job = std::make_shared<std::string>();
  CLI::App* command = parent.add_subcommand("list", kDescription);
  command->add_option("--job", *job, "Only of this job: jobs/ID, or only ID")->type_name("JOB");
  command->callback(
      [&chosen, job] { chosen = [job](Context& context) { return List(context, *job); }; });
}

}  // namespace espalier::cli
