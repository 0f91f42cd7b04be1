#include "server/methods/saliency/pruned_at_start.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/top_k.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/initial_values.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"

namespace espalier::server::methods {
namespace {

constexpr char kScore[] = "select_score";

int64_t SparsifiableSize(const tensor::ModelLayout& layout) {
  int64_t size = 0;
  for (const tensor::TensorSpec& tensor : layout) size += tensor.sparsifiable ? tensor.size() : 0;
  return size;
}

absl::StatusOr<tensor::ModelState> DenseModel(const v1::ModelSpec& spec, uint64_t seed) {
  ESPALIER_ASSIGN_OR_RETURN(auto layout, wire::LayoutOf(spec));
  const size_t tensors = layout->size();
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology topology,
      tensor::ModelTopology::Create(std::move(layout),
                                    std::vector<std::shared_ptr<const tensor::Topology>>(tensors)));
  auto shared = std::make_shared<const tensor::ModelTopology>(std::move(topology));
  std::vector<float> values = InitialValues(spec, *shared, seed);
  return tensor::ModelState{std::move(shared), std::move(values)};
}

}  // namespace

int64_t KeptCount(const tensor::ModelLayout& layout, double density) {
  return std::llround(density * static_cast<double>(SparsifiableSize(layout)));
}

absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> KeepLargest(
    const tensor::ModelLayout& layout, std::span<const float> scores, int64_t count) {
  sparsity::TopK best(count);
  for (size_t i = 0; i < scores.size(); ++i) best.Offer(static_cast<int64_t>(i), scores[i]);
  const std::vector<int64_t> kept = best.TakeSorted().positions;
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout.size());
  auto next = kept.begin();
  int64_t first = 0;  // of the tensor among all positions
  for (size_t i = 0; i < layout.size(); ++i) {
    if (!layout[i].sparsifiable) continue;
    const auto end = std::lower_bound(next, kept.end(), first + layout[i].size());
    std::vector<int64_t> positions(next, end);
    for (int64_t& position : positions) position -= first;
    first += layout[i].size();
    next = end;
    if (static_cast<int64_t>(positions.size()) == layout[i].size()) continue;
    ESPALIER_ASSIGN_OR_RETURN(
        tensor::Topology topology,
        tensor::Topology::FromPositions(layout[i].rows, layout[i].cols, positions));
    topologies[i] = std::make_shared<const tensor::Topology>(std::move(topology));
  }
  return topologies;
}

absl::StatusOr<std::optional<Transition>> PrunedAtStart::StartPrelude() const {
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec().model()));
  const bool keeps_all = KeptCount(*layout, options_.density) == SparsifiableSize(*layout);
  const bool own_values = keeps_all && options_.fresh_values;
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState model,
                            DenseModel(own_values ? spec().model() : DenseSpec(), seed()));
  if (keeps_all) {
    ESPALIER_ASSIGN_OR_RETURN(Transition all, BeginTraining({}, std::move(model)));
    return std::optional(std::move(all));
  }
  Transition transition;
  transition.state.model = std::move(model);
  transition.state.topology_version = 1;
  transition.state.phase = kScore;
  transition.state.step = ScoreStep();
  return std::optional(std::move(transition));
}

absl::StatusOr<Transition> PrunedAtStart::NextInPrelude(ProgramState state,
                                                        const reduce::Reduced& reduced) const {
  if (state.phase != kScore) return Done(state);
  const tensor::ModelTopology& dense = *state.model.topology;
  const std::span<const float> saliencies = reduced.Section(v1::SECTION_KIND_SALIENCIES);
  if (static_cast<int64_t>(saliencies.size()) != dense.sparsifiable_size()) {
    return base::FailedPrecondition(
        "SHAPE_MISMATCH",
        fmt::format("expected {} scores, found {}", dense.sparsifiable_size(), saliencies.size()));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      auto topologies,
      KeepLargest(dense.layout(), saliencies, KeptCount(dense.layout(), options_.density)));
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology created,
      tensor::ModelTopology::Create(dense.shared_layout(), std::move(topologies)));
  const auto topology = std::make_shared<const tensor::ModelTopology>(std::move(created));
  tensor::ModelState model =
      options_.fresh_values
          ? tensor::ModelState{topology, InitialValues(spec().model(), *topology, seed())}
          : tensor::Relayout(state.model, topology);
  ESPALIER_ASSIGN_OR_RETURN(Transition transition,
                            BeginTraining(std::move(state), std::move(model)));
  transition.prelude_step.emplace();
  transition.prelude_step->set_phase(kScore);
  return transition;
}

config::ParameterSchema PrunedAtStartParameters() {
  return {params::Density(0.1, "over all sparsifiable layers together."),
          params::Word("initial_weights", "scored", {"scored", "fresh"},
                       "What training starts from: the values that were scored, or fresh ones that "
                       "are drawn for the sparse structure.")};
}

PrunedAtStartOptions PrunedAtStartOptionsOf(const config::Parameters& parameters) {
  return {.density = parameters.Double("density"),
          .fresh_values = parameters.Choice("initial_weights") == "fresh"};
}

absl::StatusOr<CoordinatorDemand> PrunedAtStartDemand(const v1::JobSpec& spec,
                                                      const config::Parameters& parameters) {
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  CoordinatorDemand demand;
  demand.selected = static_cast<double>(KeptCount(*layout, parameters.Double("density")));
  return demand;
}

void ValidatePrunedAtStart(const v1::JobSpec& spec, const config::Parameters& parameters,
                           std::vector<config::Violation>& violations) {
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  const size_t before = violations.size();
  ValidateDenseStart(spec, **layout, 0, violations);
  if (violations.size() > before) return;
  const int64_t weights = SparsifiableSize(**layout);
  if (weights == 0) {
    violations.push_back({"method.name",
                          "every layer of the model is marked dense, so there is nothing to prune; "
                          "use method dense, or unmark a layer"});
    return;
  }
  if (KeptCount(**layout, parameters.Double("density")) == 0) {
    violations.push_back(
        {"method.parameters.density",
         fmt::format("expected at least half a weight of {} that are not marked "
                     "dense, found {}; raise it to {:.2g} or more",
                     weights, parameters.Double("density"), 1 / static_cast<double>(weights))});
  }
  ValidateUpdateSize("scores", weights, violations);
}

}  // namespace espalier::server::methods
