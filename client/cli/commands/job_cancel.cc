#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Ask a job to stop; its checkpoints stay

Examples:
  espalier job cancel my-job

Returns at once; the round in work is given up. To see its end, watch the job.)";

absl::StatusOr<int> Cancel(Context& context, const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Job job, client->CancelJob(ResourceName("jobs", name)));
  if (context.PrintAsData(job)) return kExitDone;
  Table table({{"NAME"}, {"STATE"}});
  table.Add({job.name(), StateWord(job.state())});
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddJobCancel(CLI::App& parent, Command& chosen) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = parent.add_subcommand("cancel", kDescription);
  command->add_option("JOB", *name, "jobs/ID, or only ID")->required();
  command->callback(
      [&chosen, name] { chosen = [name](Context& context) { return Cancel(context, *name); }; });
}

}  // namespace espalier::cli
