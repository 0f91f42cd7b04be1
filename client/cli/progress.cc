#include "client/cli/progress.h"

#include <algorithm>
#include <utility>

#include "client/cli/format.h"
#include "common/base/printable.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

std::string RoundName(const std::string& run, int round) {
  return run.empty() ? fmt::format("round {}", round) : fmt::format("{} round {}", run, round);
}

}  // namespace

void RunTotals::Add(const v1::RoundSummary& summary, absl::Time committed) {
  bytes += summary.bytes_sent() + summary.bytes_received();
  dense_bytes += summary.dense_bytes();
  const bool overlaps = !summary.run().empty() && last_commit != absl::InfinitePast();
  seconds +=
      absl::ToDoubleSeconds(overlaps ? std::max(absl::ZeroDuration(), committed - last_commit)
                                     : ToDuration(summary.duration()));
  last_commit = committed;
  ++rounds;
  peak_worker_memory_bytes = std::max(peak_worker_memory_bytes, summary.worker_peak_memory_bytes());
}

double RunTotals::saved() const {
  if (dense_bytes <= 0) return 0;
  return 1 - static_cast<double>(bytes) / static_cast<double>(dense_bytes);
}

absl::Duration RunTotals::Left(int more_rounds) const {
  return rounds > 0 ? absl::Seconds(seconds / rounds * more_rounds) : absl::ZeroDuration();
}

std::string TroubleOf(const v1::JobEvent& event) {
  switch (event.kind_case()) {
    case v1::JobEvent::kTaskReassigned: {
      const v1::TaskReassigned& task = event.task_reassigned();
      return fmt::format("{}: participant {} moved away from {} ({})",
                         RoundName(task.run(), task.round()), task.participant(), task.worker(),
                         task.reason());
    }
    case v1::JobEvent::kUpdateRejected: {
      const v1::UpdateRejected& update = event.update_rejected();
      return fmt::format("{}: update of {} from {} rejected: {} {}",
                         RoundName(update.run(), update.round()), update.participant(),
                         update.worker(), update.reason(), update.message());
    }
    case v1::JobEvent::kQuorumMissed: {
      const v1::QuorumMissed& missed = event.quorum_missed();
      return fmt::format("{}: {} of {} needed updates arrived in time: {}",
                         RoundName(missed.run(), missed.round()), missed.arrived(), missed.needed(),
                         missed.decision());
    }
    default:
      return "";
  }
}

std::string PreludeText(const v1::PreludeStep& step) {
  std::string text = "before round 1: " + step.phase();
  if (step.candidates() > 0) {
    text += fmt::format("  candidate {} of {}", step.candidate(), step.candidates());
  }
  if (step.has_loss()) text += fmt::format("  loss {:.4f}", step.loss());
  return text + "  " + HumanBytes(step.bytes_sent() + step.bytes_received());
}

Progress::Progress(std::ostream& err, const Terminal& terminal, const v1::Job& job)
    : err_(err),
      terminal_(terminal),
      name_(job.name()),
      spec_(job.spec()),
      rounds_(TotalRounds(job)),
      state_(job.state()),
      live_(err, terminal.columns) {}

void Progress::OnEvent(const v1::JobEvent& event) {
  if (event.has_state_changed()) {
    const v1::JobStateChanged& change = event.state_changed();
    state_ = change.state();
    std::string text = StateWord(change.state());
    if (!change.reason().empty()) text += " " + change.reason();
    if (!change.message().empty()) text += ": " + change.message();
    // The end stands below the last round.
    if (HasEnded(change.state())) live_.Finish();
    Note(text);
  } else if (event.has_prelude_step()) {
    totals_.bytes += event.prelude_step().bytes_sent() + event.prelude_step().bytes_received();
    Note(PreludeText(event.prelude_step()));
  } else if (event.has_round_committed()) {
    OnRound(event.round_committed().summary(), ToTime(event.time()));
  } else if (const std::string trouble = TroubleOf(event); !trouble.empty()) {
    Note(trouble);
  }
}

void Progress::OnRound(const v1::RoundSummary& summary, absl::Time committed) {
  totals_.Add(summary, committed);
  if (auto judgement = JudgementOf(spec_, summary)) {
    judgements_[summary.run()] = *std::move(judgement);
  }
  saves_ = saves_ || TrainsSparse(summary);
  const std::string line = name_ + "  " + RoundLine(summary);
  if (terminal_.is_tty) {
    live_.Show({line});
  } else {
    err_ << base::Printable(line) << "\n" << std::flush;
  }
}

std::string Progress::RoundLine(const v1::RoundSummary& summary) const {
  std::string line = fmt::format("round {} of {}", summary.round(), rounds_);
  if (!summary.run().empty()) {
    line += fmt::format("  {} {} of {}", summary.run(), summary.run_round(),
                        spec_.federation().rounds());
  }
  if (summary.has_train_loss()) line += fmt::format("  loss {:.4f}", summary.train_loss());
  if (const auto judgement = judgements_.find(summary.run()); judgement != judgements_.end()) {
    line += fmt::format("  {} {}", judgement->second.name, judgement->second.text);
  }
  line += fmt::format("  density {:.3g}", summary.density());
  if (saves_) line += "  bytes saved " + Percent(totals_.saved());
  const int left = rounds_ - summary.round();
  if (left > 0) {
    line += "  left " + HumanDuration(totals_.Left(left));
  }
  return line;
}

void Progress::Note(const std::string& text) { live_.Print(name_ + "  " + text); }

void Progress::Finish() { live_.Finish(); }

}  // namespace espalier::cli
