#include "client/cli/rounds_table.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "client/cli/format.h"
#include "fmt/format.h"

namespace espalier::cli {

void PrintRounds(const Context& context, const v1::JobSpec& spec,
                 const google::protobuf::RepeatedPtrField<v1::RoundSummary>& rounds, int most) {
  Table table({{"ROUND", true},
               {"RUN", false, 6},
               {"LOSS", true, 2},
               {absl::AsciiStrToUpper(ScoreName(spec)), true, 1},
               {"DENSITY", true},
               {"CHANGED", true, 3},
               {"BYTES", true, 4},
               {"TIME", true, 5}});
  for (int i = std::max(0, rounds.size() - most); i < rounds.size(); ++i) {
    const v1::RoundSummary& round = rounds[i];
    const auto judgement = JudgementOf(spec, round);
    table.Add({std::to_string(round.round()),
               round.run().empty() ? "-" : fmt::format("{} {}", round.run(), round.run_round()),
               round.has_train_loss() ? fmt::format("{:.4f}", round.train_loss()) : "-",
               judgement ? judgement->text : "-", fmt::format("{:.4g}", round.density()),
               std::to_string(round.weights_changed()),
               HumanBytes(round.bytes_sent() + round.bytes_received()),
               HumanDuration(ToDuration(round.duration()))});
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
