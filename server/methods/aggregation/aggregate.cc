#include "server/methods/aggregation/aggregate.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "server/methods/aggregation/control_variates.h"
#include "server/methods/aggregation/server_optimizer.h"

namespace espalier::server::methods {
namespace {

// What rounds and control variates may keep of updates.
constexpr int64_t kMaxKeptBytes = int64_t{16} << 30;

reduce::Rule RuleOf(v1::Aggregation::Rule rule) {
  switch (rule) {
    case v1::Aggregation::RULE_MEDIAN:
      return reduce::Rule::kMedian;
    case v1::Aggregation::RULE_TRIMMED_MEAN:
      return reduce::Rule::kTrimmedMean;
    case v1::Aggregation::RULE_KRUM:
      return reduce::Rule::kKrum;
    case v1::Aggregation::RULE_MULTI_KRUM:
      return reduce::Rule::kMultiKrum;
    default:
      return reduce::Rule::kMean;
  }
}

int64_t TotalParticipants(const v1::JobSpec& spec) {
  const bool local = spec.data().partition().kind() == v1::Partition::KIND_LOCAL;
  return std::max<int64_t>(
      1, local ? spec.federation().min_workers() : spec.data().partition().shards());
}

void Carry(const std::shared_ptr<const tensor::ModelTopology>& before,
           const std::shared_ptr<const tensor::ModelTopology>& after, const Evolution& evolution,
           NumberSet& set) {
  if (set == nullptr) return;
  tensor::ModelState carried = tensor::Relayout({before, *set}, after);
  for (const StructureChange::Tensor& change : evolution) {
    WriteAt(after->topology(change.tensor), change.diff.grown,
            std::vector<float>(change.diff.grown.size(), 0.0F), carried.tensor(change.tensor));
  }
  set = std::make_shared<const std::vector<float>>(std::move(carried.values));
}

}  // namespace

reduce::Aggregation AggregationOf(const v1::JobSpec& spec) {
  const v1::Aggregation& aggregation = spec.aggregation();
  return {.rule = RuleOf(aggregation.rule()),
          .trim_fraction = aggregation.trim_fraction(),
          .byzantine = aggregation.byzantine(),
          .selected = aggregation.selected(),
          .clip_norm = aggregation.clip_norm(),
          .keep_updates = spec.training().control_variates()};
}

absl::Status CheckAggregationMemory(const v1::JobSpec& spec,
                                    const tensor::ModelTopology& topology) {
  const reduce::Aggregation aggregation = AggregationOf(spec);
  const int64_t all = TotalParticipants(spec);
  const int64_t cohort = spec.federation().cohort_size();
  const int64_t in_round = cohort == 0 ? all : std::min(cohort, all);
  int64_t sets = 0;
  if (aggregation.rule != reduce::Rule::kMean) sets += in_round;
  // Variates of all; corrections and updates of a round.
  if (spec.training().control_variates()) sets += all + 2 * in_round;
  const int64_t most = kMaxKeptBytes / static_cast<int64_t>(sizeof(float));
  if (sets == 0 || topology.total_stored() <= most / sets) return absl::OkStatus();
  return base::FailedPrecondition(
      "AGGREGATION_TOO_LARGE",
      fmt::format("the coordinator would keep {} times the model's {} stored weights, more than "
                  "{} GiB; use fewer shards or a smaller federation.cohort_size, a sparser model, "
                  "or aggregation.rule: mean without control variates",
                  sets, topology.total_stored(), kMaxKeptBytes >> 30));
}

absl::Status FinishAggregation(const v1::JobSpec& spec, const v1::Task& task,
                               const tensor::ModelState& model, std::vector<reduce::Update> updates,
                               std::vector<float>& values, ServerState& state) {
  if (!task.has_train()) return absl::OkStatus();
  if (task.train().training().control_variates()) {
    ESPALIER_RETURN_IF_ERROR(UpdateControls(task.train(), *model.topology, model.values, updates,
                                            TotalParticipants(spec), state));
  }
  TakeServerStep(spec.aggregation(), *model.topology, model.values, values, state);
  return absl::OkStatus();
}

void CarryOver(const std::shared_ptr<const tensor::ModelTopology>& before,
               const std::shared_ptr<const tensor::ModelTopology>& after,
               const Evolution& evolution, ServerState& state) {
  Carry(before, after, evolution, state.momentum);
  Carry(before, after, evolution, state.second_moment);
  Carry(before, after, evolution, state.control);
  Carry(before, after, evolution, state.unsent);
  for (auto& [participant, control] : state.controls) Carry(before, after, evolution, control);
}

}  // namespace espalier::server::methods
