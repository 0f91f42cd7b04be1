#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/rounds_table.h"
#include "client/cli/watch.h"
#include "client/lib/job_text.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Submit a job file

Examples:
  espalier job submit job.yaml                  returns at once
  espalier job submit job.yaml --watch          show every round, until the end
  espalier job submit job.yaml --wait -o json   for scripts: the job as it ended
  espalier job submit job.yaml --set federation.rounds=5 --set seed=2
  espalier job submit job.yaml --dry-run        only check it, on the server

The file's fields: docs/reference/job-file.md; files to start from:
docs/examples. With --wait or --watch the exit code is 7 when the job FAILED or
was CANCELLED. Ctrl-C stops waiting; the job goes on.)";

struct SubmitOptions {
  std::string file;
  std::vector<std::string> overrides;
  std::string id;
  std::string request_id;
  bool dry_run = false;
  bool wait = false;
  bool watch = false;
};

absl::StatusOr<std::string> ReadJobText(const std::string& path) {
  const auto read = [](std::istream& stream) {
    // One byte more than allowed is enough to see that there is too much.
    std::string text(config::kMaxYamlBytes + 1, '\0');
    stream.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(stream.gcount()));
    return text;
  };
  if (path == "-") return read(std::cin);
  std::ifstream file(path, std::ios::binary);
  if (!file || file.peek() == std::ifstream::traits_type::eof()) {
    return base::NotFound("JOB_FILE_UNREADABLE",
                          fmt::format("expected a readable job file at {}, found none or an empty "
                                      "one; examples are in docs/examples",
                                      config::Quoted(path)));
  }
  return read(file);
}

void WarnOfLeftOut(const Context& context, const v1::Job& job) {
  for (const v1::LeftOutWorker& out : job.left_out_workers()) {
    context.err << fmt::format("Warning: {} takes no part: {}\n", base::Printable(out.worker()),
                               base::Printable(out.reason()));
  }
}

int ReportDryRun(const Context& context, const v1::Job& job) {
  if (context.PrintAsData(job)) return kExitDone;
  context.out << "valid\n";
  context.err
      << "The server accepts this job; nothing was started. With -o yaml it is shown with all "
         "defaults.\n";
  return kExitDone;
}

int ReportSubmitted(const Context& context, const v1::Job& job) {
  if (context.PrintAsData(job)) return kExitDone;
  const std::string name = base::Printable(job.name());
  context.out << name << "\n" << std::flush;
  context.err << fmt::format(
      "Submitted.\n  Watch it:    espalier job watch {0}\n  Its state:   espalier job get {0}\n  "
      "Cancel it:   espalier job cancel {0}\n",
      name);
  return kExitDone;
}

// A file with mistakes is shown to the server as well, so that all of them are told at once.
// Without a server the file's own mistakes have to do.
absl::Status WithServerViolations(const Context& context, v1::CreateJobRequest request,
                                  const std::string& text, const SubmitOptions& options,
                                  std::vector<config::Violation> violations) {
  request.set_validate_only(true);
  auto client = context.Connect();
  if (!client.ok()) return client::JobFileError(options.file, violations);
  const absl::Status answer = (*client)->CreateJob(request).status();
  return client::JobFileError(
      options.file,
      client::WithServerMistakes(std::move(violations), answer, text, options.overrides),
      client::ViolationsLeftOut(answer));
}

absl::StatusOr<int> Submit(Context& context, const SubmitOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string text, ReadJobText(options.file));
  v1::CreateJobRequest request;
  client::JobText job_text = client::ParseJob(text, options.overrides);
  if (!job_text.readable) return client::JobFileError(options.file, job_text.violations);
  *request.mutable_spec() = std::move(job_text.spec);
  if (!job_text.violations.empty()) {
    return WithServerViolations(context, request, text, options, std::move(job_text.violations));
  }
  constexpr std::string_view kJobs = "jobs/";
  request.set_job_id(options.id.starts_with(kJobs) ? options.id.substr(kJobs.size()) : options.id);
  request.set_request_id(options.request_id);
  request.set_validate_only(options.dry_run);
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  auto created = client->CreateJob(request);
  if (!created.ok())
    return client::WithLines(created.status(), text, options.file, options.overrides);
  WarnOfLeftOut(context, *created);
  if (options.dry_run) return ReportDryRun(context, *created);
  if (!options.wait && !options.watch) return ReportSubmitted(context, *created);

  context.err << "Submitted " << base::Printable(created->name()) << "\n";
  WatchOptions watch;
  watch.show_progress = options.watch || context.err_terminal.is_tty;
  ESPALIER_ASSIGN_OR_RETURN(const v1::Job job, FollowJob(context, *client, *created, watch));
  if (!context.PrintAsData(job)) {
    PrintOutcome(context, job);
    PrintRuns(context, job);
  }
  return ExitCodeOf(job.state());
}

}  // namespace

void AddJobSubmit(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = parent.add_subcommand("submit", kDescription);
  command->add_option("FILE", options->file, "Job file (YAML); - reads standard input")->required();
  command
      ->add_option("--set", options->overrides, "Override a field, for example federation.rounds=5")
      ->type_name("FIELD=VALUE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command
      ->add_option("--name", options->id,
                   "Id of the job, which is then jobs/NAME; made by the server if absent")
      ->type_name("NAME");
  command
      ->add_option("--request-id", options->request_id,
                   "Makes retries safe: a second call with the same id returns the first job")
      ->type_name("ID");
  command->add_flag("--dry-run", options->dry_run,
                    "Only validate, on the server; nothing is started");
  command->add_flag("--wait", options->wait, "Wait for the end of the job; for scripts");
  command->add_flag("--watch", options->watch, "Wait, and show every round");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Submit(context, *options); };
  });
}

}  // namespace espalier::cli
