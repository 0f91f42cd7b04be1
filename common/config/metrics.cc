#include "common/config/metrics.h"

#include <algorithm>
#include <array>

namespace espalier::config {

TargetKind TargetOf(const v1::JobSpec& spec) {
  if (spec.model().has_recommender()) return TargetKind::kPair;
  if (spec.model().has_transformer() || spec.data().has_text()) return TargetKind::kToken;
  switch (spec.data().target()) {
    case v1::DataSpec::TARGET_LABELS:
      return TargetKind::kLabels;
    case v1::DataSpec::TARGET_VALUES:
      return TargetKind::kValues;
    case v1::DataSpec::TARGET_INPUT:
      return TargetKind::kInput;
    default:
      return TargetKind::kClass;
  }
}

std::vector<std::string> MetricNames(TargetKind target, bool prunes) {
  switch (target) {
    case TargetKind::kClass:
      if (prunes) return {"accuracy", "loss"};
      return {"accuracy", "top_5_accuracy", "loss", "log_loss", "auc"};
    case TargetKind::kLabels:
      return {"f1_micro", "f1_macro", "average_precision", "loss"};
    case TargetKind::kValues:
    case TargetKind::kInput:
      return {"mse", "rmse", "mae", "r2", "loss"};
    case TargetKind::kToken:
      return {"perplexity", "accuracy", "loss"};
    case TargetKind::kPair:
      break;
  }
  return {};
}

bool LowerIsBetter(std::string_view metric) {
  constexpr std::array<std::string_view, 6> kErrors = {"loss", "log_loss", "mse",
                                                       "rmse", "mae",      "perplexity"};
  return std::find(kErrors.begin(), kErrors.end(), metric) != kErrors.end();
}

}  // namespace espalier::config
