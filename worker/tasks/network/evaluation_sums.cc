#include "worker/tasks/network/evaluation_sums.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "common/wire/model_spec/evaluation_counts.h"

namespace espalier::worker::tasks {
namespace {

constexpr int kTop = 5;
// Outputs that have sums of their own.
constexpr int64_t kMostOutputs = 20;

void AddSum(const std::string& name, double sum, v1::PartialHeader& header) {
  v1::Metric& metric = *header.add_metric_sums();
  metric.set_name(name);
  metric.set_value(sum);
}

}  // namespace

EvaluationSums::EvaluationSums(const v1::Task& task, int64_t outputs)
    : task_(task), outputs_(outputs), classes_(wire::LearnsClass(task.data())) {
  for (const int counts : task.evaluate().counts()) {
    has_confusion_ = has_confusion_ || counts == v1::EvaluateTask::COUNTS_CONFUSION;
    has_scores_ = has_scores_ || counts == v1::EvaluateTask::COUNTS_SCORES;
  }
  if (has_confusion_) confusion_.resize(static_cast<size_t>(outputs * outputs));
  if (has_scores_) {
    scores_.resize(
        static_cast<size_t>(wire::ScoredLabels(classes_, outputs) * 2 * wire::kScoreBins));
  }
  if (!classes_ && outputs <= kMostOutputs) by_output_.resize(static_cast<size_t>(outputs));
}

double EvaluationSums::LogOdds(float output) const {
  return std::log(static_cast<double>(output)) - std::log1p(-static_cast<double>(output));
}

void EvaluationSums::AddScore(int64_t label, bool has, double log_odds) {
  const int64_t bins = (label * 2 + (has ? 1 : 0)) * wire::kScoreBins;
  ++scores_[static_cast<size_t>(bins + wire::ScoreBin(log_odds))];
}

void EvaluationSums::AddClass(const float* outputs, int64_t stride, int32_t label) {
  const float own = outputs[label * stride];
  int64_t best = 0;
  int larger = 0;  // that come before the label's
  for (int64_t row = 0; row < outputs_; ++row) {
    const float output = outputs[row * stride];
    if (output > outputs[best * stride]) best = row;
    larger += output > own || (output == own && row < label) ? 1 : 0;
  }
  top_5_ += larger < kTop ? 1 : 0;
  if (has_confusion_) ++confusion_[static_cast<size_t>(label * outputs_ + best)];
  if (!has_scores_) return;
  // Of two classes: how much more the second one is than the first.
  const v1::ModelSpec& model = task_.model().spec();
  const auto activation = model.layers(model.layers_size() - 1).linear().activation();
  const bool probabilities =
      activation == v1::ACTIVATION_SOFTMAX || activation == v1::ACTIVATION_SIGMOID;
  const double first = outputs[0];
  const double second = outputs[stride];
  AddScore(0, label == 1, probabilities ? std::log(second) - std::log(first) : second - first);
}

void EvaluationSums::AddTargets(const float* outputs, const float* targets, int64_t stride) {
  for (int64_t row = 0; row < outputs_; ++row) {
    const double target = targets[row * stride];
    const double error = outputs[row * stride] - target;
    squared_error_ += error * error;
    absolute_error_ += std::abs(error);
    if (!by_output_.empty()) {
      OutputSums& sums = by_output_[static_cast<size_t>(row)];
      sums.squared_error += error * error;
      sums.target += target;
      sums.squared_target += target * target;
    }
    if (has_scores_) AddScore(row, target == 1, LogOdds(outputs[row * stride]));
  }
}

void EvaluationSums::Add(const engine::Batch& batch, const float* outputs) {
  for (int64_t column = 0; column < batch.size; ++column) {
    if (classes_) {
      AddClass(outputs + column, batch.stride, batch.labels[column]);
    } else {
      AddTargets(outputs + column, batch.targets + column, batch.stride);
    }
  }
}

void EvaluationSums::Write(Partial& partial) const {
  v1::PartialHeader& header = partial.header;
  if (classes_) {
    AddSum("top_5", top_5_, header);
  } else {
    AddSum("squared_error", squared_error_, header);
    AddSum("absolute_error", absolute_error_, header);
  }
  for (size_t i = 0; i < by_output_.size(); ++i) {
    const std::string suffix = "/" + std::to_string(i);
    AddSum("squared_error" + suffix, by_output_[i].squared_error, header);
    AddSum("target" + suffix, by_output_[i].target, header);
    AddSum("squared_target" + suffix, by_output_[i].squared_target, header);
  }
  if (task_.evaluate().counts().empty()) return;
  std::vector<int64_t> counts;
  for (const int kind : task_.evaluate().counts()) {
    const auto& of = kind == v1::EvaluateTask::COUNTS_CONFUSION ? confusion_ : scores_;
    counts.insert(counts.end(), of.begin(), of.end());
  }
  AddSection(v1::SECTION_KIND_COUNTS, v1::SECTION_TYPE_I64, counts.size(),
             {reinterpret_cast<const char*>(counts.data()), counts.size() * sizeof(int64_t)},
             partial);
}

}  // namespace espalier::worker::tasks
