#include "server/methods/gradient_growth.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/base/status.h"
#include "common/sparsity/grow.h"
#include "common/sparsity/schedule.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/train_additions.h"

namespace espalier::server::methods {

int64_t InactivePositions(const tensor::ModelTopology& topology, size_t tensor) {
  if (!topology.is_sparse(tensor)) return 0;
  return topology.topology(tensor).size() - topology.topology(tensor).nnz();
}

double UpdateSchedule::Fraction(int32_t round, int32_t rounds) const {
  if (round >= rounds || round % update_every != 0) return 0;
  return sparsity::CosineAdjustFraction(alpha, round, end_fraction * rounds);
}

std::vector<int64_t> ReplacedCounts(const tensor::ModelTopology& topology, double fraction) {
  std::vector<int64_t> counts(topology.num_tensors(), 0);
  if (fraction == 0) return counts;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (!topology.is_sparse(i)) continue;
    counts[i] = std::min(sparsity::FractionOf(fraction, topology.stored(i)),
                         InactivePositions(topology, i));
  }
  return counts;
}

int64_t RoundedUp(double fraction, int64_t count) {
  // Not for the last bit of the product.
  return static_cast<int64_t>(std::ceil(fraction * static_cast<double>(count) - 1e-9));
}

void AskForCandidates(const tensor::ModelTopology& topology, std::span<const int64_t> counts,
                      double slack, int64_t batches, v1::TrainTask& task) {
  if (std::ranges::all_of(counts, [](int64_t count) { return count == 0; })) return;
  v1::GrowthReport& report =
      *wire::MutableAddition(task, v1::TrainAddition::kGrowth).mutable_growth();
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto wanted = static_cast<int64_t>(std::ceil(slack * static_cast<double>(counts[i])));
    report.add_counts(std::min(wanted, InactivePositions(topology, i)));
  }
  report.set_batches(static_cast<int32_t>(batches));
}

absl::StatusOr<CoordinatorDemand> GrowthDemand(const v1::JobSpec& spec,
                                               const absl::StatusOr<std::vector<int64_t>>& stored,
                                               double fraction, double slack) {
  if (!stored.ok()) return stored.status();
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  CoordinatorDemand demand;
  for (size_t i = 0; i < layout->size(); ++i) {
    const auto weights = static_cast<double>((*stored)[i]);
    const double inactive = static_cast<double>((*layout)[i].size()) - weights;
    demand.candidates += std::min(slack * fraction * weights, inactive);
  }
  return demand;
}

absl::StatusOr<Evolution> PlanGradientGrowth(const tensor::ModelState& model,
                                             std::span<const int64_t> counts,
                                             std::span<const reduce::ScoreList> gradients,
                                             std::span<const std::vector<int32_t>> marked,
                                             std::span<const float> active_gradients) {
  Evolution evolution;
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    if (i >= gradients.size()) {
      return base::FailedPrecondition(
          "GROWTH_SCORES_MISSING",
          "expected growth candidates from the workers, found none; check that all workers run "
          "this version");
    }
    std::span<const float> values = model.tensor(i);
    std::vector<float> protecting;
    if (!marked.empty()) {
      // Nothing is smaller than what is not marked.
      protecting.assign(values.size(), std::numeric_limits<float>::infinity());
      for (const int32_t index : marked[i]) protecting[index] = values[index];
      values = protecting;
    }
    const reduce::ScoreList& list = gradients[i];
    std::span<const float> active;
    if (!active_gradients.empty()) {
      active = active_gradients.subspan(model.topology->offset(i), model.topology->stored(i));
    }
    StructureChange::Tensor change;
    change.tensor = i;
    ESPALIER_ASSIGN_OR_RETURN(
        change.diff, sparsity::RigLUpdate(model.topology->topology(i), values,
                                          {.positions = list.positions, .gradients = list.values},
                                          counts[i], active));
    if (!change.diff.dropped.empty()) evolution.push_back(std::move(change));
  }
  return evolution;
}

}  // namespace espalier::server::methods
