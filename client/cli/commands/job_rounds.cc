#include <limits>

#include "client/cli/commands/commands.h"
#include "client/cli/data/rounds_csv.h"
#include "client/cli/exit_code.h"
#include "client/cli/rounds_table.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show the rounds of a job, all or some of them

Examples:
  espalier job rounds my-job                     one line for each round
  espalier job rounds my-job --points 500        at most 500, evenly spaced
  espalier job rounds my-job -o csv > rounds.csv
  espalier job rounds my-job -o json | jq '.rounds[].train_loss'

With --points the last round, the best, the first and those that were evaluated
are kept as far as they fit. All columns: docs/reference/json.md.)";

struct RoundsOptions {
  std::string name;
  int32_t points = 0;
};

absl::StatusOr<int> Rounds(Context& context, const RoundsOptions& options) {
  const std::string name = ResourceName("jobs", options.name);
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto rounds, client->ListRounds(name, options.points));
  if (context.options.format == Format::kCsv) {
    context.out << RoundsCsv(rounds);
    return kExitDone;
  }
  if (context.PrintAsData(rounds)) return kExitDone;
  if (rounds.rounds().empty()) {
    context.err << fmt::format("No round of {} is done yet.\n", base::Printable(name));
    return kExitDone;
  }
  // What the rounds are judged by is said by the job.
  ESPALIER_ASSIGN_OR_RETURN(const v1::Job job, client->GetJob(name));
  PrintRounds(context, job.spec(), rounds.rounds(), std::numeric_limits<int>::max());
  if (rounds.rounds_size() < rounds.total_rounds()) {
    context.err << fmt::format("{} of {} rounds\n", rounds.rounds_size(), rounds.total_rounds());
  }
  return kExitDone;
}

}  // namespace

void AddJobRounds(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<RoundsOptions>();
  CLI::App* command = parent.add_subcommand("rounds", kDescription);
  command->add_option("JOB", options->name, "jobs/ID, or only ID")->required();
  command
      ->add_option("--points", options->points,
                   "At most so many rounds, 1 to 1000000; default: all of them")
      ->check(base::Between<int32_t>(1, 1'000'000))
      ->type_name("N");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Rounds(context, *options); };
  });
}

}  // namespace espalier::cli
