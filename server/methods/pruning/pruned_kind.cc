#include "server/methods/pruning/pruned_kind.h"

#include "common/sparsity/pruning/activation_statistics.h"

namespace espalier::server::methods {

const PrunedKind& PrunedKindOf(const v1::ModelSpec& model) {
  return FamilyOf(model).form() == wire::ModelForm::kInParts ? PrunedLanguageModel()
                                                             : PrunedNetwork();
}

double StatisticsBytes(int64_t columns) {
  constexpr double kCopies = 4;
  constexpr double kMatrices = 3;
  const auto inputs = static_cast<double>(columns);
  return kCopies * static_cast<double>(
                       sparsity::ActivationStatistics::EncodedBytes(columns, /*with_gram=*/true)) +
         kMatrices * sizeof(double) * inputs * inputs;
}

}  // namespace espalier::server::methods
