#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/rounds_table.h"
#include "client/cli/watch.h"
#include "common/base/flags.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Follow a job to its end

Examples:
  espalier job watch my-job
  espalier job watch my-job --after 120        continue after event 120
  espalier job watch my-job -o json            every event as one line of JSON

Ctrl-C stops watching; the job goes on. The exit code is 7 when the job FAILED
or was CANCELLED.)";

absl::StatusOr<int> Watch(Context& context, const std::string& name, int64_t after) {
  if (context.options.format == Format::kYaml) {
    return base::InvalidArgument(
        "USAGE", "job watch prints lines of text, or with -o json of JSON, not yaml");
  }
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(ResourceName("jobs", name)));
  WatchOptions options;
  options.after_sequence = after;
  options.events_as_json = context.options.format == Format::kJson;
  options.show_progress = !options.events_as_json;
  ESPALIER_ASSIGN_OR_RETURN(const v1::Job ended, FollowJob(context, *client, job, options));
  if (!options.events_as_json) {
    PrintOutcome(context, ended);
    PrintRuns(context, ended);
  }
  return ExitCodeOf(ended.state());
}

}  // namespace

void AddJobWatch(CLI::App& parent, Command& chosen) {
  struct Options {
    std::string name;
    int64_t after = 0;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = parent.add_subcommand("watch", kDescription);
  command->add_option("JOB", options->name, "jobs/ID, or only ID")->required();
  command->add_option("--after", options->after, "Sequence number of the last event already seen")
      ->check(base::Between<int64_t>(0, 1'000'000'000'000))
      ->capture_default_str();
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Watch(context, options->name, options->after); };
  });
}

}  // namespace espalier::cli
