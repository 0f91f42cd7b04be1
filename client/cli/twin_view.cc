#include "client/cli/twin_view.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "client/cli/format.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr int kShowEvery = 10;
constexpr int kBarColumns = 12;
// What the live block needs.
constexpr int kMinColumns = 58;
constexpr int kMinRows = 12;
constexpr char kUnknown[] = "-";

// fmt pads by columns, so that "×" and "━" count once.
std::string Row(const std::string& name, const std::string& sparse, const std::string& dense,
                const std::string& less = "") {
  std::string row = fmt::format("  {:<26} {:>11} {:>11} {:>7}", name, sparse, dense, less);
  row.erase(row.find_last_not_of(' ') + 1);
  return row;
}

std::string Times(int64_t dense, int64_t sparse) {
  if (sparse <= 0) return kUnknown;
  return fmt::format("{:.1f}×", static_cast<double>(dense) / static_cast<double>(sparse));
}

std::string PercentOrUnknown(const std::optional<double>& ratio) {
  return ratio ? Percent(*ratio) : kUnknown;
}

}  // namespace

int64_t WeightMemory(const v1::JobSpec& spec, const v1::RoundSummary& round) {
  constexpr int64_t kFloat = 4;
  constexpr int64_t kStructure = 4;
  constexpr int64_t kTranspose = 8;
  const v1::Optimizer& optimizer = spec.training().optimizer();
  int64_t slots = optimizer.momentum() > 0 ? 1 : 0;
  if (optimizer.kind() == v1::Optimizer::KIND_ADAM) slots = 2;
  const int64_t structure = round.density() < 1 ? kStructure + kTranspose : 0;
  return round.active_weights() * (kFloat * (1 + slots) + structure);
}

TwinView::TwinView(std::ostream& out, const Terminal& terminal, std::array<std::string, 2> titles,
                   int rounds)
    : out_(out),
      is_live_(terminal.is_tty && terminal.columns >= kMinColumns && terminal.rows >= kMinRows),
      titles_(std::move(titles)),
      rounds_(rounds),
      live_(out, terminal.columns) {}

void TwinView::Start() {
  if (is_live_) {
    out_ << "\n";
    return ShowLive();
  }
  const auto line = [this](const std::string& text) {
    out_ << text.substr(0, text.find_last_not_of(' ') + 1) << "\n";
  };
  out_ << "\n";
  line(fmt::format("  {:>5}   {:^21}   {:^21}", "", titles_[0], titles_[1]));
  line(fmt::format("  {:>5}   {:>9} {:>11}   {:>9} {:>11}", "round", "loss", "accuracy", "loss",
                   "accuracy"));
  out_ << std::flush;
}

void TwinView::OnRound(size_t twin, const v1::RoundSummary& summary) {
  Twin& seen = twins_[twin];
  seen.totals.Add(summary);
  seen.rounds[summary.round()] = summary;
  seen.accuracy = AccuracyOf(summary).value_or(seen.accuracy);
  if (is_live_) {
    ShowLive();
  } else {
    ShowRows();
  }
}

void TwinView::Note(size_t twin, const std::string& text) {
  live_.Print(fmt::format("  {}: {}", titles_[twin], text));
}

void TwinView::ShowRows() {
  const auto cell = [](const v1::RoundSummary& summary) {
    return fmt::format("{:>9.4f} {:>11}", summary.train_loss(),
                       PercentOrUnknown(AccuracyOf(summary)));
  };
  for (;;) {
    const int next = shown_ == 0 ? 1 : (shown_ / kShowEvery + 1) * kShowEvery;
    if (!twins_[0].rounds.contains(next) || !twins_[1].rounds.contains(next)) return;
    shown_ = next;
    out_ << fmt::format("  {:>5}   {}   {}\n", next, cell(twins_[0].rounds[next]),
                        cell(twins_[1].rounds[next]))
         << std::flush;
  }
}

std::string TwinView::RoundCell(const Twin& twin) const {
  return fmt::format("{} of {}", twin.totals.rounds, rounds_);
}

std::string TwinView::BarCell(const Twin& twin) const {
  const int done = std::min(kBarColumns, twin.totals.rounds * kBarColumns / std::max(rounds_, 1));
  std::string bar;
  for (int i = 0; i < kBarColumns; ++i) bar += i < done ? "━" : "·";
  return bar;
}

std::string TwinView::LeftCell(const Twin& twin) const {
  if (twin.totals.rounds == 0) return kUnknown;
  const int left = rounds_ - twin.totals.rounds;
  return left > 0 ? HumanDuration(twin.totals.Left(left)) : "done";
}

void TwinView::ShowLive() {
  const auto row = [this](const std::string& name, const auto& cell) {
    return Row(name, cell(twins_[0]), cell(twins_[1]));
  };
  // A cell that needs a round to say anything.
  const auto newest = [](const auto& text) {
    return [text](const Twin& twin) {
      return twin.rounds.empty() ? std::string(kUnknown) : text(twin, twin.rounds.rbegin()->second);
    };
  };
  using Summary = v1::RoundSummary;
  live_.Show(
      {Row("training", titles_[0], titles_[1]),
       row("round", [this](const Twin& twin) { return RoundCell(twin); }),
       row("", [this](const Twin& twin) { return BarCell(twin); }),
       row("loss", newest([](const Twin&, const Summary& last) {
             return fmt::format("{:.4f}", last.train_loss());
           })),
       row("test accuracy",
           [](const Twin& twin) {
             return twin.accuracy < 0 ? std::string(kUnknown) : Percent(twin.accuracy);
           }),
       row("weights of the layers", newest([](const Twin&, const Summary& last) {
             return std::to_string(last.active_weights());
           })),
       row("density", newest([](const Twin&, const Summary& last) {
             return fmt::format("{:.3g}", last.density());
           })),
       row("bytes on the wire, so far",
           newest([](const Twin& twin, const Summary&) { return HumanBytes(twin.totals.bytes); })),
       row("saved against dense",
           newest([](const Twin& twin, const Summary&) { return Percent(twin.totals.saved()); })),
       row("time left", [this](const Twin& twin) { return LeftCell(twin); })});
}

void TwinView::Compare(const std::array<v1::Job, 2>& jobs) {
  live_.Clear();
  if (!is_live_) out_ << "\n";
  const RunTotals& sparse = twins_[0].totals;
  const RunTotals& dense = twins_[1].totals;
  const v1::RoundSummary& s = *jobs[0].history().rbegin();
  const v1::RoundSummary& d = *jobs[1].history().rbegin();
  const auto bytes_a_round = [](const RunTotals& totals) {
    return HumanBytes(totals.bytes / std::max(totals.rounds, 1));
  };
  const int64_t sparse_memory = WeightMemory(jobs[0].spec(), s);
  const int64_t dense_memory = WeightMemory(jobs[1].spec(), d);
  for (const std::string& row :
       {Row(fmt::format("after {} rounds", s.round()), titles_[0], titles_[1], "less"),
        Row("test accuracy, last round", PercentOrUnknown(AccuracyOf(s)),
            PercentOrUnknown(AccuracyOf(d))),
        Row("test accuracy, best round", ScoreText(jobs[0].spec(), jobs[0].best_metric()),
            ScoreText(jobs[1].spec(), jobs[1].best_metric())),
        Row("weights of the layers", std::to_string(s.active_weights()),
            std::to_string(d.active_weights()), Times(d.active_weights(), s.active_weights())),
        Row("density", fmt::format("{:.3g}", s.density()), fmt::format("{:.3g}", d.density())),
        Row("bytes on the wire, a round", bytes_a_round(sparse), bytes_a_round(dense),
            Times(dense.bytes, sparse.bytes)),
        Row("training FLOPs, a round", fmt::format("{:.3g}", s.train_flops()),
            fmt::format("{:.3g}", d.train_flops()),
            Times(static_cast<int64_t>(d.train_flops()), static_cast<int64_t>(s.train_flops()))),
        Row("weights' memory, a worker", HumanBytes(sparse_memory), HumanBytes(dense_memory),
            Times(dense_memory, sparse_memory)),
        Row("time a round, both at once", HumanDuration(sparse.Left(1)),
            HumanDuration(dense.Left(1)),
            sparse.seconds > 0 ? fmt::format("{:.1f}×", dense.seconds / sparse.seconds) : kUnknown),
        Row("weights ever active", Percent(s.explored()), Percent(d.explored()))}) {
    out_ << row << "\n";
  }
}

}  // namespace espalier::cli
