#include <string>
#include <vector>

#include "absl/strings/ascii.h"
#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/progress.h"
#include "client/cli/rounds_table.h"
#include "client/cli/watch.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show one job

Examples:
  espalier job get my-job
  espalier job get my-job --spec > again.yaml    its job file, with all defaults
  espalier job get my-job -o json | jq '.history[-1].test_accuracy'

`espalier job submit` takes what --spec prints. Without --spec, -o json and
-o yaml print the job with its state and its rounds, which is not a job file.)";

struct GetOptions {
  std::string name;
  bool spec = false;
};

void PrintLayers(const Context& context, const v1::RoundSummary& round) {
  Table table({{"LAYER"}, {"ACTIVE", true, 1}, {"OF", true, 2}, {"DENSITY", true}});
  for (const v1::LayerSummary& layer : round.layers()) {
    table.Add({layer.name(), std::to_string(layer.active()), std::to_string(layer.size()),
               fmt::format("{:.4g}", static_cast<double>(layer.active()) /
                                         static_cast<double>(layer.size()))});
  }
  context.out << "\n";
  table.Print(context.out, context.out_terminal);
}

// LOCAL data: what each site found in the last evaluation.
void PrintSites(const Context& context, const v1::Job& job) {
  const v1::SiteEvaluations& last = job.last_sites();
  if (last.sites().empty()) return;
  Table table({{"SITE"},
               {"EXAMPLES", true, 1},
               {absl::AsciiStrToUpper(ScoreName(job.spec())), true},
               {"LOSS", true, 2}});
  for (const v1::SiteEvaluation& site : last.sites()) {
    table.Add({site.worker(), std::to_string(site.examples()),
               site.has_main_metric() ? ScoreText(job.spec(), site.main_metric()) : "-",
               site.has_loss() ? fmt::format("{:.4f}", site.loss()) : "-"});
  }
  context.out << "\n";
  table.Print(context.out, context.out_terminal);
  if (last.sites_left_out() > 0) {
    context.out << fmt::format("and {} more, none with a worse {}\n", last.sites_left_out(),
                               ScoreName(job.spec()));
  }
}

// Of classes: how many test examples of each were found, and what the others were most often taken
// for.
void PrintConfusion(const Context& context, const v1::Job& job) {
  const v1::ConfusionMatrix& matrix = job.confusion();
  const int classes = matrix.classes_size();
  if (classes == 0 || matrix.counts_size() != classes * classes) return;
  Table table({{"CLASS"}, {"EXAMPLES", true, 1}, {"RIGHT", true}, {"MOSTLY TAKEN FOR"}});
  for (int row = 0; row < classes; ++row) {
    const auto count = [&](int column) { return matrix.counts(row * classes + column); };
    int64_t all = 0;
    int other = -1;
    for (int column = 0; column < classes; ++column) {
      all += count(column);
      if (column == row || count(column) == 0) continue;
      if (other < 0 || count(column) > count(other)) other = column;
    }
    if (all == 0) continue;
    const double right = static_cast<double>(count(row)) / static_cast<double>(all);
    table.Add({matrix.classes(row), std::to_string(all), Percent(right),
               other < 0 ? "-" : fmt::format("{} ({})", matrix.classes(other), count(other))});
  }
  context.out << "\n";
  table.Print(context.out, context.out_terminal);
}

// What the last round took.
void AddCosts(const v1::RoundSummary& round, Fields& fields) {
  fields.emplace_back(
      "training a round",
      fmt::format("{:.3g} FLOPs, {} of dense; {} of workers' time", round.train_flops(),
                  Percent(round.train_flops() / round.dense_train_flops()),
                  HumanDuration(ToDuration(round.compute_time()))));
  fields.emplace_back("peak worker memory", HumanBytes(round.worker_peak_memory_bytes()));
  fields.emplace_back("ever active",
                      Percent(round.explored()) + " of all possible weights, in some round");
}

// A job file is YAML, whatever standard output is; JSON only when asked for.
int PrintSpec(const Context& context, const v1::Job& job) {
  const Format format = context.options.format == Format::kJson ? Format::kJson : Format::kYaml;
  PrintData(context.out, format, JsonOf(job.spec(), Unset::kLeftOut));
  return kExitDone;
}

// Of jobs that prune: what each layer lost, as far as it was measured.
void PrintPruned(const Context& context, const v1::Job& job) {
  Table table({{"LAYER"},
               {"DENSITY", true, 1},
               {"ERROR", true, 1},
               {"BEFORE", true, 2},
               {"EXCHANGED", true, 3}});
  const auto error = [](bool measured, double value) {
    return measured ? fmt::format("{:.4f}", value) : "-";
  };
  bool any = false;
  for (const v1::RoundSummary& round : job.history()) {
    for (const v1::LayerSummary& layer : round.layers()) {
      if (!layer.has_output_error() && layer.exchanged() == 0) continue;
      any = true;
      const double size = std::max<double>(1, static_cast<double>(layer.size()));
      table.Add({layer.name(), fmt::format("{:.4g}", static_cast<double>(layer.active()) / size),
                 error(layer.has_output_error(), layer.output_error()),
                 error(layer.has_initial_output_error(), layer.initial_output_error()),
                 std::to_string(layer.exchanged())});
    }
  }
  if (!any) return;
  context.out << "\n";
  table.Print(context.out, context.out_terminal);
}

// Of sweeps: the curve.
void PrintSweep(const Context& context, const v1::Job& job) {
  Table table(
      {{"SPARSITY", true}, {"PERPLEXITY", true, 1}, {"ACCURACY", true, 1}, {"LOSS", true, 2}});
  for (const v1::RoundSummary& round : job.history()) {
    table.Add({fmt::format("{:.4g}", 1 - round.density()),
               round.has_perplexity() ? fmt::format("{:.4f}", round.perplexity()) : "-",
               round.has_test_accuracy() ? Percent(round.test_accuracy()) : "-",
               round.has_test_loss() ? fmt::format("{:.4f}", round.test_loss()) : "-"});
  }
  context.out << "\n";
  table.Print(context.out, context.out_terminal);
}

// What the optimizer of a job with a trained model began with.
std::string OptimizerText(const v1::OptimizerStart& start) {
  if (start.checkpoint().empty()) return "began fresh: " + start.why_fresh();
  const std::string steps =
      start.steps() > 0 ? fmt::format(", after {} minibatches", start.steps()) : "";
  return fmt::format("began with the state in {}{}", start.checkpoint(), steps);
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
  if (!job.owner().empty()) fields.insert(fields.begin(), {"owner", job.owner()});
  RunTotals totals;
  totals.bytes = job.prelude_bytes_sent() + job.prelude_bytes_received();
  if (totals.bytes > 0) fields.emplace_back("bytes before round 1", HumanBytes(totals.bytes));
  bool saves = false;
  for (const v1::RoundSummary& round : job.history()) {
    totals.Add(round);
    saves = saves || TrainsSparse(round);
  }
  if (job.history_left_out() > 0) {
    fields.emplace_back("rounds not shown", fmt::format("the first {}; `espalier job rounds {}` "
                                                        "has them",
                                                        job.history_left_out(), job.name()));
  }
  if (saves) fields.emplace_back("bytes saved", Percent(totals.saved()));
  const bool trained =
      job.history_size() > 0 && job.history(job.history_size() - 1).dense_train_flops() > 0;
  if (trained) AddCosts(job.history(job.history_size() - 1), fields);
  if (job.has_optimizer_start()) {
    fields.emplace_back("optimizer", OptimizerText(job.optimizer_start()));
  }
  for (const v1::Condition& condition : job.conditions()) {
    fields.emplace_back("waiting", condition.type() + ": " + condition.message());
  }
  for (const v1::LeftOutWorker& out : job.left_out_workers()) {
    fields.emplace_back("left out", out.worker() + ": " + out.reason());
  }
  PrintFields(context.out, context.out_terminal, fields);
  PrintRuns(context, job);
  PrintSites(context, job);
  PrintConfusion(context, job);
  PrintPruned(context, job);
  if (job.spec().method().name() == "essential-sparsity") PrintSweep(context, job);
  if (context.out_terminal.is_tty && job.history_size() > 0) {
    constexpr int kShown = 10;
    context.out << "\n";
    PrintRounds(context, job.spec(), job.history(), kShown);
    PrintLayers(context, job.history(job.history_size() - 1));
  }
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
