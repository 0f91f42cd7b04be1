#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/flags.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(List jobs

Examples:
  espalier job list
  espalier job list --limit 5
  espalier job list --state running --state pending
  espalier job list --method set --contains digits --order name
  espalier job list | cut -f1        names only
  espalier job list -o json)";

constexpr size_t kMostJobs = 100'000;

std::string Created(const Context& context, const v1::Job& job) {
  return context.out_terminal.is_tty ? RelativeTime(job.create_time(), absl::Now())
                                     : AbsoluteTime(job.create_time());
}

struct ListOptions {
  size_t limit = 1000;
  std::vector<std::string> states;  // in lower case; empty = all
  std::string method;
  std::string contains;
  std::string order = "newest";
};

v1::ListJobsRequest RequestOf(const ListOptions& options) {
  v1::ListJobsRequest request;
  for (const std::string& word : options.states) {
    v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
    v1::Job::State_Parse("STATE_" + absl::AsciiStrToUpper(word), &state);
    request.add_states(state);
  }
  request.set_method(options.method);
  request.set_contains(options.contains);
  v1::ListJobsRequest::Order order = v1::ListJobsRequest::ORDER_UNSPECIFIED;
  v1::ListJobsRequest::Order_Parse("ORDER_" + absl::AsciiStrToUpper(options.order), &order);
  request.set_order(order);
  return request;
}

absl::StatusOr<int> List(Context& context, const ListOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto jobs, client->ListJobs(RequestOf(options), options.limit));
  if (context.PrintAsData(jobs)) return kExitDone;
  const bool is_narrow = !options.method.empty() || !options.contains.empty();
  if (jobs.jobs().empty() && is_narrow) {
    context.err << "No job is like that.\n";
    return kExitDone;
  }
  if (jobs.jobs().empty() && !options.states.empty()) {
    context.err << "No job is " << config::Joined(options.states, " or ") << ".\n";
    return kExitDone;
  }
  if (jobs.jobs().empty()) {
    context.err << "No jobs yet. Submit one: espalier job submit FILE (examples: docs/examples)\n";
    return kExitDone;
  }
  // Where the cluster does not know its users, there is nothing to say of them.
  const bool has_owners =
      std::ranges::any_of(jobs.jobs(), [](const v1::Job& job) { return !job.owner().empty(); });
  std::vector<Table::Column> columns = {{"NAME"},           {"STATE"},
                                        {"ROUND", true, 1}, {"METHOD", false, 2},
                                        {"BEST", true, 3},  {"CREATED", false, 4}};
  if (has_owners) columns.push_back({"OWNER", false, 2});
  Table table(columns);
  for (const v1::Job& job : jobs.jobs()) {
    std::vector<std::string> cells = {job.name(),
                                      StateWord(job.state()),
                                      fmt::format("{}/{}", job.round(), TotalRounds(job)),
                                      job.spec().method().name(),
                                      HasBest(job) ? ScoreText(job.spec(), job.best_metric()) : "-",
                                      Created(context, job)};
    if (has_owners) cells.push_back(job.owner().empty() ? "-" : job.owner());
    table.Add(cells);
  }
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddJobList(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<ListOptions>();
  CLI::App* command = parent.add_subcommand("list", kDescription);
  command->add_option("--limit", options->limit, "At most so many jobs, 1 to 100000")
      ->check(base::Between<size_t>(1, kMostJobs))
      ->capture_default_str();
  command
      ->add_option("--state", options->states,
                   "Only jobs in this state: pending, running, paused, cancelling, cancelled, "
                   "succeeded or failed; may be given several times")
      ->transform(CLI::Validator(
          [](std::string& word) {
            word = absl::AsciiStrToLower(word);
            return "";
          },
          ""))
      ->check(base::OneOf(
          {"pending", "running", "paused", "cancelling", "cancelled", "succeeded", "failed"}))
      ->type_name("STATE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--method", options->method, "Only jobs of this method");
  command->add_option("--contains", options->contains,
                      "Only jobs whose name or display name contains this text, in upper or lower "
                      "case");
  command->add_option("--order", options->order, "newest, oldest or name")
      ->check(base::OneOf({"newest", "oldest", "name"}))
      ->capture_default_str();
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return List(context, *options); };
  });
}

}  // namespace espalier::cli
