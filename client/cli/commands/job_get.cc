#include "absl/strings/ascii.h"
#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/job_text.h"
#include "client/cli/progress.h"
#include "client/cli/watch.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show one job

Examples:
  espalier job get my-job
  espalier job get my-job --spec > again.yaml    its job file, with all defaults
  espalier job get my-job -o json | jq '.history[].test_accuracy'

`espalier job submit` takes what --spec prints. Without --spec, -o json and
-o yaml print the job with its state and its rounds, which is not a job file.)";

struct GetOptions {
  std::string name;
  bool spec = false;
};

void PrintRounds(const Context& context, const v1::Job& job) {
  constexpr int kShown = 10;
  Table table({{"ROUND", true},
               {"LOSS", true},
               {absl::AsciiStrToUpper(ScoreName(job.spec())), true},
               {"DENSITY", true},
               {"BYTES", true},
               {"TIME", true}});
  for (int i = std::max(0, job.history_size() - kShown); i < job.history_size(); ++i) {
    const v1::RoundSummary& round = job.history(i);
    const auto accuracy = AccuracyOf(round);
    table.Add({std::to_string(round.round()), fmt::format("{:.4f}", round.train_loss()),
               accuracy ? ScoreText(job.spec(), *accuracy) : "-",
               fmt::format("{:.4g}", round.density()),
               HumanBytes(round.bytes_sent() + round.bytes_received()),
               HumanDuration(ToDuration(round.duration()))});
  }
  context.out << "\n";
  table.Print(context.out, context.out_terminal);
}

// A job file is YAML, whatever standard output is; JSON only when asked for.
int PrintSpec(const Context& context, const v1::Job& job) {
  const std::string json = WriteJob(job.spec());
  context.out << (context.options.format == Format::kJson ? json : JsonToYaml(json));
  return kExitDone;
}

absl::StatusOr<int> Get(Context& context, const GetOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(ResourceName("jobs", options.name)));
  if (options.spec) return PrintSpec(context, job);
  if (context.PrintAsData(job)) return kExitDone;
  PrintOutcome(context, job);
  Fields fields = {{"method", job.spec().method().name()},
                   {"data", job.spec().data().dataset()},
                   {"parameters stored", std::to_string(job.stored_parameters())},
                   {"parameters if dense", std::to_string(job.dense_parameters())},
                   {"created", AbsoluteTime(job.create_time())},
                   {"started", AbsoluteTime(job.start_time())},
                   {"ended", AbsoluteTime(job.end_time())}};
  RunTotals totals;
  for (const v1::RoundSummary& round : job.history()) totals.Add(round);
  if (totals.rounds > 0) fields.emplace_back("bytes saved", Percent(totals.saved()));
  for (const v1::Condition& condition : job.conditions()) {
    fields.emplace_back("waiting", condition.type() + ": " + condition.message());
  }
  PrintFields(context.out, context.out_terminal, fields);
  if (context.out_terminal.is_tty && job.history_size() > 0) PrintRounds(context, job);
  return kExitDone;
}

}  // namespace

void AddJobGet(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<GetOptions>();
  CLI::App* command = parent.add_subcommand("get", kDescription);
  command->add_option("JOB", options->name, "jobs/ID, or only ID")->required();
  command->add_flag("--spec", options->spec, "Print the job file, as YAML unless -o json");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Get(context, *options); };
  });
}

}  // namespace espalier::cli
