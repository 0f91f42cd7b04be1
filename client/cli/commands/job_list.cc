#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/flags.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(List jobs, newest first

Examples:
  espalier job list
  espalier job list --limit 5
  espalier job list | cut -f1        names only
  espalier job list -o json)";

std::string Created(const Context& context, const v1::Job& job) {
  return context.out_terminal.is_tty ? RelativeTime(job.create_time(), absl::Now())
                                     : AbsoluteTime(job.create_time());
}

absl::StatusOr<int> List(Context& context, size_t limit) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto jobs, client->ListJobs(limit));
  if (context.PrintAsData(jobs)) return kExitDone;
  if (jobs.jobs().empty()) {
    context.err << "No jobs yet. Submit one: espalier job submit FILE (examples: docs/examples)\n";
    return kExitDone;
  }
  Table table(
      {{"NAME"}, {"STATE"}, {"ROUND", true}, {"METHOD"}, {"BEST ACCURACY", true}, {"CREATED"}});
  for (const v1::Job& job : jobs.jobs()) {
    table.Add({job.name(), StateWord(job.state()),
               fmt::format("{}/{}", job.round(), job.spec().federation().rounds()),
               job.spec().method().name(),
               job.best_round() > 0 ? Percent(job.best_accuracy()) : "-", Created(context, job)});
  }
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddJobList(CLI::App& parent, Command& chosen) {
  auto limit = std::make_shared<size_t>(1000);
  CLI::App* command = parent.add_subcommand("list", kDescription);
  command->add_option("--limit", *limit, "At most so many jobs, 1 to 100000")
      ->check(base::Between(1, 100'000))
      ->capture_default_str();
  command->callback(
      [&chosen, limit] { chosen = [limit](Context& context) { return List(context, *limit); }; });
}

}  // namespace espalier::cli
