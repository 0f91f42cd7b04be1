#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kCancel[] = R"(Ask a job to stop; its checkpoints stay

Examples:
  espalier job cancel my-job

Returns at once; the round in work is given up. To see its end, watch the job.)";

constexpr char kPause[] = R"(Put a job aside, so that its workers are free for others

Examples:
  espalier job pause my-job
  espalier job resume my-job

The job stays as it is, with the results of the round in work that have arrived, for as long as you
like, and also when the coordinator is started again.)";

constexpr char kResume[] = R"(Go on with a job that was paused

Examples:
  espalier job resume my-job

The model at its end is the same as if the job had never been paused.)";

constexpr char kRetry[] = R"(Go on with a job that failed, where it failed

Examples:
  espalier job get my-job            says why it failed; put that right first
  espalier job retry my-job

Rounds that are committed are not done again, and of the round in which the job failed, results that
had arrived count.)";

constexpr char kDelete[] = R"(Forget jobs that have ended or are paused

Examples:
  espalier job delete my-job
  espalier job delete my-job other-job --checkpoints

Checkpoints stay without --checkpoints; as long as they do, no other job can have their job's id.)";

using Call = absl::StatusOr<v1::Job> (client::Client::*)(const std::string& name);

absl::StatusOr<int> Change(Context& context, Call call, const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Job job, ((*client).*call)(name));
  if (context.PrintAsData(job)) return kExitDone;
  Table table({{"NAME"}, {"STATE"}});
  table.Add({job.name(), StateWord(job.state())});
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

void AddChange(CLI::App& parent, Command& chosen, const char* word, const char* description,
               Call call) {
  AddOfOne(
      parent, chosen, word, description, "JOB", "jobs",
      [call](Context& context, const std::string& name) { return Change(context, call, name); });
}

struct DeleteOptions {
  std::vector<std::string> jobs;
  bool checkpoints = false;
};

absl::StatusOr<int> Delete(Context& context, const DeleteOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  Table table({{"NAME"}, {"CHECKPOINTS DELETED", true, 1}, {"SIZE", true, 2}});
  for (const std::string& job : options.jobs) {
    v1::DeleteJobRequest request;
    request.set_name(ResourceName("jobs", job));
    request.set_delete_checkpoints(options.checkpoints);
    const absl::StatusOr<v1::DeleteJobResponse> deleted = client->DeleteJob(request);
    if (!deleted.ok()) {
      // What was deleted before is said all the same.
      if (&job != &options.jobs.front()) table.Print(context.out, context.out_terminal);
      return deleted.status();
    }
    table.Add({request.name(), std::to_string(deleted->checkpoints_deleted()),
               HumanBytes(deleted->bytes_deleted())});
  }
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddJobLife(CLI::App& parent, Command& chosen) {
  AddChange(parent, chosen, "cancel", kCancel, &client::Client::CancelJob);
  AddChange(parent, chosen, "pause", kPause, &client::Client::PauseJob);
  AddChange(parent, chosen, "resume", kResume, &client::Client::ResumeJob);
  AddChange(parent, chosen, "retry", kRetry, &client::Client::RetryJob);
  auto options = std::make_shared<DeleteOptions>();
  CLI::App* command = parent.add_subcommand("delete", kDelete);
  command->add_option("JOB", options->jobs, "jobs/ID, or only ID")->required();
  command->add_flag("--checkpoints", options->checkpoints, "Remove their checkpoints too");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Delete(context, *options); };
  });
}

}  // namespace espalier::cli
