#include "server/datasets/kinds/data_kind.h"

#include "common/config/metrics.h"
#include "server/datasets/kinds/kinds.h"

namespace espalier::server::datasets {

std::optional<config::Violation> OnlyInteractions(const v1::DatasetInfo& info) {
  if (info.interactions() == 0 || info.features() > 0) return std::nullopt;
  return config::Violation{
      "data.dataset", "expected labelled examples for a model of layers, found '" + info.name() +
                          "', interactions of users with items; use model.recommender"};
}

const DataKind& DataKindOf(const v1::JobSpec& spec) {
  switch (config::TargetOf(spec)) {
    case config::TargetKind::kPair:
      return InteractionData();
    case config::TargetKind::kToken:
      return TextData();
    default:
      return FeatureData();
  }
}

}  // namespace espalier::server::datasets
