#include "common/config/validate_target.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "common/config/metrics.h"
#include "common/config/text.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/transformer.h"

namespace espalier::config {
namespace {

constexpr int kMostTargetColumns = 1000;
constexpr int kMostLabels = 256;
constexpr int kMostClassWeights = 1'000'000;

bool IsNumber(TargetKind target) {
  return target == TargetKind::kValues || target == TargetKind::kInput;
}

v1::Loss DefaultLoss(TargetKind target) {
  if (target == TargetKind::kLabels) return v1::LOSS_BINARY_CROSS_ENTROPY;
  return IsNumber(target) ? v1::LOSS_MEAN_SQUARED_ERROR : v1::LOSS_CROSS_ENTROPY;
}

v1::Loss LossOf(const v1::JobSpec& spec, TargetKind target) {
  return spec.model().loss() == v1::LOSS_UNSPECIFIED ? DefaultLoss(target) : spec.model().loss();
}

void CheckColumns(const v1::JobSpec& spec, TargetKind target, const Checker& at) {
  const auto& columns = spec.data().target_columns();
  const bool has = target == TargetKind::kLabels || target == TargetKind::kValues;
  if (!columns.empty() && !has) {
    return at.Fail(
        "target_columns",
        "are of target labels or values; set data.target to one of them, or use label_column");
  }
  at.Check(
      columns.size() <= kMostTargetColumns, "target_columns",
      fmt::format("expected at most {} columns, found {}", kMostTargetColumns, columns.size()));
  const std::set<std::string> different(columns.begin(), columns.end());
  at.Check(static_cast<int>(different.size()) == columns.size(), "target_columns",
           "expected each column once, found one twice");
  constexpr size_t kMostBytes = 1024;
  for (const std::string& column : columns) {
    at.Check(!column.empty() && column.size() <= kMostBytes, "target_columns",
             fmt::format("expected names or places of 1 to {} bytes", kMostBytes));
  }
}

void CheckLoss(const v1::JobSpec& spec, TargetKind target, const Checker& at) {
  const v1::Loss loss = LossOf(spec, target);
  const bool numbers = loss == v1::LOSS_MEAN_SQUARED_ERROR ||
                       loss == v1::LOSS_MEAN_ABSOLUTE_ERROR || loss == v1::LOSS_HUBER;
  if (target == TargetKind::kLabels) {
    at.Check(loss == v1::LOSS_BINARY_CROSS_ENTROPY, "loss",
             "of labels is binary_cross_entropy; leave it out");
  } else if (IsNumber(target)) {
    at.Check(numbers, "loss",
             "of numbers is mean_squared_error, mean_absolute_error or huber; entropies are of "
             "classes and labels");
  }
  at.Number("huber_delta", spec.model().huber_delta(), spec.model().huber_delta() >= 0, "> 0");
  at.Check(spec.model().huber_delta() == 0 || loss == v1::LOSS_HUBER, "huber_delta",
           "goes with loss: huber only; remove it");
}

// What the last layer has to be; shapes are known to be right.
void CheckOutputs(const v1::JobSpec& spec, TargetKind target, const Checker& at) {
  const int64_t outputs = wire::ClassesOf(spec.model());
  const int64_t columns = spec.data().target_columns_size();
  const bool given = target == TargetKind::kLabels || target == TargetKind::kValues;
  if (given && columns > 0 && outputs > 1) {
    at.Check(outputs == columns, "layers",
             fmt::format("expected a last layer of {} units, as many as data.target_columns, found "
                         "{}",
                         columns, outputs));
  }
  at.Check(target != TargetKind::kLabels || outputs <= kMostLabels, "layers",
           fmt::format("expected at most {} labels, found {}", kMostLabels, outputs));
  if (target != TargetKind::kInput || outputs <= 1) return;
  const int64_t inputs = wire::InputShape(spec.model()).features();
  at.Check(outputs == inputs, "layers",
           fmt::format("expected a last layer of {} units, as many as inputs, since the input is "
                       "learned; found {}",
                       inputs, outputs));
}

void CheckClassOptions(const v1::JobSpec& spec, TargetKind target, const Checker& at) {
  const v1::Training& training = spec.training();
  const bool entropy =
      target == TargetKind::kClass && LossOf(spec, target) == v1::LOSS_CROSS_ENTROPY;
  at.Check(entropy || training.class_weights().empty(), "class_weights",
           "go with cross-entropy of classes only; remove them");
  at.Check(entropy || training.label_smoothing() == 0, "label_smoothing",
           "goes with cross-entropy of classes only; remove it");
  at.Probability("label_smoothing", training.label_smoothing());
  at.Check(training.class_weights_size() <= kMostClassWeights, "class_weights",
           fmt::format("expected at most {}, found {}", kMostClassWeights,
                       training.class_weights_size()));
  for (const double weight : training.class_weights()) {
    if (weight > 0 && weight <= 1e6) continue;
    at.Fail("class_weights", fmt::format("expected weights of 0 < x ≤ 1e6, found {}", weight));
    break;
  }
  const int64_t classes = wire::ClassesOf(spec.model());
  at.Check(
      training.class_weights().empty() || classes <= 1 || training.class_weights_size() == classes,
      "class_weights",
      fmt::format("expected one for each of {} classes, found {}", classes,
                  training.class_weights_size()));
}

void CheckMetric(const v1::JobSpec& spec, TargetKind target, bool prunes, const Checker& at) {
  const std::string& metric = spec.evaluation().main_metric();
  const std::vector<std::string> names = MetricNames(target, prunes);
  if (metric.empty() || names.empty()) return;
  const bool known = std::find(names.begin(), names.end(), metric) != names.end();
  at.Check(known, "main_metric",
           fmt::format("expected {}, found {}", fmt::join(names, ", "), Quoted(metric)));
  const int64_t outputs = wire::ClassesOf(spec.model());
  at.Check(metric != "auc" || outputs <= 2, "main_metric",
           fmt::format("auc is of two classes, found {}; use accuracy or log_loss", outputs));
  constexpr int64_t kTop = 5;
  at.Check(metric != "top_5_accuracy" || outputs == 0 || outputs > kTop, "main_metric",
           fmt::format("top_5_accuracy is of more than {} classes, found {}; use accuracy", kTop,
                       outputs));
  at.Check(metric != "log_loss" || LossOf(spec, target) == v1::LOSS_CROSS_ENTROPY, "main_metric",
           "log_loss is the cross-entropy, which is not this model's loss; use loss");
  constexpr int64_t kMostOutputsOfR2 = 20;
  at.Check(
      metric != "r2" || outputs <= kMostOutputsOfR2, "main_metric",
      fmt::format("r2 is of at most {} numbers, found {}; use mse", kMostOutputsOfR2, outputs));
}

}  // namespace

void ValidateTarget(const v1::JobSpec& spec, bool prunes, const Checker& at) {
  const Checker data = at.In("data");
  if (!data.Enum("target", v1::DataSpec::Target_IsValid(spec.data().target()),
                 spec.data().target())) {
    return;
  }
  const TargetKind target = TargetOf(spec);
  const bool asked = spec.data().target() != v1::DataSpec::TARGET_UNSPECIFIED;
  const bool own = target == TargetKind::kToken || target == TargetKind::kPair;
  data.Check(!asked || !own, "target",
             "is of tables, arrays and images; text and interactions say themselves what is "
             "learned; remove it");
  data.Check(target == TargetKind::kClass || own || !prunes, "target",
             "of methods that prune is class; remove it");
  using P = v1::Partition;
  const P::Kind kind = spec.data().partition().kind();
  data.In("partition")
      .Check(target == TargetKind::kClass || own ||
                 (kind != P::KIND_DIRICHLET && kind != P::KIND_CLASSES),
             "kind", "divides examples by their class, and these have none; use iid or groups");
  CheckColumns(spec, target, data);
  CheckMetric(spec, target, prunes, at.In("evaluation"));
  CheckClassOptions(spec, target, at.In("training"));
  if (own) return;
  CheckLoss(spec, target, at.In("model"));
  if (spec.model().layers().empty() && spec.model().name().empty()) return;
  CheckOutputs(spec, target, at.In("model"));
}

void ApplyTargetDefaults(v1::JobSpec& spec, bool prunes) {
  const TargetKind target = TargetOf(spec);
  v1::ModelSpec& model = *spec.mutable_model();
  const bool layers = !model.layers().empty() || !model.name().empty();
  if (layers && model.loss() == v1::LOSS_UNSPECIFIED) model.set_loss(DefaultLoss(target));
  if (target == TargetKind::kLabels && !model.layers().empty()) {
    v1::Layer& last = *model.mutable_layers(model.layers_size() - 1);
    // The probability of each label.
    if (last.has_linear() && last.linear().activation() == v1::ACTIVATION_UNSPECIFIED) {
      last.mutable_linear()->set_activation(v1::ACTIVATION_SIGMOID);
    }
  }
  const std::vector<std::string> names = MetricNames(target, prunes);
  v1::Evaluation& evaluation = *spec.mutable_evaluation();
  if (evaluation.main_metric().empty() && !names.empty()) {
    evaluation.set_main_metric(names.front());
  }
}

}  // namespace espalier::config
