#include "client/cli/rounds_table.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "client/cli/format.h"
#include "fmt/format.h"

namespace espalier::cli {

void PrintRounds(const Context& context, const v1::JobSpec& spec,
                 const google::protobuf::RepeatedPtrField<v1::RoundSummary>& rounds, int most) {
  const bool has_runs = std::ranges::any_of(
      rounds, [](const v1::RoundSummary& round) { return !round.run().empty(); });
  std::vector<Table::Column> columns = {
      {"ROUND", true},   {"LOSS", true, 2},    {absl::AsciiStrToUpper(ScoreName(spec)), true, 1},
      {"DENSITY", true}, {"CHANGED", true, 3}, {"BYTES", true, 4},
      {"TIME", true, 5}};
  if (has_runs) columns.insert(columns.begin() + 1, {"RUN"});
  Table table(std::move(columns));
  for (int i = std::max(0, rounds.size() - most); i < rounds.size(); ++i) {
    const v1::RoundSummary& round = rounds[i];
    const auto judgement = JudgementOf(spec, round);
    std::vector<std::string> row = {
        std::to_string(round.round()),
        round.has_train_loss() ? fmt::format("{:.4f}", round.train_loss()) : "-",
        judgement ? judgement->text : "-",
        fmt::format("{:.4g}", round.density()),
        std::to_string(round.weights_changed()),
        HumanBytes(round.bytes_sent() + round.bytes_received()),
        HumanDuration(ToDuration(round.duration()))};
    if (has_runs) {
      row.insert(row.begin() + 1, fmt::format("{} {}", round.run(), round.run_round()));
    }
    table.Add(std::move(row));
  }
  table.Print(context.out, context.out_terminal);
}

void PrintRuns(const Context& context, const v1::Job& job) {
  if (job.runs().empty()) return;
  const std::string score = absl::AsciiStrToUpper(ScoreName(job.spec()));
  Table table({{"RUN"},
               {"ROUND", true, 1},
               {"DENSITY", true},
               {"LAST " + score, true},
               {"BEST " + score, true, 2},
               {"CHECKPOINT", false, 3}});
  for (const v1::Run& run : job.runs()) {
    table.Add({run.name(), fmt::format("{}/{}", run.round(), run.rounds()),
               fmt::format("{:.4g}", run.density()),
               run.has_last_metric() ? ScoreText(job.spec(), run.last_metric()) : "-",
               run.best_round() > 0 ? ScoreText(job.spec(), run.best_metric()) : "-",
               run.latest_checkpoint().empty() ? "-" : run.latest_checkpoint()});
  }
  context.out << "\n";
  table.Print(context.out, context.out_terminal);
}

}  // namespace espalier::cli
