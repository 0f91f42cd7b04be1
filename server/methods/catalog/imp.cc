// imp: iterative magnitude pruning, the search for winning tickets of the lottery ticket
// hypothesis, with its controls beside it.
#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/config/validate.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/evolution.h"
#include "server/methods/initial_values.h"
#include "server/methods/parameters/params.h"
#include "server/methods/runs/staged_program.h"
#include "server/methods/runs/training_run.h"
#include "server/methods/structure.h"

namespace espalier::server::methods {
namespace {

using tensor::ModelState;
using tensor::ModelTopology;

constexpr char kDenseRun[] = "dense";
constexpr char kReinit[] = "reinit";
constexpr char kRandom[] = "random";
constexpr int64_t kMaxTotalRounds = 1'000'000;

struct ImpOptions {
  int64_t levels;
  double rate;
  bool by_layer;
  double output_share;
  int32_t rewind_round;
  bool reinit;
  bool random;
};

ImpOptions OptionsOf(const config::Parameters& parameters) {
  const std::string controls = parameters.Choice("controls");
  return {.levels = parameters.Int("levels"),
          .rate = parameters.Double("rate"),
          .by_layer = parameters.Choice("scope") == "layer",
          .output_share = parameters.Double("output_share"),
          .rewind_round = static_cast<int32_t>(parameters.Int("rewind_round")),
          .reinit = controls == kReinit || controls == "both",
          .random = controls == kRandom || controls == "both"};
}

// ⌈rate · remaining⌉, but for the last bit of the product.
int64_t Pruned(double rate, int64_t remaining) {
  return static_cast<int64_t>(std::ceil(rate * static_cast<double>(remaining) - 1e-9));
}

// Adds the weights of one tensor, by their index in it, that go. The largest one of them all stays:
// a layer without weights has no gradient and no output.
void AddDropped(size_t tensor, std::span<const float> values, std::vector<int32_t> dropped,
                Evolution& evolution) {
  if (dropped.size() == values.size() && !values.empty()) {
    const auto largest = std::ranges::max_element(
        values, [](float a, float b) { return std::abs(a) < std::abs(b); });
    dropped.erase(dropped.begin() + (largest - values.begin()));
  }
  if (dropped.empty()) return;
  StructureChange::Tensor change;
  change.tensor = tensor;
  change.diff.dropped = std::move(dropped);
  evolution.push_back(std::move(change));
}

// The smallest weights of each tensor.
Evolution PrunedByLayer(const ModelState& trained, const ImpOptions& options) {
  const ModelTopology& topology = *trained.topology;
  size_t output = 0;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (topology.layout()[i].sparsifiable) output = i;
  }
  Evolution evolution;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].sparsifiable) continue;
    const double rate = i == output ? options.rate * options.output_share : options.rate;
    const std::span<const float> values = trained.tensor(i);
    AddDropped(i, values, sparsity::DropSmallestMagnitude(values, Pruned(rate, topology.stored(i))),
               evolution);
  }
  return evolution;
}

// The smallest weights of all tensors together; of equal ones those that come first.
Evolution PrunedGlobally(const ModelState& trained, double rate) {
  const ModelTopology& topology = *trained.topology;
  std::vector<float> all;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].sparsifiable) continue;
    const std::span<const float> values = trained.tensor(i);
    all.insert(all.end(), values.begin(), values.end());
  }
  const std::vector<int32_t> dropped =
      sparsity::DropSmallestMagnitude(all, Pruned(rate, static_cast<int64_t>(all.size())));
  Evolution evolution;
  int64_t begin = 0;
  auto next = dropped.begin();
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].sparsifiable) continue;
    const int64_t end = begin + topology.stored(i);
    std::vector<int32_t> of_tensor;
    for (; next != dropped.end() && *next < end; ++next) {
      of_tensor.push_back(static_cast<int32_t>(*next - begin));
    }
    AddDropped(i, trained.tensor(i), std::move(of_tensor), evolution);
    begin = end;
  }
  return evolution;
}

// The weights that `dense` has at the positions of `mask`.
ModelState Masked(const ModelTopology& dense, std::span<const float> values,
                  std::shared_ptr<const ModelTopology> mask) {
  ModelState model;
  model.values = tensor::RelayoutSet(dense, values, *mask);
  model.topology = std::move(mask);
  return model;
}

class ImpProgram : public StagedProgram {
 public:
  ImpProgram(const v1::JobSpec& spec, const ImpOptions& options)
      : spec_(spec), options_(options), run_(spec) {
    config::ApplyDefaults(spec_);
  }

 protected:
  const Program& run_program() const override { return run_; }
  std::string FirstRun() const override { return kDenseRun; }

  // Keeps the weights to which all levels go back.
  absl::Status Note(ProgramState& state) const override {
    if (state.phase != kDenseRun || state.kept != nullptr) return absl::OkStatus();
    const ProgramState& dense = state.runs.front();
    const bool trains = dense.step.has_value() && dense.step->task.has_train();
    if (!trains || dense.round != options_.rewind_round) return absl::OkStatus();
    ModelState kept{dense.model.topology, dense.model.values, {}};
    RestartStatistics(kept);
    state.kept = std::make_shared<const ModelState>(std::move(kept));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<ProgramState>> NextStage(ProgramState& state) const override {
    const int64_t level = LevelOf(state.phase) + 1;
    std::vector<ProgramState> runs;
    if (level > options_.levels) return runs;
    if (state.kept == nullptr) {
      return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                             "the weights that imp goes back to are missing from the job's saved "
                             "state; start the job again");
    }
    const ModelState& trained = state.runs.front().model;
    const Evolution evolution = options_.by_layer ? PrunedByLayer(trained, options_)
                                                  : PrunedGlobally(trained, options_.rate);
    ESPALIER_ASSIGN_OR_RETURN(const ModelState pruned, Evolve(trained, evolution, [](const auto&) {
                                return std::vector<float>();
                              }));
    ESPALIER_ASSIGN_OR_RETURN(runs, RunsOf(level, pruned.topology, *state.kept));
    state.phase = fmt::format("level-{}", level);
    return runs;
  }

 private:
  // The number in "level-3"; 0 of the dense run.
  static int64_t LevelOf(const std::string& phase) {
    int64_t level = 0;
    const size_t dash = phase.find('-');
    if (dash != std::string::npos) {
      std::from_chars(phase.data() + dash + 1, phase.data() + phase.size(), level);
    }
    return level;
  }

  absl::StatusOr<std::vector<ProgramState>> RunsOf(int64_t level,
                                                   const std::shared_ptr<const ModelTopology>& mask,
                                                   const ModelState& kept) const {
    std::vector<ProgramState> runs;
    const auto begin = [&](const char* kind, int32_t round, ModelState model) -> absl::Status {
      ESPALIER_ASSIGN_OR_RETURN(
          ProgramState run, run_.Begin(fmt::format("{}-{}", kind, level), round, std::move(model)));
      runs.push_back(std::move(run));
      return absl::OkStatus();
    };
    const ModelTopology& dense = *kept.topology;
    ESPALIER_RETURN_IF_ERROR(
        begin("ticket", options_.rewind_round, Masked(dense, kept.values, mask)));
    if (options_.reinit) {
      const std::vector<float> fresh =
          InitialValues(spec_.model(), dense, Key("imp-reinit", level));
      ESPALIER_RETURN_IF_ERROR(begin(kReinit, 0, Masked(dense, fresh, mask)));
    }
    if (options_.random) {
      ESPALIER_ASSIGN_OR_RETURN(auto random, RandomLike(*mask, Key("imp-random", level)));
      ESPALIER_RETURN_IF_ERROR(
          begin(kRandom, options_.rewind_round, Masked(dense, kept.values, std::move(random))));
    }
    return runs;
  }

  uint64_t Key(const char* what, int64_t level) const {
    return base::StreamKey(spec_.seed(), what, {static_cast<uint64_t>(level)});
  }

  // As many weights in each tensor, at random places.
  static absl::StatusOr<std::shared_ptr<const ModelTopology>> RandomLike(const ModelTopology& mask,
                                                                         uint64_t key) {
    std::vector<std::shared_ptr<const tensor::Topology>> topologies(mask.num_tensors());
    for (size_t i = 0; i < mask.num_tensors(); ++i) {
      if (!mask.is_sparse(i)) continue;
      const tensor::TensorSpec& spec = mask.layout()[i];
      ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                                sparsity::RandomTopology(spec.rows, spec.cols, mask.stored(i),
                                                         base::StreamKey(key, "topology", {i})));
      topologies[i] = std::make_shared<const tensor::Topology>(std::move(topology));
    }
    ESPALIER_ASSIGN_OR_RETURN(ModelTopology topology,
                              ModelTopology::Create(mask.shared_layout(), std::move(topologies)));
    return std::make_shared<const ModelTopology>(std::move(topology));
  }

  // Running means and variances are those of a new model; learned scales and shifts stay.
  void RestartStatistics(ModelState& model) const {
    if (wire::BufferValues(*model.topology) == 0) return;
    const std::vector<float> fresh = InitialValues(spec_.model(), *model.topology, spec_.seed());
    for (size_t i = 0; i < model.topology->num_tensors(); ++i) {
      if (!model.topology->layout()[i].buffer) continue;
      const int64_t begin = model.topology->offset(i);
      std::copy_n(fresh.begin() + begin, model.topology->stored(i), model.values.begin() + begin);
    }
  }

  v1::JobSpec spec_;  // with defaults filled in
  ImpOptions options_;
  TrainingRun run_;
};

int64_t TotalRounds(const v1::JobSpec& spec, const config::Parameters& parameters) {
  const ImpOptions options = OptionsOf(parameters);
  const int64_t whole = spec.federation().rounds();
  const int64_t after = whole - options.rewind_round;
  const int64_t level = after * (options.random ? 2 : 1) + (options.reinit ? whole : 0);
  return whole + options.levels * level;
}

config::ParameterSchema ImpParameters() {
  return {
      params::Whole("levels", 10, 1, 100,
                    "How often the model is pruned and trained again; after L levels a share of "
                    "(1 − rate)^L of the weights is left."),
      params::Below(params::Above(params::Share(
          "rate", 0.2, "Share of the remaining weights that goes at each level, rounded up."))),
      params::Word("scope", "global", {"global", "layer"},
                   "Where the smallest weights are sought: among all layers together, or in each "
                   "layer."),
      params::Share("output_share", 1,
                    "With scope layer, the last layer is pruned at this share of the rate; the "
                    "first paper took 0.5."),
      params::Whole("rewind_round", 0, 0, 1'000'000,
                    "The weights that are left go back to what they were after this round of the "
                    "dense run, and training goes on from there; 0: to their initial values."),
      params::Word("controls", "both", {"both", "reinit", "random", "none"},
                   "What is trained beside the ticket at each level: the ticket's mask with new "
                   "initial weights (reinit), and a random mask of the same size with the ticket's "
                   "weights (random)."),
  };
}

void ValidateImp(const v1::JobSpec& spec, const config::Parameters& parameters,
                 std::vector<config::Violation>& violations) {
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  ValidateDenseStart(spec, **layout, 0, violations);
  const int64_t rounds = spec.federation().rounds();
  if (parameters.Int("rewind_round") >= rounds) {
    violations.push_back(
        {"method.parameters.rewind_round",
         fmt::format("expected a round before the last one of a run, so that there is something to "
                     "train, found {} of {} rounds; lower it or raise federation.rounds",
                     parameters.Int("rewind_round"), rounds)});
  }
  if (const int64_t total = TotalRounds(spec, parameters); total > kMaxTotalRounds) {
    violations.push_back({"method.parameters.levels",
                          fmt::format("expected at most {} rounds of all runs together, found {}; "
                                      "lower levels or federation.rounds",
                                      kMaxTotalRounds, total)});
  }
  if (std::ranges::none_of(**layout, &tensor::TensorSpec::sparsifiable)) {
    violations.push_back({"model", "has no layer that may be sparse; remove dense from one"});
  }
}

absl::StatusOr<CoordinatorDemand> ImpDemand(const v1::JobSpec& spec,
                                            const config::Parameters& parameters) {
  const ImpOptions options = OptionsOf(parameters);
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  CoordinatorDemand demand;
  double weights = 0;
  for (const tensor::TensorSpec& tensor : *layout) weights += static_cast<double>(tensor.size());
  demand.models = 1.0 + (options.reinit ? 1 : 0) + (options.random ? 1 : 0);
  demand.steps = demand.models;
  demand.selected = weights;
  // The weights that are gone back to, and new ones for a moment.
  demand.other_bytes = 2 * sizeof(float) * weights;
  return demand;
}

}  // namespace

MethodDeclaration ImpMethod(const Library&) {
  return {
      .name = "imp",
      .summary =
          "Iterative magnitude pruning: train, prune, go back to early weights, train again; with "
          "controls side by side.",
      .source =
          "Frankle and Carbin, The Lottery Ticket Hypothesis: Finding Sparse, Trainable Neural "
          "Networks, ICLR 2019, arXiv 1803.03635",
      .parameters = ImpParameters(),
      .dense_capable_workers = true,
      .validate = ValidateImp,
      .make =
          [](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<ImpProgram>(spec, OptionsOf(parameters));
          },
      .demand = ImpDemand,
      .total_rounds = TotalRounds,
  };
}

}  // namespace espalier::server::methods
