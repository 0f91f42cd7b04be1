#include "server/methods/evaluation/metrics.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "common/config/metrics.h"
#include "common/wire/model_spec/evaluation_counts.h"
#include "common/wire/model_spec/transformer.h"

namespace espalier::server::methods {
namespace {

using config::TargetKind;

// More classes have no confusion matrix: it would be most of what is sent.
constexpr int64_t kMostClasses = 100;
constexpr int64_t kTop = 5;
// More labels have no metrics of their own.
constexpr size_t kMostOwnMetrics = 20;

// What was summed, of one participant or of all.
struct Sums {
  double examples = 0;
  double loss = 0;
  double correct = 0;
  const std::map<std::string, double>& by_name;

  std::optional<double> Find(const std::string& name) const {
    const auto found = by_name.find(name);
    return found == by_name.end() ? std::nullopt : std::optional<double>(found->second);
  }
};

class Metrics {
 public:
  void Add(const std::string& name, double value) {
    if (!std::isfinite(value)) return;
    v1::Metric& metric = metrics_.emplace_back();
    metric.set_name(name);
    metric.set_value(value);
  }
  void Add(const std::string& name, std::optional<double> value) {
    if (value.has_value()) Add(name, *value);
  }
  std::vector<v1::Metric> Take() { return std::move(metrics_); }

 private:
  std::vector<v1::Metric> metrics_;
};

// The counts of one label's scores: by bin, of examples without it and of those with it.
struct Scores {
  std::span<const int64_t> without;
  std::span<const int64_t> with;

  double Total(std::span<const int64_t> counts) const {
    double total = 0;
    for (const int64_t count : counts) total += static_cast<double>(count);
    return total;
  }

  // The share of pairs of an example with and one without the label that are in order; those in one
  // bin count half.
  std::optional<double> Auc() const {
    const double pairs = Total(with) * Total(without);
    if (pairs == 0) return std::nullopt;
    double above = 0;
    double ordered = 0;
    for (size_t bin = with.size(); bin-- > 0;) {
      const auto here = static_cast<double>(with[bin]);
      ordered += static_cast<double>(without[bin]) * (above + here / 2);
      above += here;
    }
    return ordered / pairs;
  }

  // Σ over bins from the top of the growth of recall times precision.
  std::optional<double> AveragePrecision() const {
    const double all = Total(with);
    if (all == 0) return std::nullopt;
    double found = 0;
    double taken = 0;
    double sum = 0;
    for (size_t bin = with.size(); bin-- > 0;) {
      const auto here = static_cast<double>(with[bin]);
      found += here;
      taken += here + static_cast<double>(without[bin]);
      if (here > 0) sum += here / all * (found / taken);
    }
    return sum;
  }

  // Of the examples whose probability is ½ or more.
  double TruePositives() const { return Total(with.subspan(with.size() / 2)); }
  double FalsePositives() const { return Total(without.subspan(without.size() / 2)); }
  double FalseNegatives() const { return Total(with.first(with.size() / 2)); }
};

double F1(double true_positives, double false_positives, double false_negatives) {
  const double both = 2 * true_positives + false_positives + false_negatives;
  return both == 0 ? 0 : 2 * true_positives / both;
}

std::vector<Scores> ScoresIn(std::span<const int64_t> counts, int64_t labels) {
  std::vector<Scores> scores;
  constexpr auto kBins = static_cast<size_t>(wire::kScoreBins);
  if (counts.size() != static_cast<size_t>(labels) * 2 * kBins) return scores;
  for (; !counts.empty(); counts = counts.subspan(2 * kBins)) {
    scores.push_back({counts.first(kBins), counts.subspan(kBins, kBins)});
  }
  return scores;
}

void AddLabels(const std::vector<Scores>& scores, Metrics& metrics) {
  if (scores.empty()) return;
  double true_positives = 0;
  double false_positives = 0;
  double false_negatives = 0;
  double f1 = 0;
  double precision = 0;
  for (const Scores& label : scores) {
    true_positives += label.TruePositives();
    false_positives += label.FalsePositives();
    false_negatives += label.FalseNegatives();
    f1 += F1(label.TruePositives(), label.FalsePositives(), label.FalseNegatives());
    precision += label.AveragePrecision().value_or(0);
  }
  const auto labels = static_cast<double>(scores.size());
  metrics.Add("f1_micro", F1(true_positives, false_positives, false_negatives));
  metrics.Add("f1_macro", f1 / labels);
  metrics.Add("average_precision", precision / labels);
  for (size_t i = 0; i < scores.size() && scores.size() <= kMostOwnMetrics; ++i) {
    const Scores& label = scores[i];
    metrics.Add("f1/" + std::to_string(i),
                F1(label.TruePositives(), label.FalsePositives(), label.FalseNegatives()));
  }
}

// 1 − Σ squared errors / Σ squared distances from the mean, the mean over outputs. Without any
// distance it is 1 where nothing is wrong and 0 otherwise.
std::optional<double> R2(const Sums& sums, int64_t outputs) {
  double total = 0;
  for (int64_t i = 0; i < outputs; ++i) {
    const std::string suffix = "/" + std::to_string(i);
    const auto errors = sums.Find("squared_error" + suffix);
    const auto targets = sums.Find("target" + suffix);
    const auto squares = sums.Find("squared_target" + suffix);
    if (!errors || !targets || !squares) return std::nullopt;
    const double distances = *squares - *targets * *targets / sums.examples;
    // What is left of equal numbers is rounding.
    constexpr double kRounding = 1e-12;
    if (distances > kRounding * *squares) {
      total += 1 - *errors / distances;
    } else {
      total += *errors == 0 ? 1 : 0;
    }
  }
  return total / static_cast<double>(outputs);
}

void AddNumbers(const Sums& sums, int64_t outputs, Metrics& metrics) {
  const double numbers = sums.examples * static_cast<double>(outputs);
  if (const auto squared = sums.Find("squared_error")) {
    metrics.Add("mse", *squared / numbers);
    metrics.Add("rmse", std::sqrt(*squared / numbers));
  }
  if (const auto absolute = sums.Find("absolute_error")) metrics.Add("mae", *absolute / numbers);
  metrics.Add("r2", R2(sums, outputs));
}

std::vector<v1::Metric> MetricsFrom(const v1::JobSpec& spec, const Sums& sums,
                                    std::span<const int64_t> counts) {
  Metrics metrics;
  if (sums.examples == 0) return {};
  const TargetKind target = config::TargetOf(spec);
  const int64_t outputs = wire::ClassesOf(spec.model());
  if (target == TargetKind::kPair) {
    for (const auto& [name, sum] : sums.by_name) metrics.Add(name, sum / sums.examples);
    return metrics.Take();
  }
  if (target == TargetKind::kClass || target == TargetKind::kToken) {
    metrics.Add("accuracy", sums.correct / sums.examples);
  }
  if (const auto top = sums.Find("top_5"); top.has_value() && outputs > kTop) {
    metrics.Add("top_5_accuracy", *top / sums.examples);
  }
  if (target == TargetKind::kValues || target == TargetKind::kInput) {
    AddNumbers(sums, outputs, metrics);
  }
  if (target == TargetKind::kLabels) AddLabels(ScoresIn(counts, outputs), metrics);
  if (target == TargetKind::kClass && outputs == 2) {
    const auto scores =
        ScoresIn(counts.last(std::min<size_t>(counts.size(), 2 * wire::kScoreBins)), 1);
    if (!scores.empty()) metrics.Add("auc", scores[0].Auc());
  }
  const double loss = sums.loss / sums.examples;
  if (target == TargetKind::kToken) metrics.Add("perplexity", std::exp(loss));
  const bool entropy =
      target == TargetKind::kClass && spec.model().loss() == v1::LOSS_CROSS_ENTROPY;
  if (entropy) metrics.Add("log_loss", loss);
  metrics.Add("loss", loss);
  return metrics.Take();
}

}  // namespace

std::vector<v1::EvaluateTask::Counts> CountsFor(const v1::JobSpec& spec) {
  const TargetKind target = config::TargetOf(spec);
  const int64_t outputs = wire::ClassesOf(spec.model());
  if (target == TargetKind::kLabels) return {v1::EvaluateTask::COUNTS_SCORES};
  if (target != TargetKind::kClass || outputs > kMostClasses) return {};
  if (outputs == 2) return {v1::EvaluateTask::COUNTS_CONFUSION, v1::EvaluateTask::COUNTS_SCORES};
  return {v1::EvaluateTask::COUNTS_CONFUSION};
}

std::vector<v1::Metric> MetricsOf(const v1::JobSpec& spec, const reduce::Reduced& reduced) {
  return MetricsFrom(spec,
                     {static_cast<double>(reduced.examples), reduced.loss_sum,
                      static_cast<double>(reduced.correct), reduced.metric_sums},
                     reduced.counts);
}

std::vector<v1::Metric> MetricsOf(const v1::JobSpec& spec, const reduce::Score& score) {
  return MetricsFrom(spec,
                     {static_cast<double>(score.examples), score.loss_sum,
                      static_cast<double>(score.correct), score.metric_sums},
                     {});
}

std::optional<double> MainMetric(const v1::JobSpec& spec, const std::vector<v1::Metric>& metrics) {
  for (const v1::Metric& metric : metrics) {
    if (metric.name() == spec.evaluation().main_metric()) return metric.value();
  }
  return std::nullopt;
}

void SetMetrics(const v1::JobSpec& spec, const std::vector<v1::Metric>& metrics, bool central,
                v1::RoundSummary& summary) {
  auto& into =
      central ? *summary.mutable_test_metrics() : *summary.mutable_federated_test_metrics();
  into.Assign(metrics.begin(), metrics.end());
  // The central one comes last and stays.
  if (const auto main = MainMetric(spec, metrics)) summary.set_main_metric(*main);
}

std::optional<v1::ConfusionMatrix> ConfusionOf(const v1::JobSpec& spec,
                                               const std::vector<int64_t>& counts) {
  const auto asked = CountsFor(spec);
  const int64_t classes = wire::ClassesOf(spec.model());
  const auto needed = static_cast<size_t>(classes * classes);
  if (asked.empty() || asked.front() != v1::EvaluateTask::COUNTS_CONFUSION ||
      counts.size() < needed) {
    return std::nullopt;
  }
  v1::ConfusionMatrix matrix;
  const auto& names = spec.data().agreement().classes();
  for (int i = 0; i < classes; ++i) {
    matrix.add_classes(i < names.size() ? names.Get(i) : std::to_string(i));
  }
  matrix.mutable_counts()->Assign(counts.begin(), counts.begin() + static_cast<int64_t>(needed));
  return matrix;
}

}  // namespace espalier::server::methods
