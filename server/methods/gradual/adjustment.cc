#include "server/methods/gradual/adjustment.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <functional>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/schedule.h"
#include "common/sparsity/selection.h"

namespace espalier::server::methods {
namespace {

double ImportanceOf(uint64_t key) {
  return std::bit_cast<float>(~static_cast<uint32_t>(key >> 32) & 0x7FFFFFFFu);
}

int64_t PositionOf(uint64_t key) { return static_cast<int64_t>(key & 0xFFFFFFFFu); }

// One tensor that may change: what it surely keeps, and its candidates.
struct TensorCandidates {
  size_t tensor = 0;
  std::vector<int32_t> dropped;            // indices in topology order
  std::vector<int64_t> dropped_positions;  // the same weights
  int64_t kept = 0;
  double kept_gain = 0;
};

TensorCandidates Inspect(size_t tensor, const tensor::Topology& structure,
                         std::span<const float> values, std::span<const float> importance,
                         double drop_fraction, CandidateLayer& candidates) {
  TensorCandidates result;
  result.tensor = tensor;
  const std::vector<int64_t> active = structure.Positions();
  const auto stored = static_cast<int64_t>(active.size());
  result.dropped =
      sparsity::DropSmallestMagnitude(values, sparsity::FractionOf(drop_fraction, stored));
  result.kept = stored - static_cast<int64_t>(result.dropped.size());
  candidates.keys.reserve(static_cast<size_t>(structure.size() - result.kept));
  size_t next_active = 0;
  size_t next_dropped = 0;
  for (int64_t position = 0; position < structure.size(); ++position) {
    const bool is_active = next_active < active.size() && active[next_active] == position;
    const bool is_dropped = is_active && next_dropped < result.dropped.size() &&
                            static_cast<size_t>(result.dropped[next_dropped]) == next_active;
    if (is_active) ++next_active;
    if (is_active && !is_dropped) {
      result.kept_gain += importance[position];
      continue;
    }
    if (is_dropped) {
      ++next_dropped;
      result.dropped_positions.push_back(position);
    }
    candidates.keys.push_back(
        sparsity::LargestFirst(importance[position], static_cast<uint32_t>(position)));
  }
  return result;
}

// What changes when the `chosen` candidates are active and the others are not.
StructureChange::Tensor ChangeOf(const TensorCandidates& candidates,
                                 std::span<const int64_t> chosen) {
  StructureChange::Tensor change;
  change.tensor = candidates.tensor;
  size_t next = 0;
  for (size_t i = 0; i < candidates.dropped.size(); ++i) {
    const int64_t position = candidates.dropped_positions[i];
    for (; next < chosen.size() && chosen[next] < position; ++next) {
      change.diff.grown.push_back(chosen[next]);
    }
    const bool stays = next < chosen.size() && chosen[next] == position;
    if (stays) ++next;
    if (!stays) change.diff.dropped.push_back(candidates.dropped[i]);
  }
  change.diff.grown.insert(change.diff.grown.end(), chosen.begin() + static_cast<int64_t>(next),
                           chosen.end());
  return change;
}

}  // namespace

GreedyChoice ChooseGreedily(std::vector<CandidateLayer> layers, double kept_gain, double kept_cost,
                            int64_t room) {
  GreedyChoice choice{std::vector<std::vector<int64_t>>(layers.size()), kept_gain, kept_cost};
  for (CandidateLayer& layer : layers) std::ranges::make_heap(layer.keys, std::greater{});
  for (; room > 0; --room) {
    size_t best = layers.size();
    double best_ratio = choice.cost > 0 ? choice.gain / choice.cost : 0;
    for (size_t i = 0; i < layers.size(); ++i) {
      if (layers[i].keys.empty()) continue;
      const double ratio = ImportanceOf(layers[i].keys.front()) / layers[i].cost;
      if (!(ratio > best_ratio)) continue;
      best = i;
      best_ratio = ratio;
    }
    if (best == layers.size()) break;
    std::vector<uint64_t>& keys = layers[best].keys;
    choice.gain += ImportanceOf(keys.front());
    choice.cost += layers[best].cost;
    choice.positions[best].push_back(PositionOf(keys.front()));
    std::ranges::pop_heap(keys, std::greater{});
    keys.pop_back();
  }
  for (std::vector<int64_t>& positions : choice.positions) std::ranges::sort(positions);
  return choice;
}

absl::StatusOr<Evolution> PlanAdjustment(const tensor::ModelState& model,
                                         std::span<const float> importance,
                                         const AdjustmentOptions& options) {
  const tensor::ModelTopology& topology = *model.topology;
  if (static_cast<int64_t>(importance.size()) != topology.total_size() ||
      options.weight_costs.size() != topology.num_tensors()) {
    return base::InvalidArgument("SHAPE_MISMATCH",
                                 fmt::format("expected importance of {} positions and costs of {} "
                                             "tensors, found {} and {}",
                                             topology.total_size(), topology.num_tensors(),
                                             importance.size(), options.weight_costs.size()));
  }
  std::vector<TensorCandidates> tensors;
  std::vector<CandidateLayer> layers;
  double gain = 0;
  double cost = options.base_cost;
  int64_t kept = 0;
  int64_t first = 0;  // of the tensor among all positions
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const tensor::TensorSpec& spec = topology.layout()[i];
    const auto own = importance.subspan(first, spec.size());
    first += spec.size();
    if (!spec.sparsifiable) {
      for (const float value : own) gain += value;
      continue;
    }
    ESPALIER_ASSIGN_OR_RETURN(const auto structure, topology.Structure(i));
    layers.push_back({.cost = options.weight_costs[i], .keys = {}});
    tensors.push_back(
        Inspect(i, *structure, model.tensor(i), own, options.drop_fraction, layers.back()));
    gain += tensors.back().kept_gain;
    cost += static_cast<double>(tensors.back().kept) * options.weight_costs[i];
    kept += tensors.back().kept;
  }
  const GreedyChoice choice =
      ChooseGreedily(std::move(layers), gain, cost, options.max_active - kept);
  Evolution evolution;
  for (size_t i = 0; i < tensors.size(); ++i) {
    StructureChange::Tensor change = ChangeOf(tensors[i], choice.positions[i]);
    if (change.diff.dropped.empty() && change.diff.grown.empty()) continue;
    evolution.push_back(std::move(change));
  }
  return evolution;
}

}  // namespace espalier::server::methods
