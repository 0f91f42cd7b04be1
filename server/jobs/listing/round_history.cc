#include "server/jobs/listing/round_history.h"

#include <algorithm>
#include <numeric>

#include "common/config/metrics.h"

namespace espalier::server::jobs {
namespace {

bool IsEvaluated(const v1::RoundSummary& round) {
  return round.has_test_loss() || round.has_test_accuracy() || round.has_federated_test_loss() ||
         round.has_federated_test_accuracy() || round.has_main_metric() ||
         round.test_metrics_size() > 0 || round.federated_test_metrics_size() > 0;
}

// The rounds that are chosen, as places are given out.
class Selection {
 public:
  Selection(size_t total, size_t places) : chosen_(total), left_(places) {}

  bool Has(size_t index) const { return chosen_[index]; }

  void Take(size_t index) {
    if (left_ == 0 || chosen_[index]) return;
    chosen_[index] = true;
    --left_;
  }

  // Evenly spaced ones of `candidates`, of which none is chosen yet; all of them where they fit.
  void TakeEvenly(const std::vector<size_t>& candidates) {
    const size_t count = std::min(left_, candidates.size());
    for (size_t i = 0; i < count; ++i) {
      Take(candidates[(2 * i + 1) * candidates.size() / (2 * count)]);
    }
  }

  std::vector<size_t> Ascending() const {
    std::vector<size_t> indices;
    for (size_t i = 0; i < chosen_.size(); ++i) {
      if (chosen_[i]) indices.push_back(i);
    }
    return indices;
  }

 private:
  std::vector<bool> chosen_;
  size_t left_;
};

}  // namespace

void RoundHistory::Note(const v1::RoundSummary& summary, bool best) {
  Add(log_->last_sequence(), summary, best);
}

void RoundHistory::Restore(const std::vector<v1::JobEvent>& events,
                           const std::string& main_metric) {
  std::optional<double> best;
  for (const v1::JobEvent& event : events) {
    if (!event.has_round_committed()) continue;
    const v1::RoundSummary& summary = event.round_committed().summary();
    const bool is_best =
        summary.has_main_metric() &&
        (!best.has_value() || config::IsBetter(main_metric, summary.main_metric(), *best));
    if (is_best) best = summary.main_metric();
    Add(event.sequence(), summary, is_best);
  }
}

void RoundHistory::Add(int64_t sequence, const v1::RoundSummary& summary, bool best) {
  if (best) best_ = events_.size();
  events_.push_back(sequence);
  evaluated_.push_back(IsEvaluated(summary));
}

v1::RoundSummary RoundHistory::At(size_t index) const {
  auto event = log_->AfterOfAll(events_[index] - 1);
  return std::move(*event->mutable_round_committed()->mutable_summary());
}

std::vector<size_t> RoundHistory::Choose(size_t total, std::optional<size_t> best,
                                         size_t most) const {
  if (most == 0 || most >= total) {
    std::vector<size_t> all(total);
    std::iota(all.begin(), all.end(), size_t{0});
    return all;
  }
  Selection selection(total, most);
  selection.Take(total - 1);
  if (best.has_value()) selection.Take(*best);
  selection.Take(0);
  for (const bool evaluated : {true, false}) {
    std::vector<size_t> candidates;
    for (size_t i = 0; i < total; ++i) {
      if (evaluated_[i] == evaluated && !selection.Has(i)) candidates.push_back(i);
    }
    selection.TakeEvenly(candidates);
  }
  return selection.Ascending();
}

}  // namespace espalier::server::jobs
