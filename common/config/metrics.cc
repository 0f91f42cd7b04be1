#include "common/config/metrics.h"

#include <algorithm>
#include <array>

#include "common/config/families/family_rules.h"

namespace espalier::config {

TargetKind TargetOf(const v1::JobSpec& spec) { return RulesOf(spec.model()).TargetOf(spec.data()); }

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

bool IsBetter(std::string_view metric, double value, double other) {
  return LowerIsBetter(metric) ? value < other : value > other;
}

}  // namespace espalier::config
