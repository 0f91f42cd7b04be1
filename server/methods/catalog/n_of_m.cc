// n-of-m: N of every M weights along the inputs, by straight-through gradients on dense weights
// (STE, SR-STE), or by pruning and growing within the groups of a sparse model.
#include "common/sparsity/n_of_m.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/evolution.h"
#include "server/methods/gradient_growth.h"
#include "server/methods/growth/growing_program.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"

namespace espalier::server::methods {
namespace {

constexpr char kEvolve[] = "evolve";
constexpr char kSrSte[] = "sr-ste";
constexpr int64_t kMaxGroup = 64;

struct NOfMOptions {
  int64_t n;
  int64_t m;
  double decay;  // of SR-STE; 0 with STE
  UpdateSchedule updates;
  GrowthOptions growth;
};

NOfMOptions OptionsOf(const config::Parameters& parameters) {
  const bool refined = parameters.Choice("mode") == kSrSte;
  return {.n = parameters.Int("n"),
          .m = parameters.Int("m"),
          .decay = refined ? parameters.Double("decay") : 0,
          .updates = {.alpha = parameters.Double("alpha"),
                      .update_every = parameters.Int("update_every"),
                      .end_fraction = parameters.Double("end_fraction")},
          .growth = {.slack = parameters.Double("candidate_slack"),
                     .batches = parameters.Int("growth_batches")}};
}

bool Evolves(const config::Parameters& parameters) { return parameters.Choice("mode") == kEvolve; }

// Groups of a tensor's rows: of a convolution the inputs of one kernel position.
sparsity::NOfM PatternOf(const tensor::TensorSpec& tensor, const NOfMOptions& options) {
  sparsity::NOfM pattern{.kept = options.n, .group = options.m, .step = 1, .cols = tensor.cols};
  for (size_t i = 2; i < tensor.shape.size(); ++i) pattern.step *= tensor.shape[i];
  return pattern;
}

// Weights that a tensor keeps.
int64_t Kept(const tensor::TensorSpec& tensor, const NOfMOptions& options) {
  return tensor.sparsifiable ? tensor.rows * PatternOf(tensor, options).KeptInRow() : tensor.size();
}

// In each group as many places as are kept, drawn one after the other.
absl::StatusOr<std::shared_ptr<const tensor::Topology>> RandomGroups(
    const tensor::TensorSpec& tensor, const sparsity::NOfM& pattern, uint64_t key) {
  base::Rng rng(key);
  std::vector<int64_t> positions;
  positions.reserve(static_cast<size_t>(tensor.rows * pattern.KeptInRow()));
  std::vector<int64_t> members;
  for (int64_t row = 0; row < tensor.rows; ++row) {
    for (int64_t g = 0; g < pattern.groups(); ++g) {
      members.resize(static_cast<size_t>(pattern.SizeOf(g)));
      std::iota(members.begin(), members.end(), 0);
      base::Shuffle(std::span(members), rng);
      for (int64_t k = 0; k < pattern.KeptOf(g); ++k) {
        positions.push_back(row * tensor.cols + pattern.FirstOf(g) + members[k] * pattern.step);
      }
    }
  }
  std::ranges::sort(positions);
  ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                            tensor::Topology::FromPositions(tensor.rows, tensor.cols, positions));
  return std::make_shared<const tensor::Topology>(std::move(topology));
}

// The weights of one tensor by group: which of them may go, and which an exchange took.
class Groups {
 public:
  // `weak`: ascending indices of the weights that may go.
  Groups(const tensor::Topology& topology, std::span<const float> values,
         std::span<const int32_t> weak, const sparsity::NOfM& pattern)
      : topology_(topology), values_(values), pattern_(pattern), may_go_(values.size(), false) {
    for (const int32_t index : weak) may_go_[index] = true;
  }

  // Takes the smallest weight of the position's group that may still go and returns its index; −1
  // when there is none. Of equal ones the first goes.
  int32_t TakeSmallest(int64_t position) {
    const int64_t row = position / topology_.cols();
    const int64_t group = pattern_.GroupOf(position % topology_.cols());
    const int64_t first = pattern_.FirstOf(group);
    const int64_t behind = first + pattern_.SizeOf(group) * pattern_.step;
    const auto columns = topology_.columns();
    const auto offsets = topology_.row_offsets();
    const auto of_row = columns.subspan(offsets[row], offsets[row + 1] - offsets[row]);
    int32_t smallest = -1;
    for (auto at = std::ranges::lower_bound(of_row, first); at != of_row.end() && *at < behind;
         ++at) {
      const auto i = static_cast<int32_t>(offsets[row] + (at - of_row.begin()));
      if (!may_go_[i] || pattern_.GroupOf(*at) != group) continue;
      if (smallest < 0 || std::abs(values_[i]) < std::abs(values_[smallest])) smallest = i;
    }
    if (smallest >= 0) may_go_[smallest] = false;
    return smallest;
  }

 private:
  const tensor::Topology& topology_;
  std::span<const float> values_;
  const sparsity::NOfM& pattern_;
  std::vector<bool> may_go_;
};

// Exchanges at most `count` weights of one tensor. As in RigL the `count` smallest ones may go; a
// reported position takes the place of the smallest of them in its own group, those of largest
// |gradient| first. Where a group has no weak weight or no reported position, nothing happens.
StructureChange::Tensor Exchange(size_t index, const tensor::ModelState& model,
                                 const reduce::ScoreList& gradients, int64_t count,
                                 const sparsity::NOfM& pattern) {
  StructureChange::Tensor change;
  change.tensor = index;
  std::vector<size_t> order(gradients.positions.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](size_t a, size_t b) {
    const float first = std::abs(gradients.values[a]);
    const float second = std::abs(gradients.values[b]);
    return first != second ? first > second : gradients.positions[a] < gradients.positions[b];
  });
  const std::span<const float> values = model.tensor(index);
  Groups groups(model.topology->topology(index), values,
                sparsity::DropSmallestMagnitude(values, count), pattern);
  for (const size_t k : order) {
    const int32_t dropped = groups.TakeSmallest(gradients.positions[k]);
    if (dropped < 0) continue;
    change.diff.dropped.push_back(dropped);
    change.diff.grown.push_back(gradients.positions[k]);
  }
  std::ranges::sort(change.diff.dropped);
  std::ranges::sort(change.diff.grown);
  return change;
}

class EvolvingProgram : public GrowingProgram {
 public:
  EvolvingProgram(const v1::JobSpec& spec, const NOfMOptions& options)
      : GrowingProgram(spec, options.growth), options_(options) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout.size());
    for (size_t i = 0; i < layout.size(); ++i) {
      if (Kept(layout[i], options_) == layout[i].size()) continue;
      ESPALIER_ASSIGN_OR_RETURN(topologies[i],
                                RandomGroups(layout[i], PatternOf(layout[i], options_),
                                             base::StreamKey(seed(), "topology", {i})));
    }
    return topologies;
  }

  std::vector<int64_t> UpdateCounts(const ProgramState& state) const override {
    return ReplacedCounts(*state.model.topology,
                          options_.updates.Fraction(RoundInWork(state), rounds()));
  }

  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced& trained) const override {
    const std::vector<int64_t> counts = UpdateCounts(state);
    const tensor::ModelTopology& topology = *state.model.topology;
    Evolution evolution;
    for (size_t i = 0; i < counts.size(); ++i) {
      if (counts[i] == 0) continue;
      if (i >= trained.scores.size()) {
        return base::FailedPrecondition(
            "GROWTH_SCORES_MISSING",
            fmt::format("expected gradients of inactive positions for {} tensors, found {}; check "
                        "that all workers have this version",
                        counts.size(), trained.scores.size()));
      }
      StructureChange::Tensor change = Exchange(i, state.model, trained.scores[i], counts[i],
                                                PatternOf(topology.layout()[i], options_));
      if (!change.diff.grown.empty()) evolution.push_back(std::move(change));
    }
    return evolution;
  }

 private:
  NOfMOptions options_;
};

// Sets the pattern of every layer that may be sparse.
void SetPattern(const NOfMOptions& options, v1::ModelSpec& model) {
  const auto set = [&](v1::NOfM& pattern) {
    pattern.set_n(static_cast<int32_t>(options.n));
    pattern.set_m(static_cast<int32_t>(options.m));
    pattern.set_decay(options.decay);
  };
  wire::ForEachLayer(*model.mutable_layers(), [&](v1::Layer& layer) {
    if (layer.has_linear() && !layer.linear().dense()) {
      set(*layer.mutable_linear()->mutable_n_of_m());
    } else if (layer.has_conv2d() && !layer.conv2d().dense()) {
      set(*layer.mutable_conv2d()->mutable_n_of_m());
    }
  });
}

// Dense weights, of which participants multiply by those that the pattern keeps at the time.
class StraightThroughProgram : public TrainingProgram {
 public:
  StraightThroughProgram(const v1::JobSpec& spec, const NOfMOptions& options)
      : TrainingProgram(spec), options_(options) {
    masked_ = std::make_shared<v1::ModelSpec>(this->spec().model());
    SetPattern(options_, *masked_);
  }

 protected:
  std::shared_ptr<const v1::ModelSpec> TrainedSpec() const override { return masked_; }

  // What the pattern does not keep at the end, it never needs again.
  absl::StatusOr<Evolution> FinalRemoval(const ProgramState& state) const override {
    Evolution evolution;
    const tensor::ModelTopology& topology = *state.model.topology;
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      const tensor::TensorSpec& tensor = topology.layout()[i];
      if (!tensor.sparsifiable) continue;
      const sparsity::NOfM pattern = PatternOf(tensor, options_);
      StructureChange::Tensor change;
      change.tensor = i;
      for (int64_t row = 0; row < tensor.rows; ++row) {
        const int64_t first = row * tensor.cols;
        const auto begin = static_cast<std::ptrdiff_t>(change.diff.dropped.size());
        sparsity::ForEachDropped(
            state.model.tensor(i).subspan(first, tensor.cols), pattern, [&](int64_t column) {
              change.diff.dropped.push_back(static_cast<int32_t>(first + column));
            });
        std::sort(change.diff.dropped.begin() + begin, change.diff.dropped.end());
      }
      if (!change.diff.dropped.empty()) evolution.push_back(std::move(change));
    }
    return evolution;
  }

 private:
  NOfMOptions options_;
  std::shared_ptr<v1::ModelSpec> masked_;
};

config::ParameterSchema NOfMParameters() {
  return {
      params::Whole("n", 2, 1, kMaxGroup, "Weights that are kept of each group."),
      params::Whole("m", 4, 2, kMaxGroup,
                    "Weights of a group: consecutive ones along the inputs, of a convolution along "
                    "its input channels at one kernel position."),
      params::Word("mode", kEvolve, {kEvolve, kSrSte, "ste"},
                   "How the weights are found: by pruning and growing within groups of a sparse "
                   "model (evolve), or from dense weights, of which the largest of each group are "
                   "multiplied and all are trained, with a decay of the others (sr-ste) or without "
                   "(ste)."),
      params::Number("decay", 2e-4, 0, 1,
                     "With sr-ste, this times the weight is added to the gradient of weights that "
                     "are not kept."),
      params::Share("alpha", 0.3,
                    "With evolve, the share of each layer's weights that the first update may "
                    "replace; it falls with half a cosine."),
      params::UpdateEvery(1, "updates of the structure; with evolve"),
      params::Above(params::Share("end_fraction", 0.75,
                                  "With evolve, the share of all rounds after which the structure "
                                  "stays.")),
      params::CandidateSlack(2),
      params::GrowthBatches()};
}

// Parameters of another mode than the job's.
void RefuseOtherModes(const v1::JobSpec& spec, const config::Parameters& parameters,
                      std::vector<config::Violation>& violations) {
  const std::string& mode = parameters.Choice("mode");
  const auto refuse = [&](const char* name, const char* of) {
    if (!IsGiven(spec, name)) return;
    violations.push_back(
        {fmt::format("method.parameters.{}", name),
         fmt::format("has no effect with mode {}; leave it out, or choose mode {}", mode, of)});
  };
  if (mode != kSrSte) refuse("decay", kSrSte);
  if (mode == kEvolve) return;
  for (const char* name :
       {"alpha", "update_every", "end_fraction", "candidate_slack", "growth_batches"}) {
    refuse(name, kEvolve);
  }
}

void ValidateNOfM(const v1::JobSpec& spec, const config::Parameters& parameters,
                  std::vector<config::Violation>& violations) {
  if (parameters.Int("n") > parameters.Int("m")) {
    violations.push_back({"method.parameters.n",
                          fmt::format("expected at most m, {}, found {}; lower it, or raise m",
                                      parameters.Int("m"), parameters.Int("n"))});
  }
  RefuseOtherModes(spec, parameters, violations);
  if (!Evolves(parameters) && wire::AnyLayer(spec.model().layers(), [](const v1::Layer& layer) {
        return layer.conv2d().standardize();
      })) {
    violations.push_back({"model.layers",
                          "expected layers that multiply by their weights as they are, found "
                          "standardised ones; remove standardize, or use mode evolve"});
  }
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  if (!Evolves(parameters)) ValidateDenseStart(spec, **layout, 0, violations);
  if (std::ranges::none_of(**layout, &tensor::TensorSpec::sparsifiable)) {
    violations.push_back({"model", "has no layer that may be sparse; remove dense from one"});
  }
  if (spec.model().recommender().private_users()) {
    violations.push_back({"model.recommender.private_users",
                          "expected rows of users that the coordinator has, whose groups it keeps "
                          "whole, found rows that stay on workers; remove it, or use rigl"});
  }
}

absl::StatusOr<std::vector<int64_t>> NOfMCounts(const v1::JobSpec& spec,
                                                const config::Parameters& parameters) {
  const NOfMOptions options = OptionsOf(parameters);
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  std::vector<int64_t> counts;
  counts.reserve(layout->size());
  for (const tensor::TensorSpec& tensor : *layout) {
    counts.push_back(Evolves(parameters) ? Kept(tensor, options) : tensor.size());
  }
  return counts;
}

}  // namespace

MethodDeclaration NOfMMethod(const Library&) {
  return {
      .name = "n-of-m",
      .summary = "N of every M weights along the inputs: 2:4 and others, from dense or sparse.",
      .source =
          "Zhou et al., Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch, "
          "ICLR 2021, arXiv 2102.04010; Mishra et al., arXiv 2104.08378",
      .parameters = NOfMParameters(),
      .validate = ValidateNOfM,
      .make = [](const v1::JobSpec& spec,
                 const config::Parameters& parameters) -> std::unique_ptr<Program> {
        const NOfMOptions options = OptionsOf(parameters);
        if (Evolves(parameters)) return std::make_unique<EvolvingProgram>(spec, options);
        return std::make_unique<StraightThroughProgram>(spec, options);
      },
      .stored_counts = NOfMCounts,
      .demand = [](const v1::JobSpec& spec,
                   const config::Parameters& parameters) -> absl::StatusOr<CoordinatorDemand> {
        if (!Evolves(parameters)) return DenseStructureDemand(spec, parameters);
        return GrowthDemand(spec, NOfMCounts(spec, parameters), parameters.Double("alpha"),
                            parameters.Double("candidate_slack"));
      },
      .needs_of_parameters =
          [](const config::Parameters& parameters) {
            std::vector<std::pair<std::string, ModelNeed>> needs;
            if (!Evolves(parameters)) needs.emplace_back("mode", ModelNeed::kLayers);
            return needs;
          },
  };
}

}  // namespace espalier::server::methods
